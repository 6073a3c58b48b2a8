// SPDX-License-Identifier: Apache-2.0
/* The emulation and the fake driver themselves: right kernels give the right results, wrong ones are found, a driver's
 * rules hold. Argument: the fake libcuda.so. */
#include <dlfcn.h>
#include <string.h>

#include "cuda_api.h"
#include "fake_driver/fake_cuda.h"
#include "suite.h"
#include "trial_kernels.h"
#include "with_asan.h"

static const char *library;
static cuda_api api;
static struct {
  void (*count)(fake_cuda_counts *);
  uint64_t (*held)(void);
  void (*begin)(void);
  void (*fail_at)(const char *, uint64_t, int);
  const char *(*fault)(void);
} fake;
static CUcontext context;
static CUmodule module;
static CUstream stream;

#define ck_cuda(expression) ck_assert_int_eq(expression, CUDA_SUCCESS)

static void open_library(void) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  ck_assert_msg(handle != NULL, "%s", dlerror());
#define X(member, symbol, parameters) *(void **)(&api.member) = dlsym(handle, #symbol);
  CUDA_API_LIST(X)
#undef X
#define X(member, symbol, parameters) ck_assert_msg(api.member != NULL, #symbol " is missing");
  CUDA_API_LIST(X)
#undef X
  *(void **)(&fake.count) = dlsym(handle, "fake_cuda_count");
  *(void **)(&fake.held) = dlsym(handle, "fake_cuda_held");
  *(void **)(&fake.begin) = dlsym(handle, "fake_cuda_begin");
  *(void **)(&fake.fail_at) = dlsym(handle, "fake_cuda_fail_at");
  *(void **)(&fake.fault) = dlsym(handle, "fake_cuda_fault");
}

/* Each test is a process of its own: the environment is read by its cuInit. */
static void begin(const char *settings) {
  setenv("OUTRIDER_FAKE_CUDA", settings, 1);
  open_library();
  ck_cuda(api.cuInit(0));
  ck_cuda(api.cuDevicePrimaryCtxRetain(&context, 0));
  ck_cuda(api.cuCtxPushCurrent(context));
  ck_cuda(api.cuModuleLoadData(&module, "EMULATED"));
  ck_cuda(api.cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0));
  fake.begin();
}

static void end(void) {
  api.cuStreamDestroy(stream);
  api.cuModuleUnload(module);
  CUcontext popped;
  api.cuCtxPopCurrent(&popped);
  ck_assert_ptr_eq(popped, context);
  api.cuDevicePrimaryCtxRelease(0);
  ck_assert_uint_eq(fake.held(), 0);
}

static CUdeviceptr device(const void *from, size_t bytes) {
  CUdeviceptr address;
  ck_cuda(api.cuMemAlloc(&address, bytes));
  if (from != NULL) {
    ck_cuda(api.cuMemcpyHtoDAsync(address, from, bytes, stream));
    ck_cuda(api.cuStreamSynchronize(stream));
  }
  return address;
}

static CUresult launch(const char *name, unsigned blocks, unsigned threads, unsigned shared, struct trial_args args) {
  CUfunction function;
  ck_cuda(api.cuModuleGetFunction(&function, module, name));
  void *parameters[] = {&args};
  ck_cuda(api.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared, stream, parameters, NULL));
  return api.cuStreamSynchronize(stream);
}

static void read_back(void *to, CUdeviceptr from, size_t bytes) {
  ck_cuda(api.cuMemcpyDtoHAsync(to, from, bytes, stream));
  ck_cuda(api.cuStreamSynchronize(stream));
}

/* ---- kernels ---- */

enum { K = 96 };

/* a[16, K] b[8, K]^T by trial_mma. @return whether it is right */
static int product_is_right(int variant, int fault) {
  int8_t a[16][K], b[8][K];
  for (int i = 0; i < 16 * K; i++) a[i / K][i % K] = (int8_t)(i * 7 % 255 - 127);
  for (int i = 0; i < 8 * K; i++) b[i / K][i % K] = (int8_t)(i * 31 % 256 - 128);
  struct trial_args args = {
      device(a, sizeof a), device(b, sizeof b), device(NULL, 16 * 8 * sizeof(int)), K, variant, fault};
  ck_cuda(launch("trial_mma", 1, 32, 0, args));
  int c[16][8], right = 1;
  read_back(c, args.out, sizeof c);
  for (int i = 0; i < 16; i++)
    for (int j = 0; j < 8; j++) {
      int sum = 0;
      for (int k = 0; k < K; k++) sum += a[i][k] * b[j][k];
      right &= sum == c[i][j];
    }
  ck_cuda(api.cuMemFree(args.a));
  ck_cuda(api.cuMemFree(args.b));
  ck_cuda(api.cuMemFree(args.out));
  return right;
}

START_TEST(products) {
  begin("");
  ck_assert(product_is_right(0, TRIAL_RIGHT));
  ck_assert(product_is_right(1, TRIAL_RIGHT));
  ck_assert(!product_is_right(0, TRIAL_NO_WAIT));
  end();
}
END_TEST

