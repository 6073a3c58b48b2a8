// SPDX-License-Identifier: Apache-2.0
/* outrider inspect: a file's metadata, tensors and memory plan. Only the header is read. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "gguf.h"
#include "io.h"
#include "status.h"

typedef struct arguments {
  tool_options options;
  tool_subject subject;
  int32_t n_ctx, n_batch;
} arguments;

enum { KEY_CTX = TOOL_KEY_OWN, KEY_BATCH, SHOWN_ELEMENTS = 8, SHOWN_BYTES = 200 };
static const struct argp_option rows[] = {
    {"ctx", KEY_CTX, "N", 0,
     "positions of the session that is planned (default: the model's, at most 4096; rounded up to a multiple of 256)",
     0},
    {"batch", KEY_BATCH, "N", 0, "rows of a pass of that session (default 512)", 0},
    {0}};
static const struct argp_child children[] = {{&tool_options_argp, 0, NULL, 0}, {&tool_model_argp, 0, NULL, 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->options;
      state->child_inputs[1] = &a->subject;
      return 0;
    case KEY_CTX:
      a->n_ctx = (int32_t)tool_integer(state, "--ctx", arg, 1, 1 << 20);
      return 0;
    case KEY_BATCH:
      a->n_batch = (int32_t)tool_integer(state, "--batch", arg, 1, 1 << 20);
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .options = rows,
    .parser = parse,
    .args_doc = "MODEL",
    .doc = "Shows a GGUF file's metadata, its tensors and what opening it would take." TOOL_EXIT_DOC,
    .children = children,
};

/* ---- metadata --------------------------------------------------------------------------------------------------- */

/* Text of a file as it may be printed: control characters become blanks, what is too long is cut. */
static void clean(const char *text, size_t n, char out[SHOWN_BYTES + 4]) {
  size_t shown = n < SHOWN_BYTES ? n : SHOWN_BYTES;
  while (shown < n && shown > 0 && ((unsigned char)text[shown] & 0xc0) == 0x80) shown--;
  for (size_t i = 0; i < shown; i++) out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];
  strcpy(out + shown, shown < n ? "..." : "");
}

/* A JSON string of any bytes: those that are no UTF-8 become '?'. */
static json_t *json_text(const char *text, size_t n) {
  char cleaned[SHOWN_BYTES + 4];
  clean(text, n, cleaned);
  json_t *string = json_string(cleaned);
  if (string) return string;
  for (char *c = cleaned; *c; c++) {
    if ((unsigned char)*c >= 0x80) *c = '?';
  }
  return json_string(cleaned);
}

/* The first elements of a value, as JSON: a scalar, or an array cut after SHOWN_ELEMENTS. */
static json_t *value_json(const otr_metadata_value *value) {
  json_t *array = json_array();
  size_t cursor = 0, n;
  const char *string;
  for (uint64_t i = 0; i < value->count && i < SHOWN_ELEMENTS; i++) {
    int64_t integer;
    double number;
    if (value->type == OTR_METADATA_STRING) {
      if (otr_metadata_next_string(value, &cursor, &string, &n)) json_array_append_new(array, json_text(string, n));
    } else if (value->type == OTR_METADATA_BOOL && otr_metadata_int(value, i, &integer)) {
      json_array_append_new(array, json_boolean(integer != 0));
    } else if (otr_metadata_int(value, i, &integer)) {
      json_array_append_new(array, json_integer(integer));
    } else if (otr_metadata_number(value, i, &number)) {
      json_t *real = json_real(number); /* NULL where it is not finite */
      json_array_append_new(array, real ? real : json_null());
    }
  }
  if (value->is_array) return array;
  json_t *scalar = json_incref(json_array_get(array, 0));
  json_decref(array);
  return scalar ? scalar : json_null();
}

static json_t *metadata_json(const otr_metadata *metadata) {
  json_t *list = json_array();
  otr_metadata_value value;
  for (int32_t i = 0; otr_metadata_at(metadata, i, &value); i++) {
    json_array_append_new(
        list, json_pack("{s:o, s:b, s:I, s:o}", "key", json_text(value.key, value.key_bytes), "array", value.is_array,
                        "count", (json_int_t)value.count, "value", value_json(&value)));
  }
  return list;
}

