// SPDX-License-Identifier: Apache-2.0
/* How a launch runs: its blocks one after the other, a block's threads as fibers that meet at barriers and in warps. */
#include <fenv.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <mutex>
#include <vector>

#include "cuda_emulation.h"
#include "fiber.h"

enum { MAX_THREADS = 1024, LANES = 32, MAX_WARPS = MAX_THREADS / LANES, MAX_SHARED = 16 };

struct copy {
  void *shared;
  const void *global;
  int bytes;
};

namespace {
struct thread {
  fiber run;
  emulation_place place;
  /* what it waits for */
  const char *what;
  emulation_act act;
  unsigned mask;
  bool all; /* lanes that have exited are a fault */
  void *bring;
  std::vector<copy> open;                /* cp.async since the last commit */
  std::vector<std::vector<copy>> groups; /* committed and not waited for */
};
struct warp {
  unsigned live, ready; /* lanes; those that are neither wait for their warp or for the block */
  unsigned meeting;     /* lanes that wait for their warp */
};
struct shared_piece {
  const void *key;
  void *memory;
  size_t bytes;
};
struct block_state {
  thread threads[MAX_THREADS];
  warp warps[MAX_WARPS];
  unsigned n_created, n_threads, n_warps, n_live;
  bool reverse;
  unsigned n_waiting; /* at the block's barrier */
  bool released;      /* it has just opened: begin again with the first warp */
  emulation_vote vote;
  int votes, vote_result;
  shared_piece shared[MAX_SHARED];
  unsigned n_shared;
  size_t dynamic_bytes;
  const emulation_kernel *kernel;
  const void *args;
  fiber host;
  bool failed;
  char why[400];
};
}  // namespace

static block_state block;
static thread *self;
extern "C" {
const emulation_place *emulation_here;
}
static std::mutex one_launch;
static const emulation_kernel *kernels;

emulation_kernel::emulation_kernel(const char *name_, size_t args_bytes_, unsigned max_threads_,
                                   void (*call_)(const void *))
    : name(name_), args_bytes(args_bytes_), max_threads(max_threads_), call(call_), next(kernels) {
  kernels = this;
}

const emulation_kernel *emulation_kernels() {
  return kernels;
}

const emulation_kernel *emulation_find(const char *name) {
  for (const emulation_kernel *k = kernels; k; k = k->next)
    if (!strcmp(k->name, name)) return k;
  return nullptr;
}

/* ---- scheduling ---- */

static unsigned index_of(const thread *t) {
  return (unsigned)(t - block.threads);
}
unsigned emulation_lane() {
  return index_of(self) % LANES;
}

static void run_thread(thread *t, fiber *from) {
  self = t;
  emulation_here = &t->place;
  fiber_switch(from, &t->run);
}

static unsigned next_lane(unsigned ready) {
  return (unsigned)(block.reverse ? LANES - 1 - __builtin_clz(ready) : __builtin_ctz(ready));
}

/* Leaves the thread that runs: to a lane of its warp that can go on, or to the host, which looks for another warp. */
static void leave(bool to_host) {
  thread *me = self;
  warp *w = &block.warps[index_of(me) / LANES];
  if (to_host || !w->ready)
    fiber_switch(&me->run, &block.host);
  else
    run_thread(&block.threads[index_of(me) / LANES * LANES + next_lane(w->ready)], &me->run);
}

static void report(const thread *t, const char *format, va_list arguments) {
  char text[256];
  vsnprintf(text, sizeof text, format, arguments);
  snprintf(block.why, sizeof block.why, "%s, block (%u, %u, %u), thread (%u, %u, %u): %s", block.kernel->name,
           t->place.block.x, t->place.block.y, t->place.block.z, t->place.thread.x, t->place.thread.y,
           t->place.thread.z, text);
  block.failed = true;
}

void emulation_fault(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report(self, format, arguments);
  va_end(arguments);
  fiber_switch(&self->run, &block.host);
  abort(); /* nobody comes back here */
}

/* ---- meetings of a warp ---- */

/* Whether all live lanes of t's mask wait with t. */
static bool complete(const thread *t, const warp *w) {
  unsigned members = t->mask & w->live;
  if (t->all && w->live != UINT_MAX) emulation_fault("%s in a warp of which lanes have exited", t->what);
  if (members & ~w->meeting) return false;
  const thread *lanes = &block.threads[index_of(t) / LANES * LANES];
  for (unsigned left = members; left; left &= left - 1) {
    const thread *other = &lanes[__builtin_ctz(left)];
    if (other->act != t->act || other->mask != t->mask || strcmp(other->what, t->what))
      emulation_fault("%s(%#x) meets %s(%#x) of lane %u", t->what, t->mask, other->what, other->mask,
                      index_of(other) % LANES);
  }
  return true;
}

