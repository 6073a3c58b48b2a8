// SPDX-License-Identifier: Apache-2.0
/* A pool of threads. Between begin and end the workers spin (bounded, then they park), so that the hundreds of short
 * runs of one decoded token cost about a microsecond each; between evals they are parked and cost nothing.
 *
 * A run is published by storing its task and then raising `epoch`; a worker that sees a new epoch joins by taking
 * indices from `next` and leaves by counting itself out of `running`. The caller works too, and returns when all
 * workers are out, so that nothing of a run is touched after it. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

#include "cores.h"
#include "status.h"

#define SPINS 4000      /* some tens of microseconds of pauses */
#define AHEAD_LINES 128 /* cache lines from each place: what waiting gives time for */
#define LINE 64
#define MAX_THREADS 1024

struct otr_parallel {
  otr_memory *memory;
  int32_t n_threads;
  otr_parallel_for_fn custom;
  void *custom_user;

  pthread_mutex_t turn; /* one eval at a time */

  pthread_mutex_t lock; /* guards parked threads' sleep */
  pthread_cond_t wake;
  atomic_uint epoch;  /* raised for each run, and to quit */
  atomic_int running; /* workers still in the current run */
  atomic_int parked;
  atomic_bool quit;

  otr_task_fn task;
  void *context;
  int32_t n;
  atomic_int next;

  int32_t n_started;
  struct worker {
    otr_parallel *parallel;
    int32_t index;
    _Atomic(const char *) ahead[OTR_PLACES]; /* see otr_parallel_ahead */
    pthread_t thread;
  } * workers; /* [n_threads - 1] */
};

/* Whose parallel_for, a function of the caller's, this thread is in. */
static _Thread_local const otr_parallel *inside;

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void work(otr_parallel *p, int32_t worker) {
  for (;;) {
    int32_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
    if (i >= p->n) return;
    p->task(p->context, i, worker);
  }
}

/* Asks for line `line` from each of the worker's places. @return whether there are places. */
static bool ask_ahead(struct worker *w, size_t line) {
  bool any = false;
  for (int i = 0; i < OTR_PLACES; i++) {
    const char *place = atomic_load_explicit(&w->ahead[i], memory_order_relaxed);
    if (place) __builtin_prefetch(place + line * LINE, 0, 2);
    any |= place != NULL;
  }
  return any;
}

/* Waits until the epoch is no longer `seen`: spinning first, then parked. */
static unsigned wait_for_epoch(struct worker *w, unsigned seen) {
  otr_parallel *p = w->parallel;
  size_t lines = 0;
  for (int i = 0; i < SPINS; i++) {
    unsigned now = atomic_load_explicit(&p->epoch, memory_order_acquire);
    if (now != seen) return now;
    if (lines < AHEAD_LINES && ask_ahead(w, lines))
      lines++;
    else
      relax();
  }
  pthread_mutex_lock(&p->lock);
  atomic_fetch_add(&p->parked, 1);
  unsigned now;
  while ((now = atomic_load(&p->epoch)) == seen) pthread_cond_wait(&p->wake, &p->lock);
  atomic_fetch_sub(&p->parked, 1);
  pthread_mutex_unlock(&p->lock);
  return now;
}

static void *worker_main(void *argument) {
  struct worker *w = argument;
  otr_parallel *p = w->parallel;
  unsigned seen = 0;
  for (;;) {
    seen = wait_for_epoch(w, seen);
    if (atomic_load(&p->quit)) return NULL;
    work(p, w->index);
    for (int i = 0; i < OTR_PLACES; i++) atomic_store_explicit(&w->ahead[i], NULL, memory_order_relaxed);
    atomic_fetch_sub_explicit(&p->running, 1, memory_order_release);
  }
}

static void raise_epoch(otr_parallel *p) {
  atomic_fetch_add(&p->epoch, 1);
  /* A worker counts itself parked, under the lock, before it looks at the epoch for the last time: seeing 0 here means
   * that it will see the new epoch. */
  if (atomic_load(&p->parked) > 0) {
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
  }
}

/* Signals belong to the app's own threads. */
static int start_worker(struct worker *w) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&w->thread, NULL, worker_main, w);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return error;
}

#if defined(__linux__) && defined(CPU_COUNT)
/* Cores of `set` that work is given to when nothing is said: on Arm, only the big ones of a chip. */
static int32_t cores_of(const cpu_set_t *set) {
#if defined(__aarch64__) || defined(__arm__)
  bool allowed[CPU_SETSIZE];
  for (size_t i = 0; i < CPU_SETSIZE; i++) allowed[i] = CPU_ISSET(i, set) != 0;
  return otr_fast_cores("/sys/devices/system/cpu", allowed, CPU_SETSIZE);
#else
  return CPU_COUNT(set);
#endif
}
#endif

