// SPDX-License-Identifier: Apache-2.0
/* A pass: one submission for few rows; for many as many as it takes to keep each short. */
#include <string.h>

#include "clock.h"
#include "float_mode.h"
#include "shaders/step.glsl"
#include "status.h"
#include "vulkan_step.h"

/* Part of the longest submission that is aimed at: measured times waver. */
#define AIM 0.6

static otr_status send(otr_prepared *p, const VkCommandBuffer *commands, uint32_t n, otr_step_result *result,
                       double *seconds) {
  double start = otr_clock_seconds();
  result->submissions++;
  OTR_TRY(vulkan_submit_wait(p->device, commands, n, p->fence));
  *seconds = otr_clock_seconds() - start;
  return OTR_STATUS_OK;
}

/* ---- few rows ---------------------------------------------------------------------------------------------------- */

static otr_status run_few(otr_prepared *p, otr_step_result *result) {
  double seconds;
  VkCommandBuffer commands = vulkan_few(p);
  for (int32_t i = 0; i < p->n_entries; i++) result->dispatches += p->entries[i].now[1] > 0;
  return send(p, &commands, 1, result, &seconds);
}

/* ---- many rows --------------------------------------------------------------------------------------------------- */

/** A submission in the making. */
typedef struct batch {
  int32_t first, n;    /* entries, of which not all are in this recording */
  uint32_t n_commands; /* in p->batch */
  double expected;     /* seconds */
} batch;

static double expected_seconds(const vulkan_entry *e) {
  return e->seconds * e->now[1];
}

static bool is_cut(const vulkan_entry *e, double budget) {
  return e->now[1] > 0 && (e->seconds == 0 || expected_seconds(e) > budget);
}

/** Runs one dispatch in pieces of its workgroup rows: as many as fit the budget, or one while nothing is known. */
static otr_status run_pieces(otr_prepared *p, const otr_step *step, int32_t index, double budget,
                             otr_step_result *result) {
  vulkan_entry *e = &p->entries[index];
  VkCommandBuffer commands[] = {vulkan_many(p, index), vulkan_end(p)};
  for (uint32_t base = 0, n; base < e->now[1]; base += n) {
    double fits = e->seconds > 0 ? budget / e->seconds : 1, seconds;
    n = e->now[1] - base;
    if (e->groups[1].scale != VULKAN_FIXED && fits < n) n = fits < 1 ? 1 : (uint32_t)fits;
    OTR_TRY(otr_step_check_cancel(step));
    vulkan_put_groups(p, index, base, n);
    OTR_TRY(send(p, commands, 2, result, &seconds));
    result->dispatches++;
    e->seconds = seconds / n;
  }
  vulkan_put_groups(p, index, 0, e->now[1]);
  return OTR_STATUS_OK;
}

/** Collects dispatches from b->first on for one submission. */
static void collect(otr_prepared *p, double budget, batch *b, otr_step_result *result) {
  b->n = 0;
  b->n_commands = 0;
  b->expected = 0;
  for (int32_t i = b->first; i < p->n_entries; i++, b->n++) {
    const vulkan_entry *e = &p->entries[i];
    if (!vulkan_in_many(e)) continue;
    if (is_cut(e, budget) || (b->expected > 0 && b->expected + expected_seconds(e) > budget)) break;
    b->expected += expected_seconds(e);
    p->batch[b->n_commands++] = vulkan_many(p, i);
    result->dispatches += e->now[1] > 0;
  }
  if (b->n_commands > 0) p->batch[b->n_commands++] = vulkan_end(p);
}

/** What was expected becomes what was measured, in steps that outlive a hiccup. */
static void learn(otr_prepared *p, const batch *b, double seconds) {
  if (b->expected <= 0) return;
  double ratio = seconds / b->expected;
  ratio = ratio < 0.7 ? 0.7 : ratio > 4 ? 4 : ratio;
  for (int32_t i = b->first; i < b->first + b->n; i++) p->entries[i].seconds *= ratio;
}

