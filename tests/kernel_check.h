// SPDX-License-Identifier: Apache-2.0
/* The harness: every operation of every device against the reference, bit for bit. */
#ifndef KERNEL_CHECK_H
#define KERNEL_CHECK_H

#include <stdbool.h>
#include <stdio.h>

#include "backend.h"
#include "check_case.h"
#include "check_data.h"
#include "kernels.h"

enum { MAX_DEVICES = 16, THREAD_COUNTS = 3 };

/** A device opened with 1, 2 and 3 threads; a GPU once, for all three. */
typedef struct subject {
  otr_device_info info;
  otr_parallel *parallel[THREAD_COUNTS];
  otr_device *device[THREAD_COUNTS];
} subject;

/** Devices under test; the reference is first. */
typedef struct subjects {
  otr_memory memory;
  subject of[MAX_DEVICES];
  int n;
} subjects;

/** `only` NULL: the devices of the CPU; else the reference and the devices whose names begin with `only` ("vulkan").
 *  False: something failed. */
bool subjects_open(subjects *s, const char *only);
void subjects_close(subjects *s);

/** How many cases, and how large. */
typedef struct effort {
  int cases;        /* random ones of each operation */
  int32_t max_dim;  /* of widths, inputs, outputs */
  int64_t max_work; /* multiply-adds of a case, about */
} effort;
extern const effort effort_quick, effort_full;

/** Number of chosen cases of an operation; then chosen case `index`. Chosen cases come before the random ones. */
int chosen_cases(otr_op_code code);
otr_case chosen_case(otr_op_code code, int index);
/** A case of `code` that follows from `seed`. */
otr_case random_case(otr_op_code code, uint32_t seed, const effort *e);
/** One line that says all of a case. */
void case_print(FILE *to, const otr_case *c);

/** Runs a case on the reference and on every other device, operands fenced where `fenced`, with the thread count that
 *  `turn` picks.
 *  @return NULL, or what is wrong (static text, valid until the next call). */
const char *case_check(subjects *s, const otr_case *c, bool fenced, int turn);

/** Times every operation on typical shapes on every device. */
int kernel_bench(const char *only_device, const char *only_op);

/** Devices with one mistake each, which the harness must find: in a kernel, or in how an operation without a kernel of
 *  its own is done. */
typedef struct mutant {
  const char *name;
  otr_op_code code; /* the operation whose cases must show it */
  otr_cpu_kernels kernels;
  void (*alter)(otr_op *op); /* or NULL: what the device takes an operation of `code` for */
} mutant;
int mutants(const mutant **out);
/** Opens a mutant's device as s->of[s->n++]; one that alters operations at a time. */
bool subjects_add_mutant(subjects *s, const mutant *m);

#endif
