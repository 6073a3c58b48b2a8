// SPDX-License-Identifier: Apache-2.0
#include "rows.h"
#include "vec_avx512.h"
#include "vec_common.h"

#define ISA(name) otr_##name##_avx512
#include "attention.inc"
#include "rows.inc"