/* @return whether all threads got their neighbour's number */
static int exchange_is_right(int fault, int step) {
  int out[256], right = 1;
  struct trial_args args = {0, 0, device(NULL, sizeof out), 0, step, fault};
  ck_cuda(launch("trial_exchange", 1, 256, sizeof out, args));
  read_back(out, args.out, sizeof out);
  for (int i = 0; i < 256; i++) right &= out[i] == (i + step) % 256;
  ck_cuda(api.cuMemFree(args.out));
  return right;
}

/* In either order of threads, a step forward or one back reads what was not written yet. */
START_TEST(shared_memory) {
  begin("");
  ck_assert(exchange_is_right(TRIAL_RIGHT, 32));
  ck_assert(!exchange_is_right(TRIAL_NO_BARRIER, 32));
  ck_assert(exchange_is_right(TRIAL_RIGHT, 255));
  ck_assert(!exchange_is_right(TRIAL_NO_BARRIER, 255));
  end();
}
END_TEST

START_TEST(warps) {
  begin("");
  int out[64][TRIAL_WARP_RESULTS], zero = 0;
  struct trial_args args = {device(&zero, sizeof zero), 0, device(NULL, sizeof out), 0, 0, 0};
  ck_cuda(launch("trial_warp", 1, 64, 0, args));
  read_back(out, args.out, sizeof out);
  for (int i = 0; i < 64; i++) {
    int lane = i % 32;
    ck_assert_int_eq(out[i][0], 5);
    ck_assert_int_eq(out[i][1], lane / 8 * 8 + 5);
    ck_assert_int_eq(out[i][2], lane < 2 ? lane : lane - 2);
    ck_assert_int_eq(out[i][3], lane % 16 + 3 > 15 ? lane : lane + 3);
    ck_assert_int_eq(out[i][4], lane ^ 16);
    ck_assert_uint_eq((unsigned)out[i][5], 0x49249249u);
    ck_assert_int_eq(out[i][6], 1);
    ck_assert_int_eq(out[i][7], 40);
    ck_assert_int_eq(out[i][8], 1);
    if (lane < 24) ck_assert_int_eq(out[i][9], 7);
  }
  read_back(&zero, args.a, sizeof zero);
  ck_assert_int_eq(zero, 48);
  ck_cuda(api.cuMemFree(args.a));
  ck_cuda(api.cuMemFree(args.out));
  end();
}
END_TEST

/* What the hardware would hang on or refuse: the launch fails, and so does all that follows in this context. */
static void faulty(const char *kernel, int fault, const char *words) {
  begin("quiet=1");
  CUdeviceptr memory = device(NULL, 4096);
  struct trial_args args = {memory, 0, memory, 0, 0, fault};
  ck_assert_int_eq(launch(kernel, 2, 64, 0, args), CUDA_ERROR_LAUNCH_FAILED);
  ck_assert_msg(strstr(fake.fault(), words) != NULL, "%s", fake.fault());
  CUdeviceptr more;
  ck_assert_int_eq(api.cuMemAlloc(&more, 16), CUDA_ERROR_LAUNCH_FAILED);
  ck_assert_int_eq(api.cuMemFree(memory), CUDA_ERROR_LAUNCH_FAILED);
  end();
  ck_cuda(api.cuDevicePrimaryCtxRetain(&context, 0)); /* a new context is sound */
  ck_cuda(api.cuCtxPushCurrent(context));
  ck_cuda(api.cuMemAlloc(&more, 16));
  ck_cuda(api.cuMemFree(more));
}

START_TEST(diverged) {
  faulty("trial_warp", TRIAL_DIVERGED, "meets");
}
END_TEST
START_TEST(deadlock) {
  faulty("trial_fault", TRIAL_DEADLOCK, "deadlock");
}
END_TEST
START_TEST(misaligned) {
  faulty("trial_fault", TRIAL_MISALIGNED, "misaligned");
}
END_TEST

/* What a kernel reads beyond an allocation ends the process under the address sanitizer. */
#if WITH_ASAN
START_TEST(over_read) {
  begin("");
  CUdeviceptr memory = device(NULL, 400), out = device(NULL, 16);
  launch("trial_fault", 1, 1, 0, (struct trial_args){memory, 0, out, 100, 0, TRIAL_OVER_READ});
}
END_TEST
#endif

/* ---- the driver ---- */

/* Streams run when they are waited for: pinned memory is read then, other memory was taken at the call. */
START_TEST(late) {
  begin("");
  int *pinned, other = 1, out[2];
  ck_cuda(api.cuMemAllocHost((void **)&pinned, sizeof *pinned));
  CUdeviceptr memory = device(NULL, 8);
  *pinned = 1;
  ck_cuda(api.cuMemcpyHtoDAsync(memory, pinned, 4, stream));
  ck_cuda(api.cuMemcpyHtoDAsync(memory + 4, &other, 4, stream));
  *pinned = other = 2;
  read_back(out, memory, sizeof out);
  ck_assert_int_eq(out[0], 2);
  ck_assert_int_eq(out[1], 1);
  ck_assert_int_eq(api.cuMemcpyHtoDAsync(memory + 8, &other, 4, stream), CUDA_ERROR_INVALID_VALUE);
  ck_cuda(api.cuMemFree(memory));
  ck_cuda(api.cuMemFreeHost(pinned));
  end();
}
END_TEST

