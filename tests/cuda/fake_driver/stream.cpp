// SPDX-License-Identifier: Apache-2.0
/* Streams, events, graphs, launches. Work waits in its stream until someone waits for the stream. */
#include <algorithm>

#include "driver.h"
#include "float_mode.h"

static std::vector<CUstream_st *> streams;

bool fake_forbidden_in_capture() {
  bool forbidden = false;
  for (CUstream_st *stream : streams)
    if (stream->capturing && (stream->global || stream->captor == std::this_thread::get_id()))
      stream->invalid = forbidden = true;
  return forbidden;
}

static CUresult check(const CUstream_st *stream) {
  if (!stream || stream->context != fake_current()) return FAKE_INVALID_HANDLE;
  return CUDA_SUCCESS;
}

CUresult fake_push(CUstream_st *stream, fake_work work) {
  CUresult result = check(stream);
  if (result) return result;
  if (stream->invalid) return FAKE_CAPTURE_INVALIDATED;
  (stream->capturing ? stream->captured : stream->work).push_back(std::move(work));
  return CUDA_SUCCESS;
}

static CUresult drain(CUstream_st *stream) {
  std::vector<fake_work> work;
  work.swap(stream->work);
  for (const fake_work &item : work) {
    CUresult result = item();
    if (result) return result;
  }
  return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  FAKE_ENTER(cuStreamCreateWithPriority, FAKE_CONTEXT);
  *stream = nullptr;
  if (fake_forbidden_in_capture()) return FAKE_CAPTURE_UNSUPPORTED;
  if (flags != CU_STREAM_NON_BLOCKING || priority > 0 || priority < -5) return CUDA_ERROR_INVALID_VALUE;
  *stream = new CUstream_st{fake_current(), {}, false, false, {}, {}, false};
  streams.push_back(*stream);
  counts.streams++;
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  FAKE_ENTER_RELEASE(cuStreamDestroy_v2, FAKE_CONTEXT);
  CUresult result = check(stream);
  if (result) return result;
  if (!fake_result) fake_result = drain(stream);
  for (size_t i = 0; i < streams.size(); i++)
    if (streams[i] == stream) {
      streams.erase(streams.begin() + (long)i);
      break;
    }
  delete stream;
  counts.streams--;
  return fake_result;
}

CUresult cuStreamSynchronize(CUstream stream) {
  FAKE_ENTER(cuStreamSynchronize, FAKE_CONTEXT);
  CUresult result = check(stream);
  if (result) return result;
  if (stream->capturing) {
    stream->invalid = true;
    return FAKE_CAPTURE_UNSUPPORTED;
  }
  return drain(stream);
}

CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
  FAKE_ENTER(cuStreamBeginCapture_v2, FAKE_CONTEXT);
  CUresult result = check(stream);
  if (result) return result;
  if (stream->capturing || mode < 0 || mode > 2) return CUDA_ERROR_INVALID_VALUE;
  stream->capturing = true;
  stream->global = mode == 0;
  stream->captor = std::this_thread::get_id();
  stream->invalid = false;
  stream->captured.clear();
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  std::lock_guard<std::recursive_mutex> guard(big_lock);
  CUresult result = fake_enter("cuStreamEndCapture", FAKE_CONTEXT);
  *graph = nullptr;
  if (check(stream)) return FAKE_INVALID_HANDLE;
  if (!stream->capturing) return CUDA_ERROR_INVALID_VALUE;
  stream->capturing = false;
  if (result || stream->invalid) {
    stream->invalid = false;
    return result ? result : FAKE_CAPTURE_INVALIDATED;
  }
  *graph = new CUgraph_st{std::move(stream->captured)};
  stream->captured.clear();
  counts.graphs++;
  return CUDA_SUCCESS;
}

/* ---- events ---- */

CUresult cuEventCreate(CUevent *event, unsigned) {
  FAKE_ENTER(cuEventCreate, FAKE_CONTEXT);
  *event = new CUevent_st{fake_current(), nullptr};
  counts.events++;
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event) {
  FAKE_ENTER_RELEASE(cuEventDestroy_v2, FAKE_CONTEXT);
  return fake_delete(fake_result, event, counts.events);
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  FAKE_ENTER(cuEventRecord, FAKE_CONTEXT);
  CUresult result = check(stream);
  if (result) return result;
  event->stream = stream;
  return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event) {
  FAKE_ENTER(cuEventSynchronize, FAKE_CONTEXT);
  if (fake_forbidden_in_capture()) return FAKE_CAPTURE_UNSUPPORTED;
  for (CUstream_st *stream : streams)
    if (stream == event->stream) return drain(stream);
  return CUDA_SUCCESS;
}

