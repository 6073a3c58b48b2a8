/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime from an app: the header and the library are of one version, and a product is right. */
#include <math.h>
#include <outrider/outrider.h>
#include <stdio.h>

static int product(otr_runtime *runtime) {
  const float weights[2 * 4] = {127, 0, 0, 0, 0, 64, 127, 0}; /* [2, 4]; exact in 8 bits */
  const float x[4] = {1, -1, 1, 0};
  float y[2] = {0, 0};
  otr_linear_params params = {.struct_size = sizeof params, .type = OTR_LINEAR_F32, .n = 2, .k = 4, .weights = weights};
  otr_linear *linear = NULL;
  otr_status status = otr_linear_create(runtime, &params, &linear);
  if (status == OTR_STATUS_OK) status = otr_linear_run(linear, y, x, 1);
  otr_linear_destroy(linear);
  printf("%s: %g %g\n", otr_status_text(status), (double)y[0], (double)y[1]);
  return status == OTR_STATUS_OK && fabsf(y[0] - 127) < 0.01f && fabsf(y[1] - 63) < 0.01f;
}

int main(void) {
  otr_runtime_params params = OTR_RUNTIME_PARAMS_INIT;
  otr_version_info version = otr_version();
  otr_runtime *runtime;
  params.n_threads = 2;
  if (version.major != OTR_VERSION_MAJOR || version.minor != OTR_VERSION_MINOR) {
    printf("library %d.%d, header %d.%d\n", (int)version.major, (int)version.minor, OTR_VERSION_MAJOR,
           OTR_VERSION_MINOR);
    return 1;
  }
  if (otr_runtime_create(&params, &runtime) != OTR_STATUS_OK) {
    printf("%s\n", otr_error_detail());
    return 1;
  }
  int good = product(runtime);
  if (otr_runtime_destroy(runtime) != OTR_STATUS_OK) good = 0;
  return good ? 0 : 1;
}
