// SPDX-License-Identifier: Apache-2.0
/* What a GPU's memory can do at most, measured: the yardstick of a decode on it. */
#ifndef TOOL_DEVICE_LIMITS_H
#define TOOL_DEVICE_LIMITS_H

#include "backend.h"

/** Times copies within the device's memory and raises *copy_gbs (10^9 bytes a second, read and written ones counted)
 *  where the figure is higher. Takes up to 512 MiB of that memory for the moment, less where there is less.
 *  @return OK, or the device's failure */
otr_status tool_device_copy_measure(otr_device *device, double *copy_gbs);

#endif
