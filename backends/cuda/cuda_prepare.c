// SPDX-License-Identifier: Apache-2.0
/* Programs made ready: memory, and a decode's graph. */
#include <string.h>

#include "cuda_prepared.h"
#include "float_mode.h"
#include "status.h"

enum { ALIGN = 256, MOST_RESULT_BYTES = 4 << 20 };

/** Sizes of all that prepare takes; what `given` is at follows the block, the scratch that. */
static bool measure(const cuda_device *d, const otr_program *program, otr_prepared *p, size_t *at_given,
                    size_t *at_scratch) {
  p->program = otr_program_filled(program);
  for (int32_t i = 0; i < program->n_ops; i++) {
    const otr_op *op = &program->ops[i];
    if (op->code == OTR_OP_EMBED) p->width = op->u.embed.width;
    if (op->code == OTR_OP_ROPE_KV) p->half = op->u.rope_kv.n_rot / 2;
    if (op->code == OTR_OP_ROPE_KV || op->code == OTR_OP_ATTENTION) p->attends = true;
  }
  size_t given = (size_t)program->max_rows * (size_t)p->width * sizeof(float);
  bool has_result = program->result_row_bytes > 0 && program->result_row_bytes <= MOST_RESULT_BYTES;
  p->block_bytes = (cuda_block_bytes(p) + ALIGN - 1) / ALIGN * ALIGN;
  p->pinned_bytes = p->block_bytes + (has_result ? program->result_row_bytes : 0);
  return otr_size_round(p->block_bytes, ALIGN, at_given) && otr_size_add(*at_given, given, at_scratch) &&
         otr_size_round(*at_scratch, ALIGN, at_scratch) &&
         otr_size_add(*at_scratch, cuda_scratch_bytes(&d->traits.caps, &p->program), &p->memory_bytes);
}

void cuda_prepared_bytes(const otr_device *base, const otr_program *program, uint64_t *host, uint64_t *device_bytes) {
  otr_prepared p = {.memory = 0};
  size_t at_given, at_scratch;
  bool fits = measure((const cuda_device *)base, program, &p, &at_given, &at_scratch);
  *host = sizeof p + p.pinned_bytes;
  *device_bytes = fits ? p.memory_bytes : UINT64_MAX / 4;
}

/* ---- what the host reads ----------------------------------------------------------------------------------------- */

int32_t cuda_result_rows(const otr_prepared *p, int32_t n_rows, int32_t n_logits) {
  return otr_rows_of(p->program.result_rows, n_rows, n_logits);
}

