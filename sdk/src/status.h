// SPDX-License-Identifier: Apache-2.0
/* Failing with a reason: the calling thread's error detail. */
#ifndef OTR_STATUS_H
#define OTR_STATUS_H

#include "outrider/outrider.h"

#define OTR_DETAIL_BYTES 320

/** Sets the thread's detail (printf form, cut to one line of OTR_DETAIL_BYTES) and returns `status`. */
otr_status otr_fail(otr_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Puts "prefix: " before the thread's detail and returns `status`: adds where to what. */
otr_status otr_fail_in(otr_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Copies of the detail, to carry it from a worker thread. */
void otr_detail_get(char out[OTR_DETAIL_BYTES]);
void otr_detail_set(const char *detail);

/** Returns from the calling function when `expression` is not OK. */
#define OTR_TRY(expression)                        \
  do {                                             \
    otr_status otr_try_status = (expression);      \
    if (otr_try_status != OTR_STATUS_OK) return otr_try_status; \
  } while (0)

#endif
