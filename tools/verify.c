// SPDX-License-Identifier: Apache-2.0
/* outrider verify: recomputes the logits hash that a model file carries; where it differs, compares the device with the
 * reference to say where they part. */
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "model.h"
#include "status.h"

typedef struct arguments {
  tool_options options;
  tool_subject subject;
} arguments;

static const struct argp_child children[] = {{&tool_options_argp, 0, NULL, 0}, {&tool_model_argp, 0, NULL, 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  (void)arg;
  if (key != ARGP_KEY_INIT) return ARGP_ERR_UNKNOWN;
  state->child_inputs[0] = &a->options;
  state->child_inputs[1] = &a->subject;
  return 0;
}

static const struct argp argp = {
    .parser = parse,
    .args_doc = "MODEL",
    .doc =
        "Recomputes the SHA-256 of a model's logits over a fixed sequence of ids and compares it with the one in the "
        "file. Where they differ, the device's hidden states are compared with the reference's."
        "\vExit codes: 0 the same, 1 failure (also: the file carries no hash), 2 usage, 3 the hash differs.",
    .children = children,
};

/* ---- where two devices part ------------------------------------------------------------------------------------- */

/** Everything a device computes for the fixed ids. */
typedef struct trace {
  float *hidden;  // [n_layers + 1, n, dim]
  float *logits;  // [n, vocab]
  int32_t n;
} trace;

static otr_status eval_trace(const tool_model *model, otr_session *session, trace *out) {
  const otr_model_info *info = &model->info;
  int32_t ids[OTR_VERIFY_TOKENS], n_rows = 0;
  const size_t values = (size_t)(info->n_layers + 1) * (size_t)out->n * (size_t)info->dim;
  for (int32_t i = 0; i < out->n; i++) ids[i] = otr_verify_token(i, info->vocab);
  OTR_TRY(tool_allocate(values, sizeof(float), (void **)&out->hidden));
  OTR_TRY(tool_allocate((size_t)out->n * (size_t)info->vocab, sizeof(float), (void **)&out->logits));
  OTR_TRY(otr_session_eval(session, ids, out->n, out->logits));
  const float *hidden = otr_session_hidden(session, &n_rows);
  if (!hidden || n_rows != out->n) return otr_fail(OTR_STATUS_INTERNAL, "no hidden states");
  memcpy(out->hidden, hidden, values * sizeof(float));
  return OTR_STATUS_OK;
}

static otr_status take_trace(const tool_model *model, trace *out) {
  otr_session *session;
  *out = (trace){.n = otr_verify_count(&model->model->config)};
  OTR_TRY(tool_session(model, out->n, out->n, 1, &session));
  otr_status status = eval_trace(model, session, out);
  otr_session_destroy(session);
  return status;
}

/* The first of n values whose bits differ; n where none does. */
static size_t first_difference(const float *a, const float *b, size_t n) {
  size_t i = 0;
  while (i < n && memcmp(a + i, b + i, sizeof *a) == 0) i++;
  return i;
}

static void describe(const otr_model_info *info, const trace *device, const trace *reference, char text[256]) {
  const size_t dim = (size_t)info->dim, layer = (size_t)device->n * dim, vocab = (size_t)info->vocab;
  const size_t values = (size_t)(info->n_layers + 1) * layer, n_logits = (size_t)device->n * vocab;
  size_t at = first_difference(device->hidden, reference->hidden, values);
  if (at < values) {
    const char *place = at / layer == (size_t)info->n_layers ? "the final norm" : "the input of block";
    snprintf(text, 256, "the device parts from the reference in %s %zu, row %zu, feature %zu: %a, not %a", place,
             at / layer, at % layer / dim, at % dim, (double)device->hidden[at], (double)reference->hidden[at]);
    return;
  }
  at = first_difference(device->logits, reference->logits, n_logits);
  if (at < n_logits) {
    snprintf(text, 256, "the device parts from the reference in the output layer, row %zu, id %zu: %a, not %a",
             at / vocab, at % vocab, (double)device->logits[at], (double)reference->logits[at]);
    return;
  }
  snprintf(text, 256,
           "the device gives the reference's bits: the file's weights or its outlier rule are not those that "
           "its hash was made with");
}

/* Compares with the reference device on this machine. */
static otr_status locate(const arguments *a, const tool_model *model, char text[256]) {
  tool_options options = a->options;
  tool_model reference;
  trace ours = {0}, theirs = {0};
  options.device = "cpu";
  OTR_TRY(tool_open(&options, a->subject.model, &reference));
  otr_status status = take_trace(model, &ours);
  if (status == OTR_STATUS_OK) status = take_trace(&reference, &theirs);
  if (status == OTR_STATUS_OK) describe(&model->info, &ours, &theirs, text);
  free(ours.hidden);
  free(ours.logits);
  free(theirs.hidden);
  free(theirs.logits);
  tool_close(&reference);
  return status;
}

/* ---- the part --------------------------------------------------------------------------------------------------- */

static otr_status print(const arguments *a, const tool_model *model, const char *result, const char *expected,
                        const char *actual, const char *where) {
  otr_device_info device = {.struct_size = sizeof device};
  OTR_TRY(otr_runtime_device(model->runtime, &device));
  if (a->subject.json) {
    return tool_print_json(json_pack("{s:s, s:s, s:s, s:s, s:s}", "result", result, "expected", expected, "actual",
                                     actual, "device", device.name, "where", where));
  }
  printf("%s on %s\n", result, device.name);
  if (*expected) printf("expected  %s\n", expected);
  printf("actual    %s\n", actual);
  if (*where) printf("%s\n", where);
  return OTR_STATUS_OK;
}

static otr_status verify(const arguments *a, tool_model *model, int *code) {
  char expected[65] = "", actual[65] = "", where[256] = "";
  otr_status status = otr_model_verify(model->model, expected, actual);
  if (status == OTR_STATUS_OK) return print(a, model, "same", expected, actual, "");
  if (status == OTR_STATUS_MISMATCH) {
    *code = TOOL_EXIT_MISMATCH;
    if (locate(a, model, where) != OTR_STATUS_OK)
      snprintf(where, sizeof where, "not located: %.200s", otr_error_detail());
    return print(a, model, "mismatch", expected, actual, where);
  }
  if (status != OTR_STATUS_UNSUPPORTED || !*actual) return status;
  OTR_TRY(print(a, model, "no hash in the file", expected, actual, ""));
  return otr_fail(OTR_STATUS_UNSUPPORTED, "%s carries no hash: `outrider convert' writes one", a->subject.model);
}

int tool_verify(int argc, char **argv) {
  arguments a = {0};
  tool_parse(&argp, argc, argv, &a);
  tool_model model;
  int code = TOOL_EXIT_OK;
  otr_status status = tool_open(&a.options, a.subject.model, &model);
  if (status == OTR_STATUS_OK) {
    status = verify(&a, &model, &code);
    tool_close(&model);
  }
  return status == OTR_STATUS_OK ? code : tool_report(status);
}
