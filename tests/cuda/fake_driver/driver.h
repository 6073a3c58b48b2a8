// SPDX-License-Identifier: Apache-2.0
/* The fake driver's inside. */
#ifndef FAKE_DRIVER_H
#define FAKE_DRIVER_H

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "../../../backends/cuda/cuda_api.h"
#include "cuda_emulation.h"
#include "fake_cuda.h"

/* Every entry point as the backend declares it. */
#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))
#define X(member, symbol, parameters) FAKE_EXPORT CUresult symbol parameters;
CUDA_API_LIST(X)
#undef X

enum { FAKE_INVALID_HANDLE = 400, FAKE_ALREADY_REGISTERED = 712, FAKE_NOT_REGISTERED = 713, FAKE_NOT_INITIALIZED = 3 };
enum { FAKE_CAPTURE_UNSUPPORTED = 900, FAKE_CAPTURE_INVALIDATED = 901, FAKE_STICKY = 700 };
enum { FAKE_DEVICES = 2, FAKE_SHARED_DEFAULT = 48 << 10, FAKE_SHARED_LIMIT = 163 << 10 };

/** What a device looks like. */
struct fake_settings {
  int sm = 87, driver = 12060, devices = 1, integrated = 1, registers = 1, registers_readonly = 1, init = 0, quiet = 0,
      uuid = 1, slow = 0;
  uint64_t memory = 8000000000u;
};
extern fake_settings settings;

struct CUctx_st {
  int device, retained, sticky; /* sticky: the error that all calls give from now on */
  uint64_t bytes;
};
extern CUctx_st contexts[FAKE_DEVICES];

typedef std::function<CUresult()> fake_work;

struct CUfunc_st {
  const emulation_kernel *kernel;
  int dynamic_limit;
};
struct CUmod_st {
  CUctx_st *context;
  std::map<std::string, CUfunc_st> functions;
  std::string image_kernels; /* "\nNAME\n" of each, "" where the image does not tell */
};
struct CUstream_st {
  CUctx_st *context;
  std::vector<fake_work> work;
  bool capturing, invalid;
  std::vector<fake_work> captured;
  std::thread::id captor; /* whom a capture forbids calls: the thread that began it ... */
  bool global;            /* ... or, by its mode, everyone */
};
struct CUevent_st {
  CUctx_st *context;
  CUstream_st *stream; /* last recorded in */
};
struct CUgraph_st {
  std::vector<fake_work> work;
};
struct CUgraphExec_st {
  CUctx_st *context;
  std::vector<fake_work> work;
};

extern fake_cuda_counts counts;
extern std::recursive_mutex big_lock;

/** What an entry point begins with: counts, injected failures, and what the calling thread must have. */
enum fake_needs { FAKE_NOTHING, FAKE_INIT, FAKE_CONTEXT };
CUresult fake_enter(const char *entry, fake_needs needs);
/** Lets other threads call, where the settings ask for it. */
void fake_wait();
#define FAKE_ENTER(entry, needs)                              \
  fake_wait();                                                \
  std::lock_guard<std::recursive_mutex> fake_guard(big_lock); \
  if (CUresult fake_result = fake_enter(#entry, needs)) return fake_result
/** The same for what gives back: done even where the call or the context has failed, as drivers do, which tell errors
 * of earlier work there; `fake_result` is what to return then. */
#define FAKE_ENTER_RELEASE(entry, needs)                      \
  fake_wait();                                                \
  std::lock_guard<std::recursive_mutex> fake_guard(big_lock); \
  CUresult fake_result = fake_enter(#entry, needs);           \
  if (fake_result == CUDA_ERROR_INVALID_CONTEXT || fake_result == FAKE_NOT_INITIALIZED) return fake_result

/** The rest of an entry point that deletes `thing`, of which `held` are counted. */
template <class Thing>
CUresult fake_delete(CUresult result, Thing *thing, uint64_t &held) {
  if (!thing) return CUDA_ERROR_INVALID_VALUE;
  delete thing;
  held--;
  return result;
}
/** The calling thread's current context, or NULL. */
CUctx_st *fake_current();
/** Whether a call that a capture forbids is made by a thread that captures; invalidates the capture. */
bool fake_forbidden_in_capture();
/** Whether this kernel shall fail, by "run". */
CUresult fake_run_failure();
/** Puts work into the stream, or into the graph that it captures. */
CUresult fake_push(CUstream_st *stream, fake_work work);
/** Whether [address, address + bytes) lies in one device allocation or registered memory. */
bool fake_device_range(CUdeviceptr address, size_t bytes);
/** Whether the host memory is pinned or registered: an asynchronous copy reads it later. */
bool fake_pinned(const void *address, size_t bytes);
/** Keeps and prints why a kernel failed. */
void fake_fault(const char *why);

#endif
