// SPDX-License-Identifier: Apache-2.0
/* Which device code runs on a device, and its kernels by name. */
#include <stdio.h>

#include "cuda_device.h"
#include "status.h"

enum { SHARED_WITHOUT_ASKING = 48 << 10 }; /* bytes of dynamic shared memory that every kernel may have */

/** How good an image is for a device, larger is better; 0: it cannot run. Machine code runs on devices of its own major
 *  capability from its minor one on, PTX on everything above what it is written for. */
static int32_t fitness(const cuda_image *image, const cuda_caps *caps) {
  int32_t capability = 10 * caps->major + caps->minor;
  if (image->capability > capability) return 0;
  if (image->is_ptx) return image->capability;
  return image->capability / 10 == caps->major ? 1000 + image->capability : 0;
}

/* Images of one fitness (the same code for drivers of two generations) are tried in the table's order. */
const cuda_image *cuda_choose_image(const cuda_image *images, int32_t n, const cuda_caps *caps,
                                    const cuda_image *after) {
  const cuda_image *best = NULL;
  for (const cuda_image *i = images; i < images + n; i++) {
    int32_t fit = fitness(i, caps), last = after ? fitness(after, caps) : INT32_MAX;
    bool is_left = fit > 0 && (fit < last || (fit == last && i > after));
    if (is_left && (!best || fit > fitness(best, caps))) best = i;
  }
  return best;
}

/** True for results that speak of the image: another one may still do. */
static bool is_refused(CUresult result) {
  return result == CUDA_ERROR_INVALID_IMAGE || result == CUDA_ERROR_NO_BINARY_FOR_GPU ||
         (result >= CUDA_ERROR_INVALID_PTX && result <= CUDA_ERROR_UNSUPPORTED_PTX_VERSION) ||
         result == CUDA_ERROR_NOT_SUPPORTED;
}

static otr_status load_best(cuda_device *d) {
  const cuda_caps *caps = &d->traits.caps;
  CUresult result = CUDA_SUCCESS;
  const cuda_image *image = NULL, *last = NULL;
  while ((image = cuda_choose_image(cuda_images, cuda_n_images, caps, last)) != NULL) {
    result = d->api->cuModuleLoadData(&d->module, image->data);
    d->image = image;
    if (!is_refused(result)) return cuda_result(d, result, "cuModuleLoadData");
    d->module = NULL;
    last = image;
  }
  if (!last)
    return otr_fail(OTR_STATUS_NO_DEVICE, "%s: no kernel image of this build is for capability %d.%d", d->name,
                    caps->major, caps->minor);
  return otr_fail(OTR_STATUS_NO_DEVICE, "%s: the driver (CUDA %d.%d) refuses the kernel image %s: %s", d->name,
                  d->api->version / 1000, d->api->version % 1000 / 10, last->name, cuda_error_name(d->api, result));
}

static otr_status find_kernel(cuda_device *d, cuda_kernel kernel, const char *name, int32_t shared_bytes) {
  CUresult result = d->api->cuModuleGetFunction(&d->function[kernel], d->module, name);
  if (result != CUDA_SUCCESS) return otr_fail_in(cuda_result(d, result, "cuModuleGetFunction"), "kernel %s", name);
  if (shared_bytes <= SHARED_WITHOUT_ASKING) return OTR_STATUS_OK;
  if (shared_bytes > d->traits.caps.shared_per_block) shared_bytes = d->traits.caps.shared_per_block;
  CUDA_TRY(d, cuFuncSetAttribute(d->function[kernel], CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes));
  return OTR_STATUS_OK;
}

otr_status cuda_load_kernels(cuda_device *d) {
  OTR_TRY(load_best(d));
#define X(name, shared) OTR_TRY(find_kernel(d, CUDA_KERNEL_##name, "otr_" #name, shared));
  CUDA_KERNEL_LIST(X)
#undef X
  return OTR_STATUS_OK;
}
