// SPDX-License-Identifier: Apache-2.0
/* The check that a device gives the reference's bits, short enough for every start of a runtime. */
#ifndef OTR_SELF_CHECK_H
#define OTR_SELF_CHECK_H

#include "backend.h"

/** Runs a small fixed set of every operation, each code path of it, on both devices and compares all outputs bit for
 *  bit; then times a fixed work of LINEARs.
 *  @param device    the device under test; may be `reference` itself, which is then only timed
 *  @param[out] failed  the operation that gave other bits; OTR_OP_COUNT: none did
 *  @param[out] seconds time of the fixed work, best of several: the smaller the faster the device
 *  @return OK, NO_DEVICE (other bits: the detail names the operation), NO_MEMORY, or what the device fails with. */
otr_status otr_self_check(otr_device *device, otr_device *reference, otr_op_code *failed, double *seconds);

#endif
