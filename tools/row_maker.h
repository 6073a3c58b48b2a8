// SPDX-License-Identifier: Apache-2.0
/* Rows of a source's tensors, made into what the SDK's file holds and written there: each worker takes a block of rows
 * from the source to the file by itself, so that memory depends on the number of workers and not on the model. */
#ifndef TOOL_ROW_MAKER_H
#define TOOL_ROW_MAKER_H

#include "gguf_write.h"
#include "parallel.h"
#include "source.h"

typedef enum row_kind { ROW_F32, ROW_F16, ROW_INT8 } row_kind;

/** A tensor and its places in the new file. */
typedef struct row_job {
  const source_tensor *tensor;
  row_kind kind;               /* ROW_F32: values as they are (vectors, tables); others: weights */
  const int32_t *static_index; /* [n_static], or NULL: all of 0 ... n_static - 1. ROW_INT8 only */
  int32_t n_static;
  int32_t data, scale, columns, index; /* numbers in the writer, where there are such */
} row_job;

typedef struct row_maker row_maker;

/** Room for `n_jobs` jobs, any of which row_maker_run may be called with.
 *  @param[out] out row_maker_destroy; NULL on failure */
otr_status row_maker_create(const source *from, const row_job *jobs, int32_t n_jobs, otr_parallel *parallel,
                            otr_memory *memory, row_maker **out);
void row_maker_destroy(row_maker *maker);
/** Told the source's bytes that are done; anything but OK ends the run. */
typedef otr_status (*row_done_fn)(void *user, uint64_t bytes);
/** Makes and writes a whole tensor.
 *  @return OK, BAD_FORMAT (a value is not finite or too large; the detail names it), IO, or what `done` answered. */
otr_status row_maker_run(row_maker *maker, const row_job *job, otr_gguf_writer *writer, row_done_fn done, void *user);

#endif
