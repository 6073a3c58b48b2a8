// SPDX-License-Identifier: Apache-2.0
/* outrider compare: a model under every quantization scheme, on one text. */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "status.h"
#include "windows.h"

enum { WINDOWS = 8, CALIBRATION_WINDOWS = 8, PROMPT_TOKENS = 32 };

typedef struct arguments {
  compare_params params;
  tool_window_rule rule;
  tool_subject subject;
  const char *calibration, *schemes, *page;
} arguments;

enum { KEY_SCHEMES = TOOL_KEY_OWN, KEY_CALIBRATION, KEY_WEIGHT, KEY_PROMPT, KEY_N, KEY_HTML, KEY_NO_SPEED };
static const struct argp_option rows[] = {
    {"schemes", KEY_SCHEMES, "LIST", 0,
     "names with commas between (default all): f32, f16, absmax-tensor, absmax-row, absmax-vector, zeropoint-tensor, "
     "zeropoint-row, zeropoint-vector, absolute[=T], absolute-batch[=T], relative[=T], relative-batch[=T], "
     "weights-int8, nf4, nf4-dq, gptq-8, gptq-8-g128, gptq-4, gptq-4-g128",
     0},
    {"calibration", KEY_CALIBRATION, "FILE", 0,
     "text (with --tokens: ids) that GPTQ is fitted to; default: the eight windows after those that are tested", 0},
    {"weight", KEY_WEIGHT, "NAME", 0, "the linear whose weights the page draws (default: ffn_down of the middle layer)",
     0},
    {"prompt", KEY_PROMPT, "TEXT", 0, "also continue this prompt under each scheme, always by the likeliest token", 0},
    {"n", KEY_N, "N", 0, "tokens of that (default 32)", 0},
    {"html", KEY_HTML, "FILE", 0, "write a page with drawings", 0},
    {"no-speed", KEY_NO_SPEED, NULL, 0, "do not time the library", 0},
    {0}};
static const struct argp_child children[] = {
    {&tool_device_argp, 0, NULL, 0}, {&tool_windows_argp, 0, NULL, 0}, {&tool_model_argp, 0, NULL, 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->params.options;
      state->child_inputs[1] = &a->rule;
      state->child_inputs[2] = &a->subject;
      return 0;
    case KEY_SCHEMES:
      a->schemes = arg;
      return 0;
    case KEY_CALIBRATION:
      a->calibration = arg;
      return 0;
    case KEY_WEIGHT:
      a->params.weight = arg;
      return 0;
    case KEY_PROMPT:
      a->params.prompt = arg;
      return 0;
    case KEY_N:
      a->params.prompt_tokens = (int32_t)tool_integer(state, "--n", arg, 1, 1 << 14);
      return 0;
    case KEY_HTML:
      a->page = arg;
      return 0;
    case KEY_NO_SPEED:
      a->params.speed = false;
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .options = rows,
    .parser = parse,
    .args_doc = "MODEL",
    .doc =
        "Runs a published model under each quantization scheme through one forward pass and compares it with f32: "
        "perplexity, KL divergence, likeliest token, size, and the library's speed where it runs the "
        "scheme." TOOL_EXIT_DOC,
    .children = children,
};

/* ---- windows ----------------------------------------------------------------------------------------------------- */

/* The tested windows and, behind them or in a file of their own, those to calibrate with. */
typedef struct texts {
  tool_ids all, other, tested, calibration;
} texts;

static otr_status read_texts(const arguments *a, int32_t vocab, texts *out) {
  tool_window_rule rule = a->rule;
  if (!a->calibration) rule.limit += CALIBRATION_WINDOWS;
  OTR_TRY(tool_windows(a->params.path, vocab, &rule, &out->all));
  const size_t limit = (size_t)a->rule.limit, n = out->all.n < limit ? out->all.n : limit;
  out->tested = (tool_ids){out->all.ids, out->all.start, n};
  out->calibration = (tool_ids){out->all.ids, out->all.start + n, out->all.n - n};
  if (!a->calibration) return OTR_STATUS_OK;
  *(rule.tokens ? &rule.tokens : &rule.text) = a->calibration;
  rule.limit = CALIBRATION_WINDOWS;
  OTR_TRY(tool_windows(a->params.path, vocab, &rule, &out->other));
  out->calibration = out->other;
  return OTR_STATUS_OK;
}

static otr_status vocabulary(const char *path, int32_t *vocab) {
  otr_memory memory;
  source *s;
  otr_memory_init(&memory, NULL);
  OTR_TRY(source_open(path, &memory, &s));
  *vocab = source_config(s)->vocab;
  source_close(s);
  return OTR_STATUS_OK;
}

/* Where there is nothing to calibrate with, "all" is all without GPTQ. */
static otr_status choose_schemes(const arguments *a, const texts *t, lab_scheme **schemes, int32_t *n) {
  OTR_TRY(lab_schemes_parse(a->schemes ? a->schemes : "all", schemes, n));
  if (a->schemes || t->calibration.n > 0) return OTR_STATUS_OK;
  int32_t kept = 0;
  for (int32_t i = 0; i < *n; i++)
    if ((*schemes)[i].weights != LAB_GPTQ) (*schemes)[kept++] = (*schemes)[i];
  *n = kept;
  fprintf(stderr, "outrider: no windows are left to calibrate GPTQ with: without it (--calibration)\n");
  return OTR_STATUS_OK;
}

/* ---- the part ---------------------------------------------------------------------------------------------------- */

/* The page last: where it cannot be written, minutes of computing are not lost with it. */
static otr_status report(const arguments *a, const comparison *c) {
  if (a->subject.json)
    OTR_TRY(compare_print_json(c));
  else
    compare_print(c);
  return a->page ? compare_write_page(c, a->page) : OTR_STATUS_OK;
}

static otr_status compare(arguments *a, texts *t) {
  int32_t vocab, n;
  lab_scheme *schemes;
  comparison c;
  OTR_TRY(vocabulary(a->params.path, &vocab));
  OTR_TRY(read_texts(a, vocab, t));
  OTR_TRY(choose_schemes(a, t, &schemes, &n));
  a->params.windows = &t->tested;
  a->params.calibration = &t->calibration;
  otr_status status = compare_measure(&a->params, schemes, n, &c);
  if (status == OTR_STATUS_OK) status = report(a, &c);
  compare_free(&c);
  free(schemes);
  return status;
}

int tool_compare(int argc, char **argv) {
  arguments a = {.params = {.prompt_tokens = PROMPT_TOKENS, .speed = true}, .rule = {.n_ctx = 512, .limit = WINDOWS}};
  texts t = {0};
  tool_parse(&argp, argc, argv, &a);
  a.params.path = a.subject.model;
  otr_status status = compare(&a, &t);
  tool_ids_free(&t.all);
  tool_ids_free(&t.other);
  return tool_report(status);
}
