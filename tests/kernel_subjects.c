// SPDX-License-Identifier: Apache-2.0
/* Devices under test, and one case on all of them. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel_check.h"

/* ---- devices ----------------------------------------------------------------------------------------------------- */

/* Threads of the host say nothing about a GPU: it is opened once. */
static bool is_gpu(const otr_device_info *info) {
  return strcmp(info->backend, "vulkan") == 0 || strcmp(info->backend, "cuda") == 0;
}

static bool open_threads(subjects *s, const otr_backend *backend, int32_t index, subject *to) {
  for (int t = 0; t < THREAD_COUNTS; ++t) {
    if (t > 0 && is_gpu(&to->info)) {
      to->device[t] = to->device[0];
      continue;
    }
    if (otr_parallel_create(&s->memory, t + 1, NULL, NULL, &to->parallel[t]) != OTR_STATUS_OK) return false;
    otr_device_params params = {.memory = &s->memory, .parallel = to->parallel[t], .max_submit_ms = INT32_MAX};
    if (backend->open(index, &params, &to->device[t]) != OTR_STATUS_OK) return false;
  }
  return true;
}

static bool open_backend(subjects *s, const otr_backend *backend, const char *only) {
  bool reference = strcmp(backend->name, "cpu") == 0;
  for (int32_t i = 0; i < backend->count() && s->n < MAX_DEVICES; ++i) {
    subject *to = &s->of[s->n];
    memset(to, 0, sizeof *to);
    to->info.struct_size = sizeof to->info;
    backend->describe(i, &to->info);
    bool wanted = only != NULL ? strncmp(to->info.name, only, strlen(only)) == 0 : !is_gpu(&to->info);
    if (!wanted && !reference) continue;
    if (!to->info.available) continue;
    s->n++;
    if (!open_threads(s, backend, i, to)) return false;
  }
  return true;
}

bool subjects_open(subjects *s, const char *only) {
  const otr_backend *const *all = otr_backends();
  int n = 0;
  memset(s, 0, sizeof *s);
  otr_memory_init(&s->memory, NULL);
  while (all[n] != NULL) ++n;
  for (int i = n - 1; i >= 0; --i) { /* the reference is the last */
    if (!open_backend(s, all[i], only)) return false;
  }
  return s->n > 0;
}

enum { MAX_CASE_OPS = 4 };

/* The mutant whose operations are altered, and what the device's own table does. */
static const mutant *altering;
static const otr_device_ops *unaltered;

static otr_status prepare_altered(otr_device *device, const otr_program *program, otr_prepared **out) {
  static otr_op ops[MAX_CASE_OPS]; /* until the case's next program */
  otr_program altered = *program;
  if (program->n_ops > MAX_CASE_OPS) return OTR_STATUS_INTERNAL;
  memcpy(ops, program->ops, (size_t)program->n_ops * sizeof *ops);
  for (int32_t i = 0; i < program->n_ops; ++i) {
    if (ops[i].code == altering->code) altering->alter(&ops[i]);
  }
  altered.ops = ops;
  return unaltered->prepare(device, &altered, out);
}

static void alter_operations(otr_device *device, const mutant *m) {
  static otr_device_ops table;
  altering = m;
  if (device->ops != &table) unaltered = device->ops;
  table = *unaltered;
  table.prepare = prepare_altered;
  device->ops = &table;
}

bool subjects_add_mutant(subjects *s, const mutant *m) {
  subject *to = &s->of[s->n++];
  memset(to, 0, sizeof *to);
  snprintf(to->info.name, sizeof to->info.name, "%s", m->name);
  for (int t = 0; t < THREAD_COUNTS; ++t) {
    if (otr_parallel_create(&s->memory, t + 1, NULL, NULL, &to->parallel[t]) != OTR_STATUS_OK) return false;
    otr_device_params params = {.memory = &s->memory, .parallel = to->parallel[t], .max_submit_ms = INT32_MAX};
    if (otr_cpu_device_open(&m->kernels, &params, &to->device[t]) != OTR_STATUS_OK) return false;
    if (m->alter != NULL) alter_operations(to->device[t], m);
  }
  return true;
}

