// SPDX-License-Identifier: Apache-2.0
#include "self_check.h"

otr_status otr_self_check(otr_device *device, otr_device *reference, double *seconds) {
  (void)device;
  (void)reference;
  *seconds = 0.0;
  return OTR_STATUS_OK;
}
