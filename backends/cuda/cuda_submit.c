// SPDX-License-Identifier: Apache-2.0
/* A pass. Few rows: a captured graph, launched once. Many rows: launches one by one, cut into submissions that keep the
 * GPU no longer than they may; between two of them others have their turn and cancel flags are looked at. */
#include <string.h>

#include "clock.h"
#include "cuda_prepared.h"
#include "float_mode.h"
#include "status.h"

enum { FIRST_LAUNCHES = 8, MOST_LAUNCHES = 4096 };

typedef struct pass {
  cuda_device *device;
  otr_prepared *prepared;
  const otr_step *step;
  otr_step_result *result;
  int32_t launches, budget; /* since the last submission was waited for; and how many it may be */
  double begin;
} pass;

otr_status cuda_launch_kernel(cuda_device *d, const cuda_launch *l) {
  void *arguments = NULL;
  memcpy(&arguments, &(const void *){l->args}, sizeof arguments); /* the driver only reads them */
  CUresult result = d->api->cuLaunchKernel(d->function[l->kernel], l->grid[0], l->grid[1], l->grid[2], l->block[0],
                                           l->block[1], l->block[2], l->shared_bytes, d->stream, &arguments, NULL);
  if (result == CUDA_SUCCESS) return OTR_STATUS_OK;
  static const char *const names[] = {
#define X(name, shared) #name,
      CUDA_KERNEL_LIST(X)
#undef X
  };
  return otr_fail_in(cuda_result(d, result, "cuLaunchKernel"), "kernel %s", names[l->kernel]);
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

/** Launches of a submission that stays below the bound, as far as the last ones tell; it grows by steps. */
static int32_t next_budget(const pass *s) {
  double each = s->prepared->row_seconds * (double)s->step->n_rows;
  double most = each > 0 ? (double)s->device->max_submit_ms * 1e-3 / each : FIRST_LAUNCHES;
  if (s->budget > 0 && most > 2.0 * s->budget) most = 2.0 * s->budget;
  return most < 1 ? 1 : most > MOST_LAUNCHES ? MOST_LAUNCHES : (int32_t)most;
}

/** Waits for what was launched: the end of a submission. */
static otr_status finish(pass *s) {
  cuda_device *d = s->device;
  CUDA_TRY(d, cuStreamSynchronize(d->stream));
  if (s->launches > 0) {
    s->prepared->row_seconds = (otr_clock_seconds() - s->begin) / (double)s->launches / (double)s->step->n_rows;
    s->result->submissions++;
  }
  s->budget = next_budget(s);
  s->launches = 0;
  s->begin = otr_clock_seconds();
  return OTR_STATUS_OK;
}

static otr_status launch(void *user, const cuda_launch *l) {
  pass *s = user;
  if (s->launches >= s->budget) {
    OTR_TRY(finish(s));
    OTR_TRY(otr_step_check_cancel(s->step));
  }
  OTR_TRY(cuda_launch_kernel(s->device, l));
  s->launches++;
  s->result->dispatches++;
  return OTR_STATUS_OK;
}

static otr_status run_launches(pass *s) {
  cuda_device *d = s->device;
  otr_prepared *p = s->prepared;
  s->begin = otr_clock_seconds();
  s->budget = next_budget(s);
  for (int32_t i = 0, n = 1; i < p->program.n_ops; i += n) {
    const otr_op *op = &p->program.ops[i];
    int32_t rows = otr_rows_of(op->rows, s->step->n_rows, s->step->n_logits);
    n = 1;
    if (rows > 0) OTR_TRY(cuda_lower(&p->lowering, op, rows, d->base.trace == NULL, &n, launch, s));
    if (!d->base.trace) continue;
    OTR_TRY(finish(s));
    OTR_TRY(otr_device_trace(&d->base, op, rows));
  }
  OTR_TRY(cuda_fetch(d, p, s->step->n_rows, s->step->n_logits));
  return finish(s);
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

/** The graph of a pass of so many rows. One that has come twice in a row is captured: what comes once, such as the end
 *  of a prompt, is not worth it. */
static otr_status find_graph(pass *s, cuda_graph **out) {
  otr_prepared *p = s->prepared;
  int32_t n_rows = s->step->n_rows, n_logits = s->step->n_logits;
  bool again = p->last_rows == n_rows && p->last_logits == n_logits;
  cuda_graph *oldest = &p->graph[0];
  *out = NULL;
  p->last_rows = n_rows;
  p->last_logits = n_logits;
  if (n_rows > CUDA_FEW_ROWS || s->device->base.trace) return OTR_STATUS_OK;
  for (cuda_graph *g = p->graph; g < p->graph + CUDA_GRAPHS; g++) {
    if (g->exec && g->n_rows == n_rows && g->n_logits == n_logits) *out = g;
    if (!g->exec || (oldest->exec && g->used < oldest->used)) oldest = g;
  }
  if (*out || !again) return OTR_STATUS_OK;
  if (oldest->exec) s->device->api->cuGraphExecDestroy(oldest->exec);
  *oldest = (cuda_graph){.exec = NULL};
  OTR_TRY(cuda_graph_make(s->device, p, n_rows, n_logits, oldest));
  *out = oldest;
  return OTR_STATUS_OK;
}

static otr_status run_graph(pass *s, cuda_graph *graph) {
  cuda_device *d = s->device;
  graph->used = s->prepared->passes;
  CUDA_TRY(d, cuGraphLaunch(graph->exec, d->stream));
  CUDA_TRY(d, cuStreamSynchronize(d->stream));
  s->result->submissions++;
  s->result->dispatches += graph->dispatches;
  return OTR_STATUS_OK;
}

/* ---- submit ------------------------------------------------------------------------------------------------------ */

/** The context is current. */
static otr_status run(pass *s, size_t block_bytes) {
  cuda_device *d = s->device;
  otr_prepared *p = s->prepared;
  cuda_graph *graph;
  OTR_TRY(find_graph(s, &graph));
  CUDA_TRY(d, cuMemcpyHtoDAsync(p->memory, p->block, block_bytes, d->stream));
  return graph ? run_graph(s, graph) : run_launches(s);
}

static void read_results(const pass *s) {
  const otr_prepared *p = s->prepared;
  const otr_program *g = &p->program;
  const struct cuda_found *found = cuda_found_of(p);
  s->result->nonfinite_layer = found->nonfinite_layer;
  s->result->saturations = found->saturations;
  s->result->outliers = found->outliers;
  s->result->activations = otr_step_activations(g, s->step);
  if (p->result && cuda_result_rows(p, s->step->n_rows, s->step->n_logits) == 1)
    cuda_result_is(s->device, g->result.buffer, g->result.offset, g->result_row_bytes, p->result);
}

otr_status cuda_submit(otr_device *base, otr_prepared *p, const otr_step *step, otr_step_result *result) {
  cuda_device *d = (cuda_device *)base;
  size_t block_bytes;
  *result = (otr_step_result){.nonfinite_layer = OTR_LAYER_NONE};
  pass s = {.device = d, .prepared = p, .step = step, .result = result};
  p->passes++;
  cuda_result_is(d, NULL, 0, 0, NULL);
  OTR_TRY(otr_step_check_cancel(step));
  OTR_TRY(cuda_pack_step(p, step, &block_bytes));
  if (step->embedding && p->width > 0)
    OTR_TRY(
        cuda_write(d, p->given, step->embedding, (size_t)step->n_rows * (size_t)p->width * sizeof *step->embedding));
  OTR_TRY(cuda_enter(d));
  otr_float_mode mode = otr_float_mode_enter();
  pthread_mutex_lock(&d->pass_lock);
  otr_status status = run(&s, block_bytes);
  /* What was launched before a failure still reads the block. */
  if (status != OTR_STATUS_OK) d->api->cuStreamSynchronize(d->stream);
  pthread_mutex_unlock(&d->pass_lock);
  otr_float_mode_leave(mode);
  OTR_TRY(cuda_leave(d, status));
  read_results(&s);
  return OTR_STATUS_OK;
}
