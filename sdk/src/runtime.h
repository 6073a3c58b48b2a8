// SPDX-License-Identifier: Apache-2.0
#ifndef OTR_RUNTIME_H
#define OTR_RUNTIME_H

#include <pthread.h>

#include "backend.h"

struct otr_runtime {
  otr_memory memory;
  otr_parallel *parallel;
  otr_device *device;
  otr_device_info info;
  atomic_int users;     /* open models and linears */
  pthread_mutex_t turn; /* one pass on the device at a time */
  otr_log_fn log;
  void *log_user;
};

/** Takes the device, waiting for others; otr_runtime_end gives it back.
 *  @return OK, or BUSY when called from within the caller's own parallel_for: nothing was taken. */
otr_status otr_runtime_begin(otr_runtime *runtime);
void otr_runtime_end(otr_runtime *runtime);

/** One line to the caller's log, if there is one (printf form). */
void otr_log(const otr_runtime *runtime, otr_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** A params struct as this version knows it: `to` is cleared, then filled from the caller's (maybe shorter or longer)
 *  struct. NULL gives defaults. @return false when struct_size is impossible. */
bool otr_params_read(void *to, size_t bytes, const void *from);
/** Copies a result to the caller's struct, no more than its struct_size says. @return false as above. */
bool otr_info_write(void *to, const void *from, size_t bytes);

#endif
