// SPDX-License-Identifier: Apache-2.0
#include "generation.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

/* ---- options ---------------------------------------------------------------------------------------------------- */

enum {
  KEY_CTX = TOOL_KEY_OWN + 0x40,
  KEY_TEMPERATURE,
  KEY_TOP_K,
  KEY_TOP_P,
  KEY_MIN_P,
  KEY_PENALTY,
  KEY_SEED,
  KEY_SYSTEM,
  KEY_TEMPLATE,
  KEY_STATS
};
static const struct argp_option rows[] = {
    {"tokens", 'n', "N", 0, "most tokens of an answer (default 512; 0: until the model ends or the context is full)",
     1},
    {"ctx", KEY_CTX, "N", 0,
     "positions of the context (default: the model's, at most 4096; rounded up to a multiple of 256)", 1},
    {"temp", KEY_TEMPERATURE, "T", 0, "temperature (default 0: always the likeliest token)", 1},
    {"top-k", KEY_TOP_K, "K", 0, "sample among the K likeliest (default 0: all)", 1},
    {"top-p", KEY_TOP_P, "P", 0, "sample among the likeliest that reach P together (default 1: all)", 1},
    {"min-p", KEY_MIN_P, "P", 0, "leave out what is less likely than P times the likeliest (default 0)", 1},
    {"repeat-penalty", KEY_PENALTY, "R", 0, "make tokens of the last 64 less likely (default 1: off)", 1},
    {"seed", KEY_SEED, "N", 0, "of the random numbers (default 0): the same seed gives the same text everywhere", 1},
    {"system", KEY_SYSTEM, "TEXT", 0, "system message of the chat template", 1},
    {"template", KEY_TEMPLATE, "NAME", 0, "chat template to use instead of the file's: chatml, llama2, llama3 ...", 1},
    {"stats", KEY_STATS, NULL, 0, "print a line of speed figures even where stderr is no terminal", 1},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
  tool_generation *g = state->input;
  switch (key) {
    case 'n':
      g->max_tokens = (int32_t)tool_integer(state, "-n", arg, 0, 1 << 20);
      return 0;
    case KEY_CTX:
      g->n_ctx = (int32_t)tool_integer(state, "--ctx", arg, 1, 1 << 20);
      return 0;
    case KEY_TEMPERATURE:
      g->sampler.temperature = (float)tool_number(state, "--temp", arg, 0.0, 0x1p20);
      if (g->sampler.temperature > 0.0f && g->sampler.temperature < 0x1p-20f)
        argp_error(state, "--temp: %s is neither 0 nor at least 2^-20", arg);
      return 0;
    case KEY_TOP_K:
      g->sampler.top_k = (int32_t)tool_integer(state, "--top-k", arg, 0, INT32_MAX);
      return 0;
    case KEY_TOP_P:
      g->sampler.top_p = (float)tool_number(state, "--top-p", arg, 1e-6, 1.0);
      return 0;
    case KEY_MIN_P:
      g->sampler.min_p = (float)tool_number(state, "--min-p", arg, 0.0, 1.0);
      return 0;
    case KEY_PENALTY:
      g->sampler.repeat_penalty = (float)tool_number(state, "--repeat-penalty", arg, 1e-3, 1e3);
      return 0;
    case KEY_SEED:
      g->sampler.seed = (uint64_t)tool_integer(state, "--seed", arg, 0, INT64_MAX);
      return 0;
    case KEY_SYSTEM:
      g->system = arg;
      return 0;
    case KEY_TEMPLATE:
      g->template_name = arg;
      return 0;
    case KEY_STATS:
      g->stats = 1;
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

const struct argp tool_generation_argp = {.options = rows, .parser = parse};

/* ---- speaker ---------------------------------------------------------------------------------------------------- */

static otr_status open_parts(const tool_options *options, const tool_generation *generation, const char *path, bool raw,
                             tool_speaker *out) {
  OTR_TRY(tool_language_open(path, &out->language));
  if (!raw) OTR_TRY(tool_language_chat(path, generation->template_name, &out->language));
  OTR_TRY(tool_open(options, path, &out->model));
  /* An embedding may have more rows than there are tokens; what has no text is not sampled. */
  int32_t vocab = otr_tokenizer_vocab(out->language.tokenizer);
  if (vocab > out->model.info.vocab) vocab = out->model.info.vocab;
  OTR_TRY(tool_text_status(otr_sampler_create(vocab, &generation->sampler, &out->sampler)));
  return tool_session(&out->model, generation->n_ctx, 0, 0, &out->session);
}

otr_status tool_speaker_open(const tool_options *options, const tool_generation *generation, const char *path, bool raw,
                             tool_speaker *out) {
  *out = (tool_speaker){0};
  otr_status status = open_parts(options, generation, path, raw, out);
  if (status != OTR_STATUS_OK) tool_speaker_close(out);
  return status;
}

void tool_speaker_close(tool_speaker *speaker) {
  otr_session_destroy(speaker->session);
  otr_sampler_destroy(speaker->sampler);
  tool_language_close(&speaker->language);
  tool_close(&speaker->model);
  speaker->session = NULL;
  speaker->sampler = NULL;
}

/* ---- answers ---------------------------------------------------------------------------------------------------- */

/* Room for `needed` elements in an array that doubles. */
static bool reserve(void **array, size_t *capacity, size_t needed, size_t size) {
  if (needed <= *capacity) return true;
  size_t more = *capacity ? *capacity : 256;
  while (more < needed) more *= 2;
  void *grown = realloc(*array, more * size);
  if (!grown) return false;
  *array = grown;
  *capacity = more;
  return true;
}

static int32_t take_piece(void *user, const char *text, size_t n_bytes, int32_t id) {
  tool_answer *answer = user;
  if (answer->first == 0.0) answer->first = tool_seconds();
  answer->full = answer->full ||
                 !reserve((void **)&answer->text, &answer->capacity, answer->n_bytes + n_bytes + 1, 1) ||
                 !reserve((void **)&answer->ids, &answer->ids_capacity, answer->n_ids + 1, sizeof *answer->ids);
  if (answer->full) return 1;
  if (n_bytes) memcpy(answer->text + answer->n_bytes, text, n_bytes);
  answer->n_bytes += n_bytes;
  answer->text[answer->n_bytes] = 0;
  answer->ids[answer->n_ids++] = id;
  fwrite(text, 1, n_bytes, stdout);
  fflush(stdout);
  return ferror(stdout) ? 1 : 0;
}

otr_status tool_generate(tool_speaker *speaker, const int32_t *ids, int32_t n_ids, int32_t max_tokens,
                         tool_answer *answer) {
  otr_generate_params params = OTR_GENERATE_PARAMS_INIT;
  params.ids = ids;
  params.n_ids = n_ids;
  params.max_tokens = max_tokens;
  params.on_piece = take_piece;
  params.user = answer;
  const size_t n_before = answer->n_ids;
  answer->first = 0.0;
  answer->result = (otr_generate_result)OTR_GENERATE_RESULT_INIT;
  answer->start = tool_seconds();
  otr_status status =
      otr_generate(speaker->session, speaker->language.tokenizer, speaker->sampler, &params, &answer->result);
  answer->end = tool_seconds();
  /* Text that was held back to the end comes with the last id once more. */
  size_t most = n_before + (size_t)answer->result.n_tokens;
  if (answer->n_ids > most) answer->n_ids = most;
  if (answer->full) return otr_fail(OTR_STATUS_NO_MEMORY, "an answer of %zu bytes", answer->n_bytes);
  if (ferror(stdout)) return otr_fail(OTR_STATUS_IO, "writing standard output");
  return tool_text_status(status);
}

void tool_answer_free(tool_answer *answer) {
  free(answer->text);
  free(answer->ids);
  *answer = (tool_answer){0};
}

void tool_print_speed(const tool_speaker *speaker, const tool_answer *answer) {
  otr_stats stats = {.struct_size = sizeof stats};
  otr_device_info device = {.struct_size = sizeof device};
  if (otr_session_stats(speaker->session, &stats) != OTR_STATUS_OK ||
      otr_runtime_device(speaker->model.runtime, &device) != OTR_STATUS_OK) {
    return;
  }
  const otr_generate_result *r = &answer->result;
  double first = (answer->first > 0.0 ? answer->first : answer->end) - answer->start;
  double rest = answer->end - answer->start - first;
  fprintf(stderr, "[%s, %d threads: prompt %d tokens, %.1f tokens/s; first token after %.3f s; answer %d tokens",
          device.name, (int)otr_runtime_threads(speaker->model.runtime), (int)r->n_prompt,
          first > 0.0 ? r->n_prompt / first : 0.0, first, (int)r->n_tokens);
  if (r->n_tokens > 1 && rest > 0.0) fprintf(stderr, ", %.1f tokens/s", (r->n_tokens - 1) / rest);
  if (stats.n_submissions > 0)
    fprintf(stderr, "; %" PRIu64 " submissions, %" PRIu64 " dispatches", stats.n_submissions, stats.n_dispatches);
  fprintf(stderr, "; outliers %.2f %%; memory %.0f MiB]\n", 100.0 * stats.outlier_share,
          (double)stats.peak_host_bytes / 1048576.0);
}
