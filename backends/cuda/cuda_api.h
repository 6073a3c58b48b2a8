// SPDX-License-Identifier: Apache-2.0
/* The entry points of the CUDA driver that the backend uses, found in libcuda.so.1 at run time: a program that holds
 * this backend runs where there is no driver. Types and values as in NVIDIA's cuda.h, of which only this is needed. */
#ifndef OTR_CUDA_API_H
#define OTR_CUDA_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUuuid {
  char bytes[16];
} CUuuid;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

enum {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_DEINITIALIZED = 4,
  CUDA_ERROR_STUB_LIBRARY = 34, /* the toolkit's stub was loaded in the driver's place */
  CUDA_ERROR_DEVICE_UNAVAILABLE = 46,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
  CUDA_ERROR_ECC_UNCORRECTABLE = 214,
  CUDA_ERROR_INVALID_PTX = 218,
  CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
  CUDA_ERROR_LAUNCH_TIMEOUT = 702,
  CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
  CUDA_ERROR_ASSERT = 710,
  CUDA_ERROR_HARDWARE_STACK_ERROR = 714,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_SYSTEM_NOT_READY = 802,
  CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
  CUDA_ERROR_UNKNOWN = 999
};

enum { /* CUdevice_attribute */
       CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
       CU_DEVICE_ATTRIBUTE_INTEGRATED = 18,
       CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
       CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
       CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81,
       CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
       CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED = 99,
       CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED = 113
};

enum {
  CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
  CU_MEMHOSTREGISTER_DEVICEMAP = 2,
  CU_MEMHOSTREGISTER_READ_ONLY = 8,
  CU_STREAM_NON_BLOCKING = 1,
  CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1,
  CU_EVENT_DISABLE_TIMING = 2
};

/* X(member, symbol, parameters); all return CUresult. Every one is there since CUDA 11.4. */
#define CUDA_API_LIST(X)                                                                                            \
  X(cuInit, cuInit, (unsigned flags))                                                                               \
  X(cuDriverGetVersion, cuDriverGetVersion, (int *version))                                                         \
  X(cuGetErrorName, cuGetErrorName, (CUresult error, const char **name))                                            \
  X(cuDeviceGetCount, cuDeviceGetCount, (int *count))                                                               \
  X(cuDeviceGet, cuDeviceGet, (CUdevice * device, int ordinal))                                                     \
  X(cuDeviceGetName, cuDeviceGetName, (char *name, int bytes, CUdevice device))                                     \
  X(cuDeviceGetUuid, cuDeviceGetUuid_v2, (CUuuid * uuid, CUdevice device))                                          \
  X(cuDeviceTotalMem, cuDeviceTotalMem_v2, (size_t * bytes, CUdevice device))                                       \
  X(cuDeviceGetAttribute, cuDeviceGetAttribute, (int *value, int attribute, CUdevice device))                       \
  X(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                     \
  X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                     \
  X(cuCtxPushCurrent, cuCtxPushCurrent_v2, (CUcontext context))                                                     \
  X(cuCtxPopCurrent, cuCtxPopCurrent_v2, (CUcontext * context))                                                     \
  X(cuCtxGetCurrent, cuCtxGetCurrent, (CUcontext * context))                                                        \
  X(cuCtxGetStreamPriorityRange, cuCtxGetStreamPriorityRange, (int *least, int *greatest))                          \
  X(cuModuleLoadData, cuModuleLoadData, (CUmodule * module, const void *image))                                     \
  X(cuModuleUnload, cuModuleUnload, (CUmodule module))                                                              \
  X(cuModuleGetFunction, cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))           \
  X(cuFuncSetAttribute, cuFuncSetAttribute, (CUfunction function, int attribute, int value))                        \
  X(cuMemAlloc, cuMemAlloc_v2, (CUdeviceptr * address, size_t bytes))                                               \
  X(cuMemFree, cuMemFree_v2, (CUdeviceptr address))                                                                 \
  X(cuMemAllocHost, cuMemAllocHost_v2, (void **address, size_t bytes))                                              \
  X(cuMemFreeHost, cuMemFreeHost, (void *address))                                                                  \
  X(cuMemHostRegister, cuMemHostRegister_v2, (void *address, size_t bytes, unsigned flags))                         \
  X(cuMemHostUnregister, cuMemHostUnregister, (void *address))                                                      \
  X(cuMemHostGetDevicePointer, cuMemHostGetDevicePointer_v2, (CUdeviceptr * device, void *host, unsigned flags))    \
  X(cuMemsetD8Async, cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))         \
  X(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))     \
  X(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream))           \
  X(cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))     \
  X(cuStreamCreateWithPriority, cuStreamCreateWithPriority, (CUstream * stream, unsigned flags, int priority))      \
  X(cuStreamDestroy, cuStreamDestroy_v2, (CUstream stream))                                                         \
  X(cuStreamSynchronize, cuStreamSynchronize, (CUstream stream))                                                    \
  X(cuStreamBeginCapture, cuStreamBeginCapture_v2, (CUstream stream, int mode))                                     \
  X(cuStreamEndCapture, cuStreamEndCapture, (CUstream stream, CUgraph * graph))                                     \
  X(cuEventCreate, cuEventCreate, (CUevent * event, unsigned flags))                                                \
  X(cuEventDestroy, cuEventDestroy_v2, (CUevent event))                                                             \
  X(cuEventRecord, cuEventRecord, (CUevent event, CUstream stream))                                                 \
  X(cuEventSynchronize, cuEventSynchronize, (CUevent event))                                                        \
  X(cuGraphInstantiate, cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags)) \
  X(cuGraphLaunch, cuGraphLaunch, (CUgraphExec exec, CUstream stream))                                              \
  X(cuGraphDestroy, cuGraphDestroy, (CUgraph graph))                                                                \
  X(cuGraphExecDestroy, cuGraphExecDestroy, (CUgraphExec exec))                                                     \
  X(cuLaunchKernel, cuLaunchKernel,                                                                                 \
    (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,    \
     unsigned block_z, unsigned shared_bytes, CUstream stream, void **parameters, void **extra))

typedef struct cuda_api {
#define X(member, symbol, parameters) CUresult(*member) parameters;
  CUDA_API_LIST(X)
#undef X
  int version;   /* of the driver: 1000 * major + 10 * minor */
  int n_devices; /* may be 0 */
} cuda_api;

/** The driver: libcuda.so.1, or the library that OUTRIDER_CUDA_DRIVER names; kept for the life of the process once it
 *  is there, looked for again by each call until then.
 *  @param reason [reason_bytes] receives why there is none: missing, a stub, too old, or what it says itself
 *  @return the table, or NULL. @threads Any. */
const cuda_api *cuda_api_get(char *reason, size_t reason_bytes);

/** "CUDA_ERROR_...", the driver's name of a result. `api` as cuda_api_get gave it. */
const char *cuda_error_name(const cuda_api *api, CUresult result);

#endif
