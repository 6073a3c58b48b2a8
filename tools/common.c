// SPDX-License-Identifier: Apache-2.0
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "status.h"

/* ---- options --------------------------------------------------------------------------------------------------- */

#define DEVICE_ROWS                                                                               \
  {"device",                                                                                      \
   TOOL_KEY_DEVICE,                                                                               \
   "NAME",                                                                                        \
   0,                                                                                             \
   "auto (the default), cpu (the reference), x86, neon, vulkan, cuda; x86:avx2 ... as `outrider " \
   "devices' lists them; vulkan:PART of a GPU's own name",                                        \
   90},                                                                                           \
  {                                                                                               \
    "no-self-check", TOOL_KEY_NO_CHECK, NULL, 0, "trust the device without its self-check", 90    \
  }
#define THREADS_ROW \
  { "threads", TOOL_KEY_THREADS, "N", 0, "threads to compute with (default: one for each core)", 90 }
#define OUTLIERS_ROW                                                                                         \
  {                                                                                                          \
    "outliers", TOOL_KEY_OUTLIERS, "RULE", 0,                                                                \
        "relative[=T], absolute[=T] or off: the outlier rule of every linear, instead of the file's own", 90 \
  }

#define WEIGHTS_ROW                                                                                            \
  {                                                                                                            \
    "weights", TOOL_KEY_WEIGHTS, "PLACE", 0,                                                                   \
        "auto, mapped, copied or both: where a device that shares the CPU's memory reads a file's weights", 90 \
  }

static const struct argp_option device_rows[] = {DEVICE_ROWS, THREADS_ROW, {0}};
static const struct argp_option unthreaded_rows[] = {DEVICE_ROWS, OUTLIERS_ROW, WEIGHTS_ROW, {0}};
static const struct argp_option all_rows[] = {DEVICE_ROWS, THREADS_ROW, OUTLIERS_ROW, WEIGHTS_ROW, {0}};
static const struct argp_option json_rows[] = {TOOL_JSON_OPTION, {0}};

static void parse_outliers(const struct argp_state *state, const char *arg, otr_outliers *out) {
  const char *equals = strchr(arg, '=');
  size_t n = equals ? (size_t)(equals - arg) : strlen(arg);
  if (n == 8 && strncmp(arg, "relative", n) == 0) {
    out->rule = OTR_OUTLIERS_RELATIVE;
    out->value = equals ? (float)tool_number(state, "--outliers relative", equals + 1, 0x1p-8, 1e30) : 0.0f;
  } else if (n == 8 && strncmp(arg, "absolute", n) == 0) {
    out->rule = OTR_OUTLIERS_ABSOLUTE;
    out->value = equals ? (float)tool_number(state, "--outliers absolute", equals + 1, 1e-37, 1e30) : 0.0f;
  } else if (strcmp(arg, "off") == 0) {
    out->rule = OTR_OUTLIERS_OFF;
    out->value = 0.0f;
  } else {
    argp_error(state, "--outliers: `%s' is not relative[=T], absolute[=T] or off", arg);
  }
}

static void parse_weights(const struct argp_state *state, const char *arg, otr_weights *out) {
  static const char *const places[] = {"auto", "mapped", "copied", "both"};
  *out = OTR_WEIGHTS_AUTO;
  while (*out <= OTR_WEIGHTS_BOTH && strcmp(arg, places[*out]) != 0) ++*out;
  if (*out > OTR_WEIGHTS_BOTH) argp_error(state, "--weights: `%s' is not auto, mapped, copied or both", arg);
}