static void meet_now(const thread *t, warp *w) {
  thread *lanes = &block.threads[index_of(t) / LANES * LANES];
  void *brought[LANES];
  unsigned members = t->mask & w->live;
  for (unsigned lane = 0; lane < LANES; lane++) brought[lane] = members >> lane & 1 ? lanes[lane].bring : nullptr;
  t->act(brought);
  w->meeting &= ~members;
  w->ready |= members;
}

static void meet(const char *what, emulation_act act, unsigned mask, bool all, void *bring) {
  thread *me = self;
  warp *w = &block.warps[index_of(me) / LANES];
  unsigned bit = 1u << emulation_lane();
  if (!(mask & bit)) emulation_fault("%s: the mask %#x lacks the lane", what, mask);
  me->what = what;
  me->act = act;
  me->mask = mask;
  me->all = all;
  me->bring = bring;
  w->ready &= ~bit;
  w->meeting |= bit;
  if (complete(me, w))
    meet_now(me, w);
  else
    leave(false);
}

void emulation_meet(const char *what, emulation_act act, unsigned mask, void *bring) {
  meet(what, act, mask, false, bring);
}

void emulation_meet_all(const char *what, emulation_act act, void *bring) {
  meet(what, act, UINT_MAX, true, bring);
}

/* A lane that exits may have been the last that others waited for. */
static void release_warp(unsigned warp_index) {
  warp *w = &block.warps[warp_index];
  for (unsigned left = w->meeting; left; left &= left - 1) {
    const thread *t = &block.threads[warp_index * LANES + (unsigned)__builtin_ctz(left)];
    if (complete(t, w)) {
      meet_now(t, w);
      return;
    }
  }
}

/* ---- the block's barrier ---- */

static void release_block() {
  block.vote_result = block.vote == EMULATION_AND ? block.votes == (int)block.n_live : block.votes;
  if (block.vote == EMULATION_OR) block.vote_result = block.votes != 0;
  block.n_waiting = 0;
  block.votes = 0;
  block.released = true;
  for (unsigned i = 0; i < block.n_warps; i++) block.warps[i].ready = block.warps[i].live;
}

int emulation_barrier(emulation_vote vote, int predicate) {
  thread *me = self;
  if (block.n_waiting && block.vote != vote) emulation_fault("two kinds of __syncthreads meet");
  block.vote = vote;
  block.votes += predicate != 0;
  block.warps[index_of(me) / LANES].ready &= ~(1u << emulation_lane());
  me->what = "__syncthreads";
  if (++block.n_waiting == block.n_live) {
    release_block();
    leave(true); /* so that warps keep their order */
  } else {
    leave(false);
  }
  return block.vote_result;
}

/* ---- a thread's life ---- */

static void thread_entry() {
  fiber_begun();
  block.kernel->call(block.args);
  unsigned index = index_of(self), lane = index % LANES;
  warp *w = &block.warps[index / LANES];
  w->live &= ~(1u << lane);
  w->ready &= ~(1u << lane);
  block.n_live--;
  if (w->meeting) release_warp(index / LANES);
  if (block.n_live && block.n_waiting == block.n_live) release_block();
  leave(block.released);
  abort(); /* nobody comes back here */
}

static bool begin_block(const emulation_launch *launch, const uint3 *place) {
  block.n_shared = 0;
  block.n_waiting = 0;
  block.votes = 0;
  block.n_live = block.n_threads;
  for (unsigned i = 0; i < block.n_threads; i++) {
    thread *t = &block.threads[i];
    if (i >= block.n_created) {
      if (!fiber_create(&t->run)) return false;
      block.n_created++;
    }
    const unsigned *b = launch->block;
    t->place = {{i % b[0], i / b[0] % b[1], i / b[0] / b[1]},
                *place,
                {b[0], b[1], b[2]},
                {launch->grid[0], launch->grid[1], launch->grid[2]}};
    t->open.clear();
    t->groups.clear();
    fiber_begin(&t->run, thread_entry);
  }
  for (unsigned i = 0; i < block.n_warps; i++) {
    unsigned lanes = block.n_threads - i * LANES;
    block.warps[i] = {lanes >= LANES ? UINT_MAX : (1u << lanes) - 1, 0, 0};
    block.warps[i].ready = block.warps[i].live;
  }
  return true;
}

static void report_deadlock() {
  for (unsigned i = 0; i < block.n_threads; i++) {
    const warp *w = &block.warps[i / LANES];
    if (!(w->live >> (i % LANES) & 1)) continue;
    const thread *t = &block.threads[i];
    snprintf(block.why, sizeof block.why, "%s, block (%u, %u, %u): deadlock: thread %u waits in %s, others never come",
             block.kernel->name, t->place.block.x, t->place.block.y, t->place.block.z, i, t->what);
    break;
  }
  block.failed = true;
}

