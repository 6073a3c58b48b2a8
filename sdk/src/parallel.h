// SPDX-License-Identifier: Apache-2.0
/* Sharing out work: a pool of threads, or the caller's own parallel_for. */
#ifndef OTR_PARALLEL_H
#define OTR_PARALLEL_H

#include <stdint.h>

#include "memory.h"
#include "outrider/outrider.h"

typedef struct otr_parallel otr_parallel;
typedef void (*otr_task_fn)(void *context, int32_t index, int32_t worker);

/** @param n_threads workers including the calling thread; 0: one for each core the process may run on
 *  @param custom NULL: an own pool. */
otr_status otr_parallel_create(otr_memory *memory, int32_t n_threads, otr_parallel_for_fn custom, void *custom_user,
                               otr_parallel **out);
void otr_parallel_destroy(otr_parallel *parallel);
int32_t otr_parallel_threads(const otr_parallel *parallel);
/** @return BUSY when the calling thread is in the caller's own parallel_for on behalf of `parallel`: waiting for its
 *  turn would never end. */
otr_status otr_parallel_check(const otr_parallel *parallel);
/** Workers leave their parking place and spin (bounded) between runs until otr_parallel_end: an eval brackets its runs
 *  with these. begin also takes the pool: others wait in turn.
 *  @return OK, or BUSY as otr_parallel_check: nothing was taken. */
otr_status otr_parallel_begin(otr_parallel *parallel);
void otr_parallel_end(otr_parallel *parallel);
/** While worker `worker` (1 …) waits for its next run, it asks memory for what it will read then: some kilobytes from
 * each place on (NULL: none). A hint: nothing is read, and it is forgotten with that run. Only between begin and end,
 * on the thread that called begin; does nothing for a worker that is not the pool's. */
#define OTR_PLACES 4
void otr_parallel_ahead(otr_parallel *parallel, int32_t worker, const void *const place[OTR_PLACES]);
/** Runs task(context, i, worker) for i in [0, n): in any order; worker in [0, threads). Returns when all are done.
 *  Only between begin and end, on the thread that called begin. */
void otr_parallel_run(otr_parallel *parallel, int32_t n, otr_task_fn task, void *context);

#endif
