// SPDX-License-Identifier: Apache-2.0
/* recip and sqrt on the CUDA device are the IEEE values: over every mantissa, and at the ends of the exponents. */
#include "cuda_device.h"
#include "kernels/args.h"
#include "numerics.h"
#include "status.h"
#include "suite.h"

enum { PIECE = 1 << 20, BLOCKS = 16, THREADS = 256 };

static otr_memory memory;
static otr_parallel *parallel;
static otr_device *device;
static otr_buffer *buffer;

static void begin(void) {
  otr_memory_init(&memory, NULL);
  ck_ok(otr_parallel_create(&memory, 1, NULL, NULL, &parallel));
  otr_device_params params = {.memory = &memory, .parallel = parallel, .max_submit_ms = INT32_MAX};
  ck_ok(otr_cuda_backend.open(0, &params, &device));
  ck_ok(device->ops->buffer_create(device, PIECE * sizeof(uint32_t), &buffer));
}

static void end(void) {
  device->ops->buffer_destroy(device, buffer);
  device->ops->close(device);
  otr_parallel_destroy(parallel);
  ck_assert_uint_eq(memory.now, 0);
}

static otr_status run(cuda_device *d, struct cuda_numerics_args args) {
  void *parameters[] = {&args};
  CUDA_TRY(d, cuLaunchKernel(d->function[CUDA_KERNEL_numerics], BLOCKS, 1, 1, THREADS, 1, 1, 0, d->stream, parameters,
                             NULL));
  CUDA_TRY(d, cuStreamSynchronize(d->stream));
  return OTR_STATUS_OK;
}

/** The floats with bits [first, first + n), n at most PIECE. */
static void check_piece(uint32_t first, uint32_t n, int32_t is_sqrt) {
  static uint32_t got[PIECE];
  cuda_device *d = (cuda_device *)device;
  struct cuda_numerics_args args = {.out = cuda_address((otr_ref){buffer, 0}), .first = first, .n = n};
  args.is_sqrt = is_sqrt;
  ck_ok(cuda_enter(d));
  ck_ok(cuda_leave(d, run(d, args)));
  ck_ok(device->ops->buffer_read(device, buffer, 0, got, n * sizeof *got));
  for (uint32_t i = 0; i < n; i++) {
    float x = OTR_FLOAT(first + i);
    uint32_t expected = OTR_BITS(is_sqrt ? otr_sqrt(x) : otr_recip(x));
    if (got[i] != expected)
      ck_abort_msg("%s of %a: bits %08x, expected %08x", is_sqrt ? "sqrt" : "recip", (double)x, got[i], expected);
  }
}

/** All mantissas of the exponents (with bias) [from, to). */
static void check_exponents(uint32_t from, uint32_t to, int32_t is_sqrt) {
  for (uint32_t bits = from << 23; bits < to << 23; bits += PIECE) check_piece(bits, PIECE, is_sqrt);
}

START_TEST(every_mantissa) {
  begin();
  check_exponents(127, 128, 0);
  check_exponents(127, 129, 1);
  end();
}
END_TEST

START_TEST(every_exponent) {
  begin();
  for (uint32_t exponent = 1; exponent <= 252; exponent++) {
    check_piece(exponent << 23, 256, 0);
    check_piece(0x80000000u | exponent << 23, 256, 0);
    check_piece(exponent << 23, 256, 1);
  }
  check_piece(0, 1, 1);
  end();
}
END_TEST

static void add_tests(TCase *tests) {
  tcase_set_timeout(tests, 600);
  tcase_add_test(tests, every_mantissa);
  tcase_add_test(tests, every_exponent);
}

int main(void) {
  return suite_run("cuda_numerics", add_tests);
}
