// SPDX-License-Identifier: Apache-2.0
/* The bits of every f32 operation depend on the rounding mode and on flushing. Tasks run on threads whose mode is
 * unknown (the app's own, or workers that took over their maker's): each sets the mode and puts it back. */
#ifndef OTR_FLOAT_MODE_H
#define OTR_FLOAT_MODE_H

#if defined(__SSE2__)
#include <xmmintrin.h>
typedef unsigned int otr_float_mode;
/** Nearest even, no flushing, all exceptions masked. @return the mode before, for otr_float_mode_leave. */
static inline otr_float_mode otr_float_mode_enter(void) {
  otr_float_mode before = _mm_getcsr();
  _mm_setcsr(0x1f80);
  return before;
}
static inline void otr_float_mode_leave(otr_float_mode before) {
  _mm_setcsr(before);
}
#elif defined(__aarch64__)
#include <stdint.h>
typedef uint64_t otr_float_mode;
static inline otr_float_mode otr_float_mode_enter(void) {
  otr_float_mode before;
  __asm__ volatile("mrs %0, fpcr" : "=r"(before)::"memory");
  __asm__ volatile("msr fpcr, xzr" ::: "memory");
  return before;
}
static inline void otr_float_mode_leave(otr_float_mode before) {
  __asm__ volatile("msr fpcr, %0" ::"r"(before) : "memory");
}
#else /* rounding only: <fenv.h> knows nothing of flushing */
#include <fenv.h>
typedef int otr_float_mode;
static inline otr_float_mode otr_float_mode_enter(void) {
  otr_float_mode before = fegetround();
  fesetround(FE_TONEAREST);
  return before;
}
static inline void otr_float_mode_leave(otr_float_mode before) {
  fesetround(before);
}
#endif

#endif