otr_status cuda_fetch(cuda_device *d, otr_prepared *p, int32_t n_rows, int32_t n_logits) {
  CUDA_TRY(d, cuMemcpyDtoHAsync(cuda_found_of(p), p->memory + CUDA_AT_FOUND, sizeof(struct cuda_found), d->stream));
  if (!p->result || cuda_result_rows(p, n_rows, n_logits) != 1) return OTR_STATUS_OK;
  CUDA_TRY(d, cuMemcpyDtoHAsync(p->result, cuda_address(p->program.result), p->program.result_row_bytes, d->stream));
  return OTR_STATUS_OK;
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

typedef struct capture {
  cuda_device *device;
  uint64_t dispatches;
} capture;

static otr_status capture_launch(void *user, const cuda_launch *launch) {
  capture *c = user;
  c->dispatches++;
  return cuda_launch_kernel(c->device, launch);
}

static otr_status capture_pass(capture *c, otr_prepared *p, int32_t n_rows, int32_t n_logits) {
  for (int32_t i = 0, n = 1; i < p->program.n_ops; i += n) {
    const otr_op *op = &p->program.ops[i];
    int32_t rows = otr_rows_of(op->rows, n_rows, n_logits);
    n = 1;
    if (rows > 0) OTR_TRY(cuda_lower(&p->lowering, op, rows, 1, &n, capture_launch, c));
  }
  return cuda_fetch(c->device, p, n_rows, n_logits);
}

otr_status cuda_graph_make(cuda_device *d, otr_prepared *p, int32_t n_rows, int32_t n_logits, cuda_graph *graph) {
  capture c = {d, 0};
  CUgraph recorded = NULL;
  *graph = (cuda_graph){.n_rows = n_rows, .n_logits = n_logits};
  CUDA_TRY(d, cuStreamBeginCapture(d->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  otr_status status = capture_pass(&c, p, n_rows, n_logits);
  CUresult result = d->api->cuStreamEndCapture(d->stream, &recorded); /* also of a capture that failed */
  if (status == OTR_STATUS_OK) status = cuda_result(d, result, "cuStreamEndCapture");
  if (status == OTR_STATUS_OK)
    status = cuda_result(d, d->api->cuGraphInstantiate(&graph->exec, recorded, 0), "cuGraphInstantiateWithFlags");
  if (recorded) d->api->cuGraphDestroy(recorded);
  if (status != OTR_STATUS_OK) graph->exec = NULL;
  graph->dispatches = c.dispatches;
  return status;
}

/* ---- prepare ----------------------------------------------------------------------------------------------------- */

static otr_status count_launch(void *user, const cuda_launch *launch) {
  (void)user;
  (void)launch;
  return OTR_STATUS_OK;
}

/** What cannot be lowered is refused now, not in a pass. */
static otr_status check_operations(const otr_prepared *p) {
  for (int32_t i = 0, n = 1; i < p->program.n_ops; i += n) {
    const otr_op *op = &p->program.ops[i];
    int32_t rows = otr_rows_of(op->rows, p->program.max_rows, p->program.max_logits);
    n = 1;
    if (rows > 0) OTR_TRY(cuda_lower(&p->lowering, op, rows, 1, &n, count_launch, NULL));
  }
  return OTR_STATUS_OK;
}

static otr_status allocate(cuda_device *d, otr_prepared *p) {
  void *block = NULL;
  CUDA_TRY(d, cuMemAllocHost(&block, p->pinned_bytes));
  p->block = block;
  memset(p->block, 0, p->pinned_bytes);
  if (p->pinned_bytes > p->block_bytes && p->program.result.buffer) p->result = p->block + p->block_bytes;
  CUresult result = d->api->cuMemAlloc(&p->memory, p->memory_bytes);
  if (result == CUDA_ERROR_OUT_OF_MEMORY)
    return otr_fail(OTR_STATUS_NO_MEMORY, "%s: %zu bytes of device memory", d->name, p->memory_bytes);
  return cuda_result(d, result, "cuMemAlloc");
}

/** Memory, checks and, of a model's program, the graph of a decode: a session's first token is like every other. */
static otr_status make_ready(cuda_device *d, otr_prepared *p, size_t at_given, size_t at_scratch) {
  OTR_TRY(allocate(d, p));
  p->given = p->memory + at_given;
  p->lowering = (cuda_lowering){.caps = &d->traits.caps,
                                .program = &p->program,
                                .step = p->memory,
                                .found = p->memory + CUDA_AT_FOUND,
                                .scratch = p->memory + at_scratch,
                                .demoted = d->verdict.demoted};
  OTR_TRY(check_operations(p));
  if (p->width == 0 || p->program.n_ops == 1 || d->base.trace) return OTR_STATUS_OK;
  pthread_mutex_lock(&d->pass_lock);
  otr_status status = cuda_graph_make(d, p, 1, p->program.max_logits > 0, &p->graph[0]);
  pthread_mutex_unlock(&d->pass_lock);
  return status;
}

otr_status cuda_prepare(otr_device *base, const otr_program *program, otr_prepared **out) {
  cuda_device *d = (cuda_device *)base;
  size_t at_given, at_scratch;
  *out = NULL;
  otr_prepared *p = otr_memory_take_array(base->memory, 1, sizeof *p);
  if (!p) return OTR_STATUS_NO_MEMORY;
  otr_status status = OTR_STATUS_OK;
  otr_float_mode mode = otr_float_mode_enter(); /* constants of launches are computed here */
  if (!measure(d, program, p, &at_given, &at_scratch))
    status = otr_fail(OTR_STATUS_NO_MEMORY, "%s: a program larger than any memory", d->name);
  if (status == OTR_STATUS_OK) status = cuda_enter(d);
  if (status == OTR_STATUS_OK) status = cuda_leave(d, make_ready(d, p, at_given, at_scratch));
  otr_float_mode_leave(mode);
  if (status != OTR_STATUS_OK) {
    cuda_prepared_destroy(base, p);
    return status;
  }
  *out = p;
  return OTR_STATUS_OK;
}

void cuda_prepared_destroy(otr_device *base, otr_prepared *p) {
  cuda_device *d = (cuda_device *)base;
  if (!p) return;
  cuda_result_is(d, NULL, 0, 0, NULL);
  if (p->block && cuda_enter_to_release(d)) {
    for (int32_t i = 0; i < CUDA_GRAPHS; i++)
      if (p->graph[i].exec) d->api->cuGraphExecDestroy(p->graph[i].exec);
    if (p->memory) d->api->cuMemFree(p->memory);
    d->api->cuMemFreeHost(p->block);
    cuda_leave(d, OTR_STATUS_OK);
  }
  otr_memory_give_array(base->memory, p, 1, sizeof *p);
}