static int32_t usable_cores(void) {
#if defined(__linux__) && defined(CPU_COUNT)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    int32_t n = cores_of(&set);
    if (n > 0) return n;
  }
#endif
  long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (int32_t)n;
}

static otr_status start_all(otr_parallel *p) {
  if (p->custom || p->n_threads < 2) return OTR_STATUS_OK;
  p->workers = otr_memory_take_array(p->memory, (size_t)p->n_threads - 1, sizeof *p->workers);
  if (!p->workers) return OTR_STATUS_NO_MEMORY;
  for (int32_t i = 0; i < p->n_threads - 1; i++) {
    p->workers[i].parallel = p;
    p->workers[i].index = i + 1;
    if (start_worker(&p->workers[i]) != 0)
      return otr_fail(OTR_STATUS_INTERNAL, "thread %d of %d could not be started", i + 2, p->n_threads);
    p->n_started++;
  }
  return OTR_STATUS_OK;
}

otr_status otr_parallel_create(otr_memory *memory, int32_t n_threads, otr_parallel_for_fn custom, void *custom_user,
                               otr_parallel **out) {
  *out = NULL;
  if (n_threads < 0 || n_threads > MAX_THREADS)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "n_threads is %d; it must lie in 0 to %d", n_threads, MAX_THREADS);
  if (custom && n_threads == 0)
    return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "n_threads must be given with a parallel_for of one's own");
  otr_parallel *p = otr_memory_take_array(memory, 1, sizeof *p);
  if (!p) return OTR_STATUS_NO_MEMORY;
  p->memory = memory;
  p->n_threads = n_threads ? n_threads : usable_cores();
  p->custom = custom;
  p->custom_user = custom_user;
  pthread_mutex_init(&p->turn, NULL);
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->wake, NULL);
  otr_status status = start_all(p);
  if (status != OTR_STATUS_OK) {
    otr_parallel_destroy(p);
    return status;
  }
  *out = p;
  return OTR_STATUS_OK;
}

void otr_parallel_destroy(otr_parallel *p) {
  if (!p) return;
  atomic_store(&p->quit, true);
  raise_epoch(p);
  for (int32_t i = 0; i < p->n_started; i++) pthread_join(p->workers[i].thread, NULL);
  if (p->workers) otr_memory_give_array(p->memory, p->workers, (size_t)p->n_threads - 1, sizeof *p->workers);
  pthread_cond_destroy(&p->wake);
  pthread_mutex_destroy(&p->lock);
  pthread_mutex_destroy(&p->turn);
  otr_memory_give_array(p->memory, p, 1, sizeof *p);
}

int32_t otr_parallel_threads(const otr_parallel *p) {
  return p->n_threads;
}

otr_status otr_parallel_check(const otr_parallel *p) {
  return inside == p ? otr_fail(OTR_STATUS_BUSY, "called from within the runtime's own parallel_for") : OTR_STATUS_OK;
}

otr_status otr_parallel_begin(otr_parallel *p) {
  OTR_TRY(otr_parallel_check(p));
  pthread_mutex_lock(&p->turn);
  return OTR_STATUS_OK;
}

void otr_parallel_end(otr_parallel *p) {
  pthread_mutex_unlock(&p->turn);
}

void otr_parallel_ahead(otr_parallel *p, int32_t worker, const void *const place[OTR_PLACES]) {
  if (worker < 1 || worker > p->n_started) return;
  for (int i = 0; i < OTR_PLACES; i++)
    atomic_store_explicit(&p->workers[worker - 1].ahead[i], (const char *)place[i], memory_order_relaxed);
}

void otr_parallel_run(otr_parallel *p, int32_t n, otr_task_fn task, void *context) {
  if (n <= 0) return;
  if (p->n_threads == 1 || n == 1) {
    for (int32_t i = 0; i < n; i++) task(context, i, 0);
    return;
  }
  if (p->custom) {
    const otr_parallel *before = inside;
    inside = p;
    p->custom(p->custom_user, n, task, context);
    inside = before;
    return;
  }
  p->task = task;
  p->context = context;
  p->n = n;
  atomic_store_explicit(&p->next, 0, memory_order_relaxed);
  atomic_store_explicit(&p->running, p->n_started, memory_order_relaxed);
  raise_epoch(p);
  work(p, 0);
  for (int i = 0; atomic_load_explicit(&p->running, memory_order_acquire) > 0; i++) {
    if (i < SPINS)
      relax();
    else
      sched_yield();
  }
}
