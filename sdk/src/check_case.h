// SPDX-License-Identifier: Apache-2.0
/* One operation on made-up data: how the self-check (self_check.c) and the harness (tests/kernel_check.c) drive a
 * device.
 *
 * A case is a few numbers; its data follow from them, the same on every device. otr_case_run puts all operands into one
 * buffer with patterns between them, runs the operation (after QUANTIZE, ROUND16 or ROPE_KV where it reads what only
 * these write; as the last of a sequence where the case says so), refuses a device that wrote anywhere else than to the
 * outputs, and gives the outputs in canonical form.
 */
#ifndef OTR_CHECK_CASE_H
#define OTR_CHECK_CASE_H

#include "backend.h"

/** Kinds of made-up rows. */
typedef enum otr_case_values {
  OTR_VALUES_PLAIN = 0,    /* about normal, deviation 1 */
  OTR_VALUES_OUTLIERS = 1, /* the same with a few up to 2^13 times as large, and a few tiny ones */
  OTR_VALUES_TIES = 2,     /* (j + 1/2) / 127 beside a 1: half way between two q */
  OTR_VALUES_EDGES = 3,    /* 2^-40, 2^-14, 65504, 6 ... and their neighbours, zeros of both signs */
  OTR_VALUES_EXTREME = 4,  /* +-1: every q is +-127 */
  OTR_VALUES_ZERO = 5,
  OTR_VALUES_ANY = 6,   /* any mantissa, magnitudes from 2^-24 to 2^7: all that exp tells apart */
  OTR_VALUES_MIXED = 7, /* each row one of the above */
  OTR_VALUES_HUGE = 8,  /* plain, but the last of a row is just below 2^48: sums and products are NONFINITE */
  OTR_VALUES_NAN = 9    /* plain, with NaN and infinities: nothing is promised but that nothing else breaks */
} otr_case_values;

/** A case. Fields that an operation does not name are ignored. Static features: -1 is all. */
typedef struct otr_case {
  otr_op_code code;
  otr_case_values values;
  uint32_t seed;
  int32_t m;                       /* rows of the operation */
  int32_t extra_rows;              /* rows that the program has room for beyond those of the pass */
  int32_t logits;                  /* 1: the operation runs on the pass's logits rows */
  int32_t k;                       /* inputs, width */
  int32_t n, n_next;               /* LINEAR: outputs of the first part, and of the others; EMBED: vocab */
  int32_t n_parts, n_static, wide; /* LINEAR; wide: row stride beyond k rounded up to 16, in 16 elements;
                                      NORM: 1: a gain for each group */
  int32_t kind;                    /* NORM, GLU, ACT, EMBED (weight type) */
  int32_t bias;                    /* 1: NORM, LINEAR have a bias, EMBED a position table */
  int32_t groups;                  /* NORM */
  int32_t alias;                   /* 1: out is x (NORM, ACT) or gate (GLU); 2: out is up */
  otr_rule rule;
  int32_t batch;
  int32_t after;  /* QUANTIZE: 1: of the norm of a sum, 2: of a GLU, which a device may do in one kernel with it */
  float constant; /* NORM eps; EMBED scale, 0: none; ATTENTION score scale */
  int32_t n_heads, n_kv_heads, head_dim, n_rot, slopes, window; /* ROPE_KV, ATTENTION */
  int32_t position, n_sequences; /* rows are shared out to sequences that begin at position, position + 37 ... */
  uint32_t dropped;              /* bit p: page p is absent, where no row is written to it */
} otr_case;

/** Where input operands lie, when not in the case's own buffer: returns [bytes] host memory that `ref` names on the
 *  device, or NULL for the ordinary way. */
typedef struct otr_case_place {
  void *user;
  void *(*take)(void *user, otr_device *device, size_t bytes, otr_ref *ref);
} otr_case_place;

#define OTR_CASE_OUTPUTS 8
typedef struct otr_case_output {
  const char *name;
  size_t offset, row_bytes; /* in otr_case_image.bytes */
  int32_t rows;
} otr_case_output;

/** What a case gave. */
typedef struct otr_case_image {
  uint8_t *bytes;
  size_t n_bytes;
  otr_step_result result;
  otr_case_output output[OTR_CASE_OUTPUTS];
  int32_t n_outputs;
} otr_case_image;

/** Runs a case.
 *  @param place NULL: all operands in one buffer @param image NULL, or receives the outputs: otr_case_image_free
 *  @param seconds NULL, or receives the best time of `repeats` runs
 *  @return OK, NO_DEVICE (something beside the outputs was written), or what the device fails with. */
otr_status otr_case_run(otr_device *device, const otr_case *c, const otr_case_place *place, otr_case_image *image,
                        int32_t repeats, double *seconds);
void otr_case_image_free(otr_memory *memory, otr_case_image *image);
/** @return OK, or NO_DEVICE: the detail names the operation and the place where `got` departs from `expected`. */
otr_status otr_case_compare(const otr_case *c, const otr_case_image *expected, const otr_case_image *got);

#endif