void subjects_close(subjects *s) {
  for (int i = 0; i < s->n; ++i) {
    for (int t = 0; t < THREAD_COUNTS; ++t) {
      otr_device *device = s->of[i].device[t];
      if (device != NULL && (t == 0 || device != s->of[i].device[0])) device->ops->close(device);
      otr_parallel_destroy(s->of[i].parallel[t]);
    }
  }
  s->n = 0;
}

/* ---- fences ------------------------------------------------------------------------------------------------------ */

enum { MAX_FENCES = 24 };

/* Input operands that end where memory ends: reading one byte too far is a fault. */
typedef struct fences {
  otr_device *device;
  struct {
    void *memory;
    size_t bytes;
    otr_buffer *buffer;
  } of[MAX_FENCES];
  int n;
} fences;

static void *fence_take(void *user, otr_device *device, size_t bytes, otr_ref *ref) {
  fences *f = user;
  size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = (bytes + page - 1) / page * page;
  if (f->n == MAX_FENCES || bytes == 0) return NULL;
  uint8_t *memory = mmap(NULL, inner + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return NULL;
  otr_buffer *buffer = NULL;
  uint8_t *first = memory + inner - bytes;
  if (mprotect(memory + inner, page, PROT_NONE) != 0 ||
      device->ops->buffer_import(device, first, bytes, OTR_WEIGHTS_AUTO, &buffer) != OTR_STATUS_OK) {
    munmap(memory, inner + page);
    return NULL;
  }
  f->device = device;
  f->of[f->n].memory = memory;
  f->of[f->n].bytes = inner + page;
  f->of[f->n++].buffer = buffer;
  *ref = (otr_ref){buffer, 0};
  return first;
}

static void fences_drop(fences *f) {
  for (int i = 0; i < f->n; ++i) {
    f->device->ops->buffer_destroy(f->device, f->of[i].buffer);
    munmap(f->of[i].memory, f->of[i].bytes);
  }
  f->n = 0;
}

/* ---- one case ---------------------------------------------------------------------------------------------------- */

static otr_status run_on(otr_device *device, const otr_case *c, bool fenced, otr_case_image *image) {
  fences f = {.n = 0};
  otr_case_place place = {&f, fence_take};
  otr_status status = otr_case_run(device, c, fenced ? &place : NULL, image, 1, NULL);
  fences_drop(&f);
  return status;
}

static const char *complain(const otr_case *c, const char *device, int threads) {
  static char text[1024];
  FILE *to = fmemopen(text, sizeof text, "w");
  if (to == NULL) return "no memory for a message";
  fprintf(to, "device %s, %d threads: %s\n  case: ", device, threads, otr_error_detail());
  case_print(to, c);
  fclose(to);
  return text;
}

const char *case_check(subjects *s, const otr_case *c, bool fenced, int turn) {
  const char *wrong = NULL;
  otr_case_image expected, got;
  if (run_on(s->of[0].device[0], c, fenced, &expected) != OTR_STATUS_OK) return complain(c, s->of[0].info.name, 1);
  for (int i = 0; i < s->n && wrong == NULL; ++i) {
    int t = (i + turn) % THREAD_COUNTS;
    if (i == 0 && t == 0) continue;
    otr_status status = run_on(s->of[i].device[t], c, fenced, &got);
    if (status == OTR_STATUS_OK) {
      status = otr_case_compare(c, &expected, &got);
      otr_case_image_free(&s->memory, &got);
    }
    if (status != OTR_STATUS_OK) wrong = complain(c, s->of[i].info.name, t + 1);
  }
  otr_case_image_free(&s->memory, &expected);
  return wrong;
}