static error_t parse_common(int key, char *arg, struct argp_state *state) {
  tool_options *options = state->input;
  switch (key) {
    case TOOL_KEY_DEVICE:
      options->device = arg;
      return 0;
    case TOOL_KEY_THREADS:
      options->n_threads = (int32_t)tool_integer(state, "--threads", arg, 1, 1024);
      return 0;
    case TOOL_KEY_NO_CHECK:
      options->skip_self_check = 1;
      return 0;
    case TOOL_KEY_OUTLIERS:
      parse_outliers(state, arg, &options->outliers);
      return 0;
    case TOOL_KEY_WEIGHTS:
      parse_weights(state, arg, &options->weights);
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

const struct argp tool_device_argp = {.options = device_rows, .parser = parse_common};
const struct argp tool_options_argp = {.options = all_rows, .parser = parse_common};
const struct argp tool_unthreaded_argp = {.options = unthreaded_rows, .parser = parse_common};

static error_t parse_subject(int key, char *arg, struct argp_state *state) {
  tool_subject *subject = state->input;
  switch (key) {
    case TOOL_KEY_JSON:
      subject->json = 1;
      return 0;
    case ARGP_KEY_ARG:
      tool_take_file(state, &subject->model, arg);
      return 0;
    case ARGP_KEY_NO_ARGS:
      argp_error(state, "%s is missing", subject->called ? subject->called : "MODEL");
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

const struct argp tool_model_argp = {.options = json_rows, .parser = parse_subject};
const struct argp tool_plain_model_argp = {.parser = parse_subject};

void tool_parse(const struct argp *argp, int argc, char **argv, void *input) {
  argp_err_exit_status = TOOL_EXIT_USAGE;
  if (argp_parse(argp, argc, argv, 0, NULL, input) != 0) exit(TOOL_EXIT_USAGE);
}

int64_t tool_integer(const struct argp_state *state, const char *option, const char *arg, int64_t min, int64_t max) {
  char *end;
  errno = 0;
  long long value = strtoll(arg, &end, 10);
  if (errno || end == arg || *end || value < min || value > max) {
    argp_error(state, "%s: `%s' is not an integer from %" PRId64 " to %" PRId64, option, arg, min, max);
  }
  return value;
}

double tool_number(const struct argp_state *state, const char *option, const char *arg, double min, double max) {
  char *end;
  double value = strtod(arg, &end);
  if (end == arg || *end || !(value >= min && value <= max)) {
    argp_error(state, "%s: `%s' is not a number from %g to %g", option, arg, min, max);
  }
  return value;
}

int32_t tool_integers(const struct argp_state *state, const char *option, const char *arg, int64_t min, int64_t max,
                      int32_t *values, int32_t capacity) {
  int32_t n = 0;
  for (const char *at = arg;;) {
    char *end;
    errno = 0;
    long long value = strtoll(at, &end, 10);
    bool valid = !errno && end != at && (*end == 0 || *end == ',') && value >= min && value <= max;
    if (!valid || n == capacity) {
      argp_error(state, "%s: `%s' is not a list of at most %d integers from %" PRId64 " to %" PRId64, option, arg,
                 (int)capacity, min, max);
    }
    values[n++] = (int32_t)value;
    if (*end == 0) return n;
    at = end + 1;
  }
}

void tool_take_file(struct argp_state *state, const char **file, char *arg) {
  if (*file) argp_error(state, "unexpected argument `%s'", arg);
  *file = arg;
}

/* ---- errors, models -------------------------------------------------------------------------------------------- */

int tool_report(otr_status status) {
  if (status == OTR_STATUS_OK) return TOOL_EXIT_OK;
  fflush(stdout);
  const char *detail = otr_error_detail();
  fprintf(stderr, "outrider: %s%s%s\n", otr_status_text(status), *detail ? ": " : "", detail);
  return TOOL_EXIT_FAILURE;
}

otr_status tool_runtime(const tool_options *options, otr_runtime **out) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  params.device = options->device;
  params.n_threads = options->n_threads;
  params.skip_self_check = options->skip_self_check;
  return otr_runtime_create(&params, out);
}

static int32_t open_progress(void *user, uint64_t done, uint64_t total) {
  tool_progress_step(user, done, total);
  return 0;
}

bool tool_is_directory(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

otr_status tool_check_model_file(const char *path) {
  if (!tool_is_directory(path)) return OTR_STATUS_OK;
  return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s is a directory: make a model file of it first (outrider convert)",
                  path);
}

otr_status tool_open(const tool_options *options, const char *path, tool_model *out) {
  *out = (tool_model){.info = {.struct_size = sizeof out->info}};
  OTR_TRY(tool_check_model_file(path));
  tool_progress progress;
  tool_progress_start(&progress, "opening");
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  params.outliers = options->outliers;
  params.weights = options->weights;
  params.progress = open_progress;
  params.progress_user = &progress;
  otr_status status = tool_runtime(options, &out->runtime);
  if (status == OTR_STATUS_OK) status = otr_model_open_file(out->runtime, path, &params, &out->model);
  if (status == OTR_STATUS_OK) status = otr_model_get_info(out->model, &out->info);
  tool_progress_end(&progress);
  if (status != OTR_STATUS_OK) tool_close(out);
  return status;
}

void tool_close(tool_model *model) {
  (void)otr_model_close(model->model);
  (void)otr_runtime_destroy(model->runtime);
  model->model = NULL;
  model->runtime = NULL;
}

otr_status tool_session(const tool_model *model, int32_t n_ctx, int32_t n_batch, int32_t keep_hidden,
                        otr_session **out) {
  otr_session_params params = OTR_SESSION_PARAMS_INIT;
  params.n_ctx = n_ctx;
  params.n_batch = n_batch;
  params.keep_hidden = keep_hidden;
  return otr_session_create(model->model, &params, out);
}

void tool_outliers_text(otr_outliers outliers, char text[32]) {
  static const char *const names[] = {"default", "relative", "absolute", "off"};
  const char *name = outliers.rule >= 0 && outliers.rule <= OTR_OUTLIERS_OFF ? names[outliers.rule] : "?";
  bool valued = outliers.rule == OTR_OUTLIERS_RELATIVE || outliers.rule == OTR_OUTLIERS_ABSOLUTE;
  if (valued) {
    snprintf(text, 32, "%s=%g", name, (double)outliers.value);
  } else {
    snprintf(text, 32, "%s", name);
  }
}

/* ---- memory, files --------------------------------------------------------------------------------------------- */

otr_status tool_allocate(size_t n, size_t size, void **out) {
  *out = calloc(n ? n : 1, size);
  return *out ? OTR_STATUS_OK : otr_fail(OTR_STATUS_NO_MEMORY, "%zu x %zu bytes", n, size);
}

void tool_base_name(const char *path, char *name, size_t size) {
  size_t end = strlen(path);
  while (end > 1 && path[end - 1] == '/') end--;
  size_t begin = end;
  while (begin > 0 && path[begin - 1] != '/') begin--;
  snprintf(name, size, "%.*s", (int)(end - begin), path + begin);
}

static otr_status read_stream(FILE *file, const char *path, char **text, size_t *n_bytes) {
  size_t capacity = 0, n = 0;
  char *bytes = NULL;
  do {
    capacity = capacity ? 2 * capacity : 1 << 16;
    char *more = realloc(bytes, capacity);
    if (!more) {
      free(bytes);
      return otr_fail(OTR_STATUS_NO_MEMORY, "%zu bytes for %s", capacity, path);
    }
    bytes = more;
    n += fread(bytes + n, 1, capacity - 1 - n, file);
  } while (n == capacity - 1);
  if (ferror(file)) {
    free(bytes);
    return otr_fail(OTR_STATUS_IO, "reading %s: %s", path, strerror(errno));
  }
  bytes[n] = 0;
  *text = bytes;
  *n_bytes = n;
  return OTR_STATUS_OK;
}

otr_status tool_read_file(const char *path, char **text, size_t *n_bytes) {
  *text = NULL;
  if (strcmp(path, "-") == 0) return read_stream(stdin, "standard input", text, n_bytes);
  FILE *file = fopen(path, "rb");
  if (!file) return otr_fail(OTR_STATUS_IO, "%s: %s", path, strerror(errno));
  otr_status status = read_stream(file, path, text, n_bytes);
  fclose(file);
  return status;
}

size_t tool_ids_length(const tool_ids *ids, size_t i) {
  return ids->start[i + 1] - ids->start[i];
}

void tool_ids_free(tool_ids *ids) {
  free(ids->ids);
  free(ids->start);
  *ids = (tool_ids){0};
}

/* Room for `n` elements in a growing array: capacities are powers of two. */
static bool grow(void **array, size_t used, size_t n, size_t size) {
  size_t capacity = used ? 1 : 0;
  while (capacity && capacity < used) capacity *= 2;
  if (n <= capacity) return true;
  capacity = capacity ? capacity : 1;
  while (capacity < n) capacity *= 2;
  void *more = realloc(*array, capacity * size);
  if (!more) return false;
  *array = more;
  return true;
}

otr_status tool_ids_append(tool_ids *ids, const int32_t *sequence, size_t n) {
  size_t used = ids->start ? ids->start[ids->n] : 0;
  bool grown = grow((void **)&ids->start, ids->start ? ids->n + 1 : 0, ids->n + 2, sizeof *ids->start) &&
               grow((void **)&ids->ids, used, used + n, sizeof *ids->ids);
  if (!grown) return otr_fail(OTR_STATUS_NO_MEMORY, "%zu token ids", used + n);
  if (ids->n == 0) ids->start[0] = 0;
  if (n) memcpy(ids->ids + used, sequence, n * sizeof *sequence);
  ids->start[++ids->n] = used + n;
  return OTR_STATUS_OK;
}

/* One line of ids into row (with room for one id every two characters). */
static otr_status parse_ids(const char *line, const char *line_end, int32_t vocab, int32_t *row, size_t *n) {
  *n = 0;
  while (line < line_end) {
    char *end;
    errno = 0;
    long long id = strtoll(line, &end, 10);
    if (end > line_end || end == line) break;
    if (errno || id < 0 || id >= vocab) {
      return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "token id %lld is not in [0, %d)", id, (int)vocab);
    }
    row[(*n)++] = (int32_t)id;
    line = end;
  }
  while (line < line_end && strchr(" \t\r", *line)) line++;
  if (line < line_end) return otr_fail(OTR_STATUS_BAD_FORMAT, "`%.*s' is not a token id", 16, line);
  return OTR_STATUS_OK;
}

static otr_status parse_lines(const char *text, int32_t vocab, int32_t *row, tool_ids *out) {
  while (*text) {
    const char *end = text + strcspn(text, "\n");
    size_t n = 0;
    if (*text != '#') OTR_TRY(parse_ids(text, end, vocab, row, &n));
    if (n) OTR_TRY(tool_ids_append(out, row, n));
    text = *end ? end + 1 : end;
  }
  if (out->n == 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "no token ids");
  return OTR_STATUS_OK;
}

otr_status tool_ids_parse(const char *text, int32_t vocab, tool_ids *out) {
  int32_t *row;
  *out = (tool_ids){0};
  OTR_TRY(tool_allocate(strlen(text) / 2 + 1, sizeof *row, (void **)&row));
  otr_status status = parse_lines(text, vocab, row, out);
  free(row);
  if (status != OTR_STATUS_OK) tool_ids_free(out);
  return status;
}

otr_status tool_ids_read(const char *path, int32_t vocab, tool_ids *out) {
  char *text;
  size_t n_bytes;
  *out = (tool_ids){0};
  OTR_TRY(tool_read_file(path, &text, &n_bytes));
  otr_status status = tool_ids_parse(text, vocab, out);
  free(text);
  return status == OTR_STATUS_OK ? status : otr_fail_in(status, "%s", path);
}

otr_status tool_create(const char *path, FILE **out) {
  *out = path ? fopen(path, "wb") : NULL;
  if (path && !*out) return otr_fail(OTR_STATUS_IO, "%s: %s", path, strerror(errno));
  return OTR_STATUS_OK;
}

otr_status tool_write_words(FILE *file, const void *values, size_t n) {
  const unsigned char *from = values;
  for (size_t i = 0; file && i < n; i += 1024) {
    unsigned char bytes[4096];
    size_t count = n - i < 1024 ? n - i : 1024;
    for (size_t j = 0; j < count; j++) {
      uint32_t word;
      memcpy(&word, from + 4 * (i + j), 4);
      for (int b = 0; b < 4; b++) bytes[4 * j + (size_t)b] = (unsigned char)(word >> (8 * b));
    }
    if (fwrite(bytes, 4, count, file) != count) return otr_fail(OTR_STATUS_IO, "writing: %s", strerror(errno));
  }
  return OTR_STATUS_OK;
}

otr_status tool_finish(FILE *file, const char *path, otr_status status) {
  if (file && fclose(file) != 0 && status == OTR_STATUS_OK) {
    return otr_fail(OTR_STATUS_IO, "writing %s: %s", path, strerror(errno));
  }
  return status;
}

/* ---- output ---------------------------------------------------------------------------------------------------- */

void tool_progress_start(tool_progress *progress, const char *label) {
  *progress = (tool_progress){.label = label, .shown = isatty(STDERR_FILENO) != 0, .percent = -1};
}

void tool_progress_step(tool_progress *progress, uint64_t done, uint64_t total) {
  if (!progress->shown || total == 0) return;
  int32_t percent = (int32_t)(100.0 * (double)done / (double)total);
  if (percent == progress->percent) return;
  progress->percent = percent;
  char bar[31];
  for (int32_t i = 0; i < 30; i++) bar[i] = i < percent * 30 / 100 ? '#' : '.';
  bar[30] = 0;
  fprintf(stderr, "\r%s [%s] %3d %%", progress->label, bar, (int)percent);
  fflush(stderr);
}

void tool_progress_end(tool_progress *progress) {
  if (progress->shown && progress->percent >= 0) fputs("\r\033[K", stderr);
  progress->percent = -1;
}

otr_status tool_print_json(json_t *value) {
  if (!value) return otr_fail(OTR_STATUS_NO_MEMORY, "JSON output");
  int failed = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
  json_decref(value);
  if (failed || putchar('\n') == EOF || fflush(stdout) != 0) return otr_fail(OTR_STATUS_IO, "writing standard output");
  return OTR_STATUS_OK;
}

double tool_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