static otr_status run_many(otr_prepared *p, const otr_step *step, otr_step_result *result) {
  double budget = AIM * p->device->max_submit_seconds, seconds;
  batch b = {0};
  for (; b.first < p->n_entries; b.first += b.n) {
    OTR_TRY(otr_step_check_cancel(step));
    collect(p, budget, &b, result);
    if (b.n_commands > 0) {
      OTR_TRY(send(p, p->batch, b.n_commands, result, &seconds));
      learn(p, &b, seconds);
    }
    if (b.n > 0) continue;
    OTR_TRY(run_pieces(p, step, b.first, budget, result));
    b.n = 1;
  }
  return OTR_STATUS_OK;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static void read_found(const otr_prepared *p, const otr_step *step, otr_step_result *result) {
  uint32_t found[FOUND_WORDS];
  memcpy(found, vulkan_buffer_host(p->control) + p->at.found, sizeof found);
  if (found[FOUND_LAYER] != FOUND_NO_LAYER) result->nonfinite_layer = (int32_t)found[FOUND_LAYER] - 1;
  result->saturations = found[FOUND_SATURATIONS];
  result->outliers = found[FOUND_OUTLIERS];
  result->activations = otr_step_activations(&p->program, step);
}

static void set_mirror(const otr_prepared *p, const otr_step *step) {
  const otr_program *g = &p->program;
  int32_t rows = otr_rows_of(g->result_rows, step->n_rows, step->n_logits);
  if (!p->mirror) return;
  p->device->mirror = (vulkan_mirror){.buffer = g->result.buffer,
                                      .offset = g->result.offset,
                                      .bytes = (size_t)rows * g->result_row_bytes,
                                      .host = vulkan_buffer_host(p->mirror)};
}

/** Whether the pass has few rows: of a program on selected rows only, those count. */
static bool is_few(const otr_prepared *p, const otr_step *step) {
  for (int32_t i = 0; i < p->program.n_ops; i++)
    if (p->program.ops[i].rows != OTR_ROWS_LOGITS) return step->n_rows <= VULKAN_FEW;
  return step->n_logits <= VULKAN_FEW;
}

static otr_status run(otr_prepared *p, const otr_step *step, otr_step_result *result) {
  OTR_TRY(otr_step_check_cancel(step));
  OTR_TRY(vulkan_step_write(p, step));
  OTR_TRY(is_few(p, step) ? run_few(p, result) : run_many(p, step, result));
  read_found(p, step, result);
  return OTR_STATUS_OK;
}

/* ---- traces ------------------------------------------------------------------------------------------------------ */

/** Operation by operation, each as a program of its own. */
static otr_status run_traced(otr_prepared *p, const otr_step *step, otr_step_result *result) {
  for (int32_t i = 0; i < p->program.n_ops; i++) {
    const otr_op *op = &p->program.ops[i];
    otr_program one = p->program;
    otr_step_result found = {.nonfinite_layer = OTR_LAYER_NONE};
    otr_prepared *single;
    one.ops = op;
    one.n_ops = 1;
    OTR_TRY(vulkan_prepare_with(p->device, &one, false, &single));
    otr_status status = run(single, step, &found);
    vulkan_prepared_destroy(&p->device->base, single);
    OTR_TRY(status);
    OTR_TRY(otr_device_trace(&p->device->base, op, otr_rows_of(op->rows, step->n_rows, step->n_logits)));
    if (found.nonfinite_layer < result->nonfinite_layer) result->nonfinite_layer = found.nonfinite_layer;
    result->saturations += found.saturations;
    result->outliers += found.outliers;
    result->activations += found.activations;
    result->submissions += found.submissions;
    result->dispatches += found.dispatches;
  }
  return OTR_STATUS_OK;
}

otr_status vulkan_submit(otr_device *device, otr_prepared *p, const otr_step *step, otr_step_result *result) {
  vulkan_device *d = (vulkan_device *)device;
  *result = (otr_step_result){.nonfinite_layer = OTR_LAYER_NONE};
  d->mirror.buffer = NULL;
  otr_float_mode mode = otr_float_mode_enter(); /* a driver may compute on this thread */
  vulkan_memory_begin_pass(d);
  otr_status status = device->trace ? run_traced(p, step, result) : run(p, step, result);
  vulkan_memory_end_pass(d);
  otr_float_mode_leave(mode);
  if (status == OTR_STATUS_OK && !device->trace) set_mirror(p, step);
  return status;
}
