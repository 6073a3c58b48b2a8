// SPDX-License-Identifier: Apache-2.0
/* outrider plan: what a model takes in each scheme, and where it fits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "plan_shape.h"

typedef struct arguments {
  tool_subject subject;
  int32_t n_ctx, rank;
  double columns;
} arguments;

enum { KEY_CTX = TOOL_KEY_OWN, KEY_COLUMNS, KEY_RANK };
static const struct argp_option rows[] = {
    {"ctx", KEY_CTX, "N", 0, "positions of the context (default: the model's own, at most 4096)", 0},
    {"columns", KEY_COLUMNS, "PERCENT", 0, "inputs that keep f16 outlier columns (default 2)", 0},
    {"lora-rank", KEY_RANK, "R", 0, "rank of the adapters (default 64)", 0},
    {0}};
static const struct argp_child children[] = {{&tool_model_argp, 0, NULL, 0}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case ARGP_KEY_INIT:
      state->child_inputs[0] = &a->subject;
      return 0;
    case KEY_CTX:
      a->n_ctx = (int32_t)tool_integer(state, "--ctx", arg, 1, 1 << 24);
      return 0;
    case KEY_COLUMNS:
      a->columns = tool_number(state, "--columns", arg, 0.0, 100.0) / 100.0;
      return 0;
    case KEY_RANK:
      a->rank = (int32_t)tool_integer(state, "--lora-rank", arg, 1, 65536);
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .options = rows,
    .parser = parse,
    .args_doc = "MODEL|PARAMS",
    .doc =
        "Estimates memory: weights in each scheme, the KV cache, training, and which devices the model fits on. MODEL "
        "is a file, of which the header is read; PARAMS a number of parameters such as 176B." TOOL_EXIT_DOC,
    .children = children,
};

/* ---- devices ---------------------------------------------------------------------------------------------------- */

/* Memory as it is sold, in GiB, and the share of it that a model can have: the rest is the system's, and on phones
 * other apps'. */
typedef struct device {
  const char *name;
  double gib, share;
} device;

static const device devices[] = {
    {"Raspberry Pi 4, 4 GB", 4, 0.8},
    {"Raspberry Pi 5, 8 GB", 8, 0.85},
    {"Raspberry Pi 5, 16 GB", 16, 0.9},
    {"phone, 6 GB", 6, 0.4},
    {"phone, 8 GB", 8, 0.45},
    {"phone, 12 GB", 12, 0.5},
    {"phone, 16 GB", 16, 0.5},
    {"Jetson Orin Nano, 4 GB", 4, 0.75},
    {"Jetson Orin Nano, 8 GB", 8, 0.8},
    {"Jetson Orin NX, 16 GB", 16, 0.85},
    {"Jetson AGX Orin, 32 GB", 32, 0.9},
    {"Jetson AGX Orin, 64 GB", 64, 0.9},
    {"laptop, 16 GB", 16, 0.7},
    {"GPU, 8 GB", 8, 0.92},
    {"GPU, 24 GB", 24, 0.95},
    {"GPU, 80 GB", 80, 0.95},
    {"8 GPUs of 24 GB", 192, 0.95},
    {"8 GPUs of 80 GB", 640, 0.95},
};
enum { N_DEVICES = sizeof devices / sizeof *devices };

/* The schemes of the table of devices. */
static const plan_scheme shown[] = {PLAN_FP16, PLAN_INT8_COLUMNS, PLAN_NF4_DOUBLE};
enum { N_SHOWN = sizeof shown / sizeof *shown };

static double usable(const device *d) {
  return d->gib * 1073741824.0 * d->share;
}

/* Positions that fit beside the weights; 0: not even the weights fit. */
static double positions(const arguments *a, const plan_shape *shape, const device *d, plan_scheme scheme) {
  double left = usable(d) - plan_weight_bytes(shape, scheme, a->columns), each = plan_kv_bytes(shape);
  return left > 0.0 && each > 0.0 ? floor(left / each) : 0.0;
}

/* ---- contexts --------------------------------------------------------------------------------------------------- */

enum { MAX_CONTEXTS = 8 };
/* A few contexts below the one asked for, and that. */
static int32_t contexts(int32_t n_ctx, int32_t out[MAX_CONTEXTS]) {
  static const int32_t steps[] = {512, 2048, 8192, 32768, 131072};
  int32_t n = 0;
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    if (steps[i] < n_ctx) out[n++] = steps[i];
  }
  out[n++] = n_ctx;
  return n;
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

/* "1.23 GB", three digits or more. */
static void bytes_text(double bytes, char out[24]) {
  static const char *const units[] = {"B", "KB", "MB", "GB", "TB", "PB"};
  int unit = 0;
  for (; bytes >= 999.5 && unit < 5; unit++) bytes /= 1000.0;
  snprintf(out, 24, "%.*f %s", bytes < 9.995 ? 2 : bytes < 99.95 ? 1 : 0, bytes, units[unit]);
}

static void print_bytes(const char *label, double bytes) {
  char text[24];
  bytes_text(bytes, text);
  printf("  %-58s %10s\n", label, text);
}

