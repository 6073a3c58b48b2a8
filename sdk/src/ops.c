// SPDX-License-Identifier: Apache-2.0
#include "ops.h"

const char *otr_op_name(otr_op_code code) {
  static const char *const names[] = {
#define X(CODE, name) #name,
      OTR_OP_LIST(X)
#undef X
  };
  return (unsigned)code < OTR_OP_COUNT ? names[code] : "?";
}