/* A captured launch runs once for each launch of the graph, with the memory's contents of then. */
START_TEST(graphs) {
  begin("");
  int zero = 0, out[64][TRIAL_WARP_RESULTS];
  struct trial_args args = {device(&zero, sizeof zero), 0, device(NULL, sizeof out), 0, 0, 0};
  void *parameters[] = {&args};
  CUfunction function;
  CUgraph graph;
  CUgraphExec exec;
  ck_cuda(api.cuModuleGetFunction(&function, module, "trial_warp"));
  ck_cuda(api.cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  ck_cuda(api.cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, stream, parameters, NULL));
  ck_cuda(api.cuStreamEndCapture(stream, &graph));
  ck_cuda(api.cuGraphInstantiate(&exec, graph, 0));
  ck_cuda(api.cuGraphDestroy(graph));
  for (int i = 0; i < 3; i++) ck_cuda(api.cuGraphLaunch(exec, stream));
  read_back(&zero, args.a, sizeof zero);
  ck_assert_int_eq(zero, 3 * 48);
  fake_cuda_counts counts;
  fake.count(&counts);
  ck_assert_uint_eq(counts.launches, 3);
  ck_assert_uint_eq(counts.graph_launches, 3);
  ck_cuda(api.cuGraphExecDestroy(exec));

  ck_cuda(api.cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)); /* what may not be captured */
  CUdeviceptr more;
  ck_assert_int_ne(api.cuMemAlloc(&more, 16), CUDA_SUCCESS);
  ck_assert_int_ne(api.cuStreamEndCapture(stream, &graph), CUDA_SUCCESS);
  ck_assert_ptr_null(graph);
  ck_cuda(api.cuMemFree(args.a));
  ck_cuda(api.cuMemFree(args.out));
  end();
}
END_TEST

START_TEST(failures) {
  begin("memory=1000000");
  CUdeviceptr memory, more;
  ck_cuda(api.cuMemAlloc(&memory, 900000));
  ck_assert_int_eq(api.cuMemAlloc(&more, 100001), CUDA_ERROR_OUT_OF_MEMORY);
  fake.fail_at("cuMemAlloc_v2", 2, CUDA_ERROR_OUT_OF_MEMORY);
  ck_cuda(api.cuMemAlloc(&more, 16));
  ck_cuda(api.cuMemFree(more));
  ck_assert_int_eq(api.cuMemAlloc(&more, 16), CUDA_ERROR_OUT_OF_MEMORY);
  ck_cuda(api.cuMemAlloc(&more, 16));
  ck_cuda(api.cuMemFree(more));
  fake.fail_at(NULL, 1, CUDA_ERROR_ILLEGAL_ADDRESS); /* sticks, and memory is given back all the same */
  ck_assert_int_eq(api.cuMemFree(memory), CUDA_ERROR_ILLEGAL_ADDRESS);
  ck_assert_int_eq(api.cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  end();
}
END_TEST

static CUresult load(const char *settings, const char *image) {
  static CUmodule loaded;
  setenv("OUTRIDER_FAKE_CUDA", settings, 1);
  open_library();
  ck_cuda(api.cuInit(0));
  ck_cuda(api.cuDevicePrimaryCtxRetain(&context, 0));
  ck_cuda(api.cuCtxPushCurrent(context));
  return api.cuModuleLoadData(&loaded, image);
}

START_TEST(images) {
  static const struct {
    const char *settings, *ptx;
    CUresult result;
  } cases[] = {
      {"driver=12060", ".version 7.0\n.target sm_80\n", CUDA_SUCCESS},
      {"driver=12060", ".version 9.0\n.target sm_80\n", CUDA_ERROR_UNSUPPORTED_PTX_VERSION},
      {"driver=13000", ".version 9.0\n.target sm_80\n", CUDA_SUCCESS},
      {"sm=75", ".version 7.0\n.target sm_80\n", CUDA_ERROR_NO_BINARY_FOR_GPU},
      {"", "nothing", CUDA_ERROR_INVALID_PTX},
  };
  ck_assert_int_eq(load(cases[_i].settings, cases[_i].ptx), cases[_i].result);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, products);
  tcase_add_test(tests, shared_memory);
  tcase_add_test(tests, warps);
  tcase_add_test(tests, diverged);
  tcase_add_test(tests, deadlock);
  tcase_add_test(tests, misaligned);
#if WITH_ASAN
  tcase_add_exit_test(tests, over_read, 1);
#endif
  tcase_add_test(tests, late);
  tcase_add_test(tests, graphs);
  tcase_add_test(tests, failures);
  tcase_add_loop_test(tests, images, 0, 5);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: test_cuda_emulation LIBRARY\n");
    return EXIT_FAILURE;
  }
  library = argv[1];
  return suite_run("cuda_emulation", add);
}