static void print_weights(const arguments *a, const plan_shape *shape) {
  const double all = plan_parameters(shape);
  printf("\nweights\n");
  for (int i = 0; i < PLAN_SCHEMES; i++) {
    char label[80];
    double bytes = plan_weight_bytes(shape, (plan_scheme)i, a->columns);
    snprintf(label, sizeof label, "%-42s %5.2f bits each", plan_scheme_notes[i], 8.0 * bytes / all);
    print_bytes(label, bytes);
  }
  int32_t list[MAX_CONTEXTS], n = contexts(a->n_ctx, list);
  printf("\nKV cache, f16\n");
  print_bytes("a position", plan_kv_bytes(shape));
  for (int32_t i = 0; i < n; i++) {
    char label[64];
    snprintf(label, sizeof label, "%d positions", (int)list[i]);
    print_bytes(label, list[i] * plan_kv_bytes(shape));
  }
}

static void print_training(const arguments *a, const plan_shape *shape) {
  printf("\ntraining: weights, gradients, optimizer states; without activations; adapters of rank %d\n", (int)a->rank);
  for (int i = 0; i < PLAN_TRAININGS; i++) {
    print_bytes(plan_training_names[i], plan_training_bytes(shape, (plan_training)i, a->rank));
  }
}

static void print_devices(const arguments *a, const plan_shape *shape) {
  printf(
      "\nfits with %d positions of context (x: the weights alone do not; else the most positions there is room for)\n",
      (int)a->n_ctx);
  printf("  %-24s %9s %16s %16s %16s\n", "device", "usable", "FP16", "LLM.int8()", "NF4");
  for (int i = 0; i < N_DEVICES; i++) {
    char text[24];
    bytes_text(usable(&devices[i]), text);
    printf("  %-24s %9s", devices[i].name, text);
    for (int s = 0; s < N_SHOWN; s++) {
      double most = positions(a, shape, &devices[i], shown[s]);
      if (most >= a->n_ctx) {
        snprintf(text, sizeof text, "yes");
      } else {
        snprintf(text, sizeof text, most > 0.0 ? "to %.0f" : "x", most);
      }
      printf(" %16s", text);
    }
    printf("\n");
  }
}

static void print_text(const arguments *a, const plan_shape *shape) {
  printf("%s: %.4g million parameters, %d layers of %d\n", shape->name, 1e-6 * plan_parameters(shape),
         (int)shape->n_layers, (int)shape->dim);
  if (!shape->exact) {
    printf(
        "An estimate: shapes differ, most of all the KV cache, which models with grouped heads have 4 to 8 times "
        "smaller.\n");
  }
  print_weights(a, shape);
  print_training(a, shape);
  print_devices(a, shape);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

static json_t *devices_json(const arguments *a, const plan_shape *shape) {
  json_t *list = json_array();
  for (int i = 0; i < N_DEVICES; i++) {
    json_t *most = json_object();
    for (int s = 0; s < N_SHOWN; s++) {
      json_object_set_new(most, plan_scheme_names[shown[s]], json_real(positions(a, shape, &devices[i], shown[s])));
    }
    json_array_append_new(list, json_pack("{s:s, s:f, s:o}", "device", devices[i].name, "usable_bytes",
                                          usable(&devices[i]), "positions", most));
  }
  return list;
}

static otr_status print_json(const arguments *a, const plan_shape *shape) {
  json_t *weights = json_object(), *training = json_array(), *kv = json_array();
  int32_t list[MAX_CONTEXTS], n = contexts(a->n_ctx, list);
  for (int i = 0; i < PLAN_SCHEMES; i++) {
    json_object_set_new(weights, plan_scheme_names[i], json_real(plan_weight_bytes(shape, (plan_scheme)i, a->columns)));
  }
  for (int i = 0; i < PLAN_TRAININGS; i++) {
    json_array_append_new(training, json_pack("{s:s, s:f}", "method", plan_training_names[i], "bytes",
                                              plan_training_bytes(shape, (plan_training)i, a->rank)));
  }
  for (int32_t i = 0; i < n; i++) {
    json_array_append_new(kv, json_pack("{s:i, s:f}", "n_ctx", (int)list[i], "bytes", list[i] * plan_kv_bytes(shape)));
  }
  return tool_print_json(json_pack("{s:s, s:f, s:b, s:i, s:i, s:i, s:o, s:o, s:o, s:o}", "model", shape->name,
                                   "parameters", plan_parameters(shape), "exact", shape->exact, "layers",
                                   (int)shape->n_layers, "dim", (int)shape->dim, "n_ctx", (int)a->n_ctx, "weights",
                                   weights, "kv", kv, "training", training, "devices", devices_json(a, shape)));
}

/* ---- the part --------------------------------------------------------------------------------------------------- */

static otr_status plan(arguments *a) {
  plan_shape shape;
  /* A number of parameters only where there is no such file. */
  const char *model = a->subject.model;
  otr_status status = access(model, F_OK) == 0 ? plan_read_model(model, &shape) : plan_read_parameters(model, &shape);
  if (status != OTR_STATUS_OK) return status;
  if (a->n_ctx == 0) a->n_ctx = shape.n_ctx_train > 0 && shape.n_ctx_train < 4096 ? shape.n_ctx_train : 4096;
  if (a->subject.json) return print_json(a, &shape);
  print_text(a, &shape);
  return OTR_STATUS_OK;
}

int tool_plan(int argc, char **argv) {
  arguments a = {.subject = {.called = "MODEL or PARAMS"}, .rank = 64, .columns = 0.02};
  tool_parse(&argp, argc, argv, &a);
  return tool_report(plan(&a));
}