/* ---- graphs ---- */

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
  FAKE_ENTER(cuGraphInstantiateWithFlags, FAKE_CONTEXT);
  *exec = nullptr;
  if (!graph || flags) return CUDA_ERROR_INVALID_VALUE;
  *exec = new CUgraphExec_st{fake_current(), graph->work};
  counts.graphs++;
  return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) {
  FAKE_ENTER(cuGraphLaunch, FAKE_CONTEXT);
  if (!exec || exec->context != fake_current()) return FAKE_INVALID_HANDLE;
  for (const fake_work &work : exec->work) {
    CUresult result = fake_push(stream, work);
    if (result) return result;
  }
  counts.graph_launches++;
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  FAKE_ENTER_RELEASE(cuGraphDestroy, FAKE_CONTEXT);
  return fake_delete(fake_result, graph, counts.graphs);
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  FAKE_ENTER_RELEASE(cuGraphExecDestroy, FAKE_CONTEXT);
  return fake_delete(fake_result, exec, counts.graphs);
}

/* ---- launches ---- */

/* The arguments, as `parameters` points to them or as `extra` packs them: CU_LAUNCH_PARAM_BUFFER_POINTER 1, _SIZE 2. */
static bool take_arguments(const emulation_kernel *kernel, void **parameters, void **extra, std::string *args) {
  const void *packed = nullptr;
  size_t bytes = kernel->args_bytes;
  if (!parameters == !extra) return false;
  if (parameters) packed = parameters[0];
  for (size_t i = 0; extra && extra[i]; i += 2) {
    if (extra[i] == (void *)1) packed = extra[i + 1];
    if (extra[i] == (void *)2) bytes = *static_cast<const size_t *>(extra[i + 1]);
  }
  if (!packed || bytes != kernel->args_bytes) return false;
  args->assign(static_cast<const char *>(packed), bytes);
  return true;
}

static bool fits(const CUfunc_st *function, const emulation_launch *launch) {
  const unsigned *grid = launch->grid, *block = launch->block;
  if (!grid[0] || !grid[1] || !grid[2] || !block[0] || !block[1] || !block[2]) return false;
  if (grid[0] > 0x7fffffffu || grid[1] > 65535 || grid[2] > 65535) return false;
  if (block[0] > 1024 || block[1] > 1024 || block[2] > 64) return false;
  if ((uint64_t)block[0] * block[1] * block[2] > function->kernel->max_threads) return false;
  return launch->shared_bytes <= (size_t)std::max<int>(function->dynamic_limit, FAKE_SHARED_DEFAULT);
}

static CUresult run(CUctx_st *context, const CUfunc_st *function, const emulation_launch *launch,
                    const std::string &args) {
  CUresult failure = fake_run_failure();
  if (failure) {
    context->sticky = failure;
    return failure;
  }
  char why[400];
  alignas(16) char aligned[4096];
  memcpy(aligned, args.data(), args.size());
  counts.launches++;
  otr_float_mode mode = otr_float_mode_enter(); /* a GPU knows nothing of the caller's thread */
  bool ran = emulation_run(function->kernel, launch, aligned, why, sizeof why);
  otr_float_mode_leave(mode);
  if (ran) return CUDA_SUCCESS;
  fake_fault(why);
  context->sticky = CUDA_ERROR_LAUNCH_FAILED;
  return CUDA_ERROR_LAUNCH_FAILED;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **parameters,
                        void **extra) {
  FAKE_ENTER(cuLaunchKernel, FAKE_CONTEXT);
  emulation_launch launch = {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes};
  std::string args;
  if (!function || !fits(function, &launch) || !take_arguments(function->kernel, parameters, extra, &args) ||
      args.size() > 4096)
    return CUDA_ERROR_INVALID_VALUE;
  CUctx_st *context = fake_current();
  return fake_push(stream, [=] { return run(context, function, &launch, args); });
}
