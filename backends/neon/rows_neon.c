// SPDX-License-Identifier: Apache-2.0
#include "neon_vec.h"
#include "rows.h"
#include "vec_common.h"

#define ISA(name) otr_##name##_neon
#include "attention.inc"
#include "rows.inc"
