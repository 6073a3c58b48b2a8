// SPDX-License-Identifier: Apache-2.0
/* Two hash maps with open addressing, built once: texts of an arena to ids, and pairs of 32-bit numbers to a number. */
#ifndef OTR_TEXT_MAP_H
#define OTR_TEXT_MAP_H

#include "support.h"

/** Texts one behind the other: text i is bytes[start[i] … start[i + 1]). */
typedef struct otr_texts {
  char *bytes;
  uint32_t *start; /**< [n + 1] */
} otr_texts;

static inline const char *otr_texts_at(const otr_texts *texts, int32_t i, size_t *n_bytes) {
  *n_bytes = texts->start[i + 1] - texts->start[i];
  return texts->bytes + texts->start[i];
}

typedef struct otr_text_map {
  const otr_texts *texts;
  struct otr_text_slot {
    uint32_t hash;
    int32_t id_plus_1; /**< 0: free */
  } * slots;           /**< [n_slots], a power of two */
  size_t n_slots;
} otr_text_map;

/** A map for at most n texts of `texts`, which must outlive it. */
otr_status otr_text_map_create(otr_text_map *map, const otr_allocator *allocator, const otr_texts *texts, size_t n);
void otr_text_map_destroy(otr_text_map *map, const otr_allocator *allocator);
/** Adds texts[id] unless an equal one is there. */
void otr_text_map_add(otr_text_map *map, int32_t id);
/** @return the id of a text, −1 when there is none. */
int32_t otr_text_map_find(const otr_text_map *map, const char *text, size_t n_bytes);

typedef struct otr_pair_map {
  struct otr_pair_slot {
    uint64_t key;
    uint32_t value_plus_1; /**< 0: free */
  } * slots;               /**< [n_slots], a power of two */
  size_t n_slots;
} otr_pair_map;

static inline uint64_t otr_pair(uint32_t a, uint32_t b) {
  return (uint64_t)a << 32 | b;
}

/** A map for at most n pairs. */
otr_status otr_pair_map_create(otr_pair_map *map, const otr_allocator *allocator, size_t n);
void otr_pair_map_destroy(otr_pair_map *map, const otr_allocator *allocator);
/** Adds a pair (value < UINT32_MAX) unless it is there. @return the value it has now. */
uint32_t otr_pair_map_add(otr_pair_map *map, uint64_t key, uint32_t value);
/** @return true and the pair's value, or false. */
bool otr_pair_map_find(const otr_pair_map *map, uint64_t key, uint32_t *value);

#endif
