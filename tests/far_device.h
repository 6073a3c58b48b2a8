// SPDX-License-Identifier: Apache-2.0
/* For tests: the reference behind a device whose memory the host does not see, as a GPU is to the runtime. Linked into
 * a program it stands in the place of the build's backends: "far:0" copies weights, takes no large buffer and lies
 * first; "far:1" reads a file's weights in place; then comes the reference, "cpu". Each call can be made to fail. */
#ifndef FAR_DEVICE_H
#define FAR_DEVICE_H

#include <stdatomic.h>

#include "backend.h"

enum { FAR_MAX_BUFFER = 20000 }; /* bytes; of "far:0" */

/** What the process's far devices hold and do. */
typedef struct far_state {
  atomic_long calls;             /* that may fail */
  atomic_long fail_at;           /* the call (from 1) that fails; 0: none */
  otr_status fail_with;          /* DEVICE_LOST: so do all calls after it, until the device is closed */
  atomic_long buffers, prepared; /* alive */
  atomic_long devices, bytes;    /* open; of buffers */
  otr_device_params opened_with; /* of the last open */
  /* "far:wrong", listed when a test says so: */
  int32_t show_wrong, hide_others;
  int32_t demotions;      /* so many demotes switch one thing off each; then none is left */
  int32_t demotions_cure; /* after so many its kernels are right */
  int32_t demoted;        /* how often demote has been called */
  otr_op_code demoted_op; /* by the last */
  int32_t checks_proven;  /* 1: it says that its cache holds the verdict */
  int32_t told_proven;    /* set_proven was called */
} far_state;
extern far_state far;

#endif
