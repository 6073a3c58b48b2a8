// SPDX-License-Identifier: Apache-2.0
/* What the two halves of a case share: check_case.c builds operands, operations and step; check_run.c runs them. */
#ifndef OTR_CHECK_BENCH_H
#define OTR_CHECK_BENCH_H

#include "check_case.h"

enum { OTR_BENCH_ALIGN = 256, OTR_BENCH_PAGES = 64, OTR_BENCH_LAYERS = 2 };

typedef enum otr_place_kind { OTR_FLOATS, OTR_QUANTIZED, OTR_ROUNDED, OTR_HALVES, OTR_PAGES } otr_place_kind;

/* A range that the operation may write. OTR_PAGES: all pages, the rest in otr_bench.page. */
typedef struct otr_output {
  const char *name;
  otr_place_kind kind;
  size_t offset, bytes;
  int32_t rows, width;
} otr_output;

enum { OTR_BENCH_OPS = 3 };

/* One run. It is built twice: first with image NULL, to see how much memory it takes, then for good. */
typedef struct otr_bench {
  const otr_case *c;
  otr_device *device;
  const otr_case_place *place;
  uint8_t *image; /* [size] what the buffer holds before the run */
  uint8_t *after; /* [size] and after it */
  size_t size, used;
  otr_buffer *buffer;
  otr_prepared *prepared;
  uint32_t state;               /* of the generator */
  otr_op op[OTR_BENCH_OPS + 1]; /* up to one without a code */
  otr_program program;
  otr_step step;
  otr_output out[OTR_CASE_OUTPUTS];
  int32_t n_out;
  otr_page page[OTR_BENCH_PAGES];
  int32_t n_pages;
  otr_ref kv_ref;
  uint16_t *kv; /* [2, 256, n_kv_heads, head_dim] canonical keys and values on their way to a page */
  otr_status status;
} otr_bench;

/** Lays the case out: sizes only while b->image is NULL, then data, operations, program and step. b->status tells. */
void otr_bench_build(otr_bench *b);

#endif
