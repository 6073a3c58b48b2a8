// SPDX-License-Identifier: Apache-2.0
/* The AVX-VNNI linears in their EVEX form: what a machine with AVX-512 VNNI but no AVX-VNNI can test. */
#define ISA avxvnni_evex
#include "linear_avxvnni.c"