static void print_metadata(const otr_metadata *metadata) {
  otr_metadata_value value;
  printf("metadata: %d keys\n", (int)otr_metadata_count(metadata));
  for (int32_t i = 0; otr_metadata_at(metadata, i, &value); i++) {
    char key[SHOWN_BYTES + 4];
    clean(value.key, value.key_bytes, key);
    json_t *shown = value_json(&value);
    char *text = json_dumps(shown, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(7));
    printf("  %-44s %s", key, text ? text : "?");
    if (value.is_array && value.count > SHOWN_ELEMENTS) printf(" ... of %" PRIu64, value.count);
    printf("\n");
    free(text);
    json_decref(shown);
  }
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

static json_t *tensors_json(const otr_gguf *gguf) {
  json_t *list = json_array();
  for (int32_t i = 0; i < gguf->n_tensors; i++) {
    const otr_gguf_tensor *tensor = &gguf->tensors[i];
    json_t *dims = json_array();
    for (int32_t d = 0; d < tensor->n_dims; d++) json_array_append_new(dims, json_integer((json_int_t)tensor->dims[d]));
    json_array_append_new(
        list, json_pack("{s:o, s:s, s:o, s:I, s:I}", "name", json_text(tensor->name, strlen(tensor->name)), "type",
                        otr_ggml_type_name(tensor->type), "dims", dims, "offset", (json_int_t)tensor->offset, "bytes",
                        (json_int_t)tensor->bytes));
  }
  return list;
}

static void print_tensors(const otr_gguf *gguf) {
  printf("tensors: %d (dimensions as in the file: the first is contiguous)\n", (int)gguf->n_tensors);
  for (int32_t i = 0; i < gguf->n_tensors; i++) {
    const otr_gguf_tensor *tensor = &gguf->tensors[i];
    char name[SHOWN_BYTES + 4], shape[96];
    int at = 0;
    clean(tensor->name, strlen(tensor->name), name);
    for (int32_t d = 0; d < tensor->n_dims; d++) {
      at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%" PRIu64, d ? " x " : "", tensor->dims[d]);
    }
    printf("  %-44s %-6s %-20s %12" PRIu64 " bytes at %" PRIu64 "\n", name, otr_ggml_type_name(tensor->type), shape,
           tensor->bytes, tensor->offset);
  }
}

/* ---- memory plan ------------------------------------------------------------------------------------------------ */

static otr_status make_plan(const arguments *a, otr_plan_info *plan) {
  otr_runtime *runtime;
  OTR_TRY(tool_runtime(&a->options, &runtime));
  otr_source source = {.kind = OTR_SOURCE_PATH, .path = a->subject.model};
  otr_model_params model = OTR_MODEL_PARAMS_INIT;
  model.outliers = a->options.outliers;
  model.weights = a->options.weights;
  otr_session_params session = OTR_SESSION_PARAMS_INIT;
  session.n_ctx = a->n_ctx;
  session.n_batch = a->n_batch;
  *plan = (otr_plan_info){.struct_size = sizeof *plan};
  otr_status status = otr_model_plan(runtime, &source, &model, &session, plan);
  (void)otr_runtime_destroy(runtime);
  return status;
}

static json_t *plan_json(const otr_plan_info *plan) {
  return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:b}", "file_bytes",
                   (json_int_t)plan->file_bytes, "weights_mapped_bytes", (json_int_t)plan->weights_mapped_bytes,
                   "weights_host_bytes", (json_int_t)plan->weights_host_bytes, "weights_device_bytes",
                   (json_int_t)plan->weights_device_bytes, "kv_host_bytes", (json_int_t)plan->kv_host_bytes,
                   "kv_device_bytes", (json_int_t)plan->kv_device_bytes, "scratch_host_bytes",
                   (json_int_t)plan->scratch_host_bytes, "scratch_device_bytes", (json_int_t)plan->scratch_device_bytes,
                   "n_ctx", (int)plan->n_ctx, "n_batch", (int)plan->n_batch, "quantizes", plan->quantizes);
}

static void print_plan(const otr_plan_info *plan) {
  const double mib = 1048576.0;
  printf("memory plan (MiB): %d positions, passes of %d rows\n", (int)plan->n_ctx, (int)plan->n_batch);
  printf("  %-44s %10.2f\n", "file", (double)plan->file_bytes / mib);
  printf("  %-44s %10.2f\n", "weights used in place (mapped, shared)", (double)plan->weights_mapped_bytes / mib);
  printf("  %-44s %10.2f\n", plan->quantizes ? "weights quantized into memory" : "weights copied into memory",
         (double)plan->weights_host_bytes / mib);
  printf("  %-44s %10.2f\n", "KV of a session", (double)plan->kv_host_bytes / mib);
  printf("  %-44s %10.2f\n", "scratch of a session", (double)plan->scratch_host_bytes / mib);
  uint64_t device = plan->weights_device_bytes + plan->kv_device_bytes + plan->scratch_device_bytes;
  if (device) printf("  %-44s %10.2f\n", "on the device", (double)device / mib);
}

/* ---- the part --------------------------------------------------------------------------------------------------- */

/* A file that the header of can be shown but that cannot be run (another architecture) still shows its header: `plan`
 * is NULL then. */
static otr_status show(const arguments *a, const otr_gguf *gguf, const otr_plan_info *plan) {
  if (a->subject.json) {
    return tool_print_json(json_pack("{s:i, s:I, s:o, s:o, s:o}", "version", (int)gguf->version, "alignment",
                                     (json_int_t)gguf->alignment, "metadata", metadata_json(&gguf->metadata), "tensors",
                                     tensors_json(gguf), "plan", plan ? plan_json(plan) : json_null()));
  }
  printf("GGUF version %d, tensor data aligned to %d\n", (int)gguf->version, (int)gguf->alignment);
  print_metadata(&gguf->metadata);
  print_tensors(gguf);
  if (plan) print_plan(plan);
  return OTR_STATUS_OK;
}

static otr_status inspect(const arguments *a) {
  otr_file file;
  otr_gguf *gguf;
  otr_memory memory;
  otr_plan_info plan;
  otr_source source = {.kind = OTR_SOURCE_PATH, .path = a->subject.model};
  otr_memory_init(&memory, NULL);
  OTR_TRY(tool_check_model_file(a->subject.model));
  OTR_TRY(otr_file_open(&source, false, &file));
  otr_status status = otr_gguf_read(&file, &memory, &gguf);
  if (status == OTR_STATUS_OK) {
    otr_status planned = make_plan(a, &plan);
    char detail[OTR_DETAIL_BYTES];
    otr_detail_get(detail);
    status = show(a, gguf, planned == OTR_STATUS_OK ? &plan : NULL);
    if (status == OTR_STATUS_OK && planned != OTR_STATUS_OK) status = otr_fail(planned, "%s", detail);
  }
  otr_gguf_destroy(gguf);
  otr_file_close(&file);
  return status;
}

int tool_inspect(int argc, char **argv) {
  arguments a = {0};
  tool_parse(&argp, argc, argv, &a);
  return tool_report(inspect(&a));
}
