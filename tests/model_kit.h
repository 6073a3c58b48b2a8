// SPDX-License-Identifier: Apache-2.0
/* What tests of models share: runtimes by device, sessions, ids, hashes, and an allocator that counts and can fail. */
#ifndef MODEL_KIT_H
#define MODEL_KIT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "suite.h"
#include "tiny_model.h"

typedef struct kit {
  otr_runtime *runtime;
  otr_model *model;
} kit;

/** Devices of this build that can be opened here: those of the CPU, or with OUTRIDER_TEST_DEVICE=NAME in the
 * environment those whose names begin so ("vulkan") and the reference; with OUTRIDER_TEST_FEW_DEVICES=1 the first only:
 * sanitizers look at what is done around the kernels, which is the same for every device. */
int32_t kit_n_devices(void);
/** Name of one of them; valid until the process ends. */
const char *kit_device(int32_t index);
bool kit_is_gpu(const char *device);
/** Most threads that a test tries on a device: GPUs leave them idle in a pass. */
int32_t kit_most_threads(const char *device);

/** A file of its own in the current folder, "<name>_XXXXXX", for kit_remove. */
char *kit_new_file(const char *name);
void kit_remove(char *path);
/** A shape that is quick to evaluate: for tests that are about positions and not about values. */
llama_shape kit_small_shape(void);
/** The tiny model (shape NULL: as it is) as a file, for kit_remove. */
char *kit_tiny_file(const llama_shape *shape, uint64_t seed);

otr_runtime *kit_runtime(const char *device, int32_t n_threads);
kit kit_open(const char *path, const char *device, int32_t n_threads, const otr_model_params *params);
void kit_close(kit *k);
otr_session *kit_session(otr_model *model, int32_t n_ctx, int32_t n_batch);
int32_t kit_vocab(const otr_model *model);

/** Seeded ids in [0, vocab). */
void kit_ids(int32_t *ids, int32_t n, int32_t vocab, uint64_t seed);
/** Logits [n, vocab] of the ids in one new session, fed `split` at a time; free(). */
float *kit_logits(otr_model *model, const int32_t *ids, int32_t n, int32_t split);
/** SHA-256 of the values, 64 hex digits. */
void kit_hash(char hex[65], const float *values, size_t n);
/** Fails the test at the first value whose bits differ. */
void kit_same(const float *a, const float *b, size_t n, const char *what);

/** An allocator that counts. All its functions may be called from any thread. */
typedef struct kit_counter {
  atomic_long calls, bytes, blocks;
  atomic_long fail_at; /* the call (from 1) that answers NULL; 0: none */
} kit_counter;
otr_allocator kit_allocator(kit_counter *counter);

/** Bytes that grow: what otr_session_save writes to. */
typedef struct kit_bytes {
  uint8_t *data;
  size_t n;
} kit_bytes;
/** otr_session_save's `write`; `user` is a kit_bytes. */
int32_t kit_write(void *user, const void *bytes, size_t n_bytes);
kit_bytes kit_save(const otr_session *session);
/** Puts the right checksum at the end of a state. */
void kit_seal(kit_bytes *state);

#endif