static void run_block() {
  while (block.n_live && !block.failed) {
    bool moved = false;
    block.released = false;
    for (unsigned i = 0; i < block.n_warps && !block.released && !block.failed; i++) {
      unsigned index = block.reverse ? block.n_warps - 1 - i : i;
      while (block.warps[index].ready && !block.released && !block.failed) {
        run_thread(&block.threads[index * LANES + next_lane(block.warps[index].ready)], &block.host);
        moved = true;
      }
    }
    if (!moved && !block.failed) report_deadlock();
  }
  for (unsigned i = 0; i < block.n_shared; i++) free(block.shared[i].memory);
}

static bool run_grid(const emulation_launch *launch) {
  uint64_t n = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
  for (uint64_t i = 0; i < n && !block.failed; i++) {
    uint64_t j = block.reverse ? n - 1 - i : i;
    uint3 place = {(unsigned)(j % launch->grid[0]), (unsigned)(j / launch->grid[0] % launch->grid[1]),
                   (unsigned)(j / launch->grid[0] / launch->grid[1])};
    if (!begin_block(launch, &place)) {
      snprintf(block.why, sizeof block.why, "no memory for %u fibers", block.n_threads);
      block.failed = true;
    } else {
      run_block();
    }
  }
  return !block.failed;
}

bool emulation_run(const emulation_kernel *kernel, const emulation_launch *launch, const void *args, char *why,
                   size_t why_bytes) {
  std::lock_guard<std::mutex> lock(one_launch);
  const char *order = getenv("OUTRIDER_CUDA_EMULATION_ORDER");
  block.reverse = order && !strcmp(order, "reverse");
  block.n_threads = launch->block[0] * launch->block[1] * launch->block[2];
  block.n_warps = (block.n_threads + LANES - 1) / LANES;
  block.kernel = kernel;
  block.args = args;
  block.dynamic_bytes = launch->shared_bytes;
  block.failed = false;
  if (block.n_threads > kernel->max_threads || block.n_threads > MAX_THREADS || !fiber_adopt(&block.host)) {
    snprintf(why, why_bytes, "%s: %u threads a block, at most %u", kernel->name, block.n_threads, kernel->max_threads);
    return false;
  }
  fenv_t callers; /* a GPU knows nothing of the calling thread's rounding */
  fegetenv(&callers);
  fesetenv(FE_DFL_ENV);
  bool done = run_grid(launch);
  fesetenv(&callers);
  if (!done) snprintf(why, why_bytes, "%s", block.why);
  return done;
}

/* ---- shared memory ---- */

static void *shared_piece_of(const void *key, size_t bytes) {
  for (unsigned i = 0; i < block.n_shared; i++)
    if (block.shared[i].key == key) return block.shared[i].memory;
  void *memory = nullptr;
  if (block.n_shared == MAX_SHARED || posix_memalign(&memory, 128, bytes)) emulation_fault("no room for shared memory");
  memset(memory, EMULATION_POISON, bytes);
  block.shared[block.n_shared++] = {key, memory, bytes};
  return memory;
}

void *emulation_shared(const void *key, size_t bytes) {
  return shared_piece_of(key, bytes);
}
void *emulation_dynamic_shared() {
  return shared_piece_of(&block.dynamic_bytes, block.dynamic_bytes);
}

void emulation_check_shared(const void *p, size_t bytes, size_t alignment, const char *what) {
  uintptr_t at = (uintptr_t)p;
  if (at % alignment) emulation_fault("%s: address %p is misaligned", what, p);
  for (unsigned i = 0; i < block.n_shared; i++) {
    uintptr_t start = (uintptr_t)block.shared[i].memory;
    if (at >= start && at + bytes <= start + block.shared[i].bytes) return;
  }
  emulation_fault("%s: address %p is not in shared memory", what, p);
}

/* ---- cp.async ---- */

void cp_async16_part(void *shared, const void *global, int bytes) {
  emulation_check_shared(shared, 16, 16, "cp.async");
  if (bytes && (uintptr_t)global % 16) emulation_fault("cp.async: source %p is misaligned", global);
  if (bytes < 0 || bytes > 16) emulation_fault("cp.async: %d bytes", bytes);
  self->open.push_back({shared, global, bytes});
}

void cp_commit() {
  self->groups.push_back(std::move(self->open));
  self->open.clear();
}

void emulation_cp_wait(int newest) {
  auto &groups = self->groups;
  while (groups.size() > (size_t)newest) {
    for (const copy &c : groups.front()) {
      memset(c.shared, 0, 16);
      if (c.bytes) memcpy(c.shared, c.global, (size_t)c.bytes);
    }
    groups.erase(groups.begin());
  }
}
