// SPDX-License-Identifier: Apache-2.0
#include "map.h"

#include <string.h>

/* At most half of the slots are taken. 0 when there cannot be so many. */
static size_t slots_for(size_t n) {
  size_t slots = 16;
  while (slots / 2 < n) {
    if (slots > SIZE_MAX / 4) return 0;
    slots *= 2;
  }
  return slots;
}

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
  x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
  return x ^ (x >> 32);
}

static uint32_t hash_text(const char *text, size_t n_bytes) {
  uint64_t h = n_bytes;
  for (; n_bytes >= 8; n_bytes -= 8, text += 8) {
    uint64_t word;
    memcpy(&word, text, 8);
    h = mix(h ^ word);
  }
  uint64_t word = 0;
  if (n_bytes > 0) memcpy(&word, text, n_bytes);
  return (uint32_t)mix(h ^ word);
}

otr_status otr_text_map_create(otr_text_map *map, const otr_allocator *allocator, const otr_texts *texts, size_t n) {
  map->texts = texts;
  map->n_slots = slots_for(n);
  map->slots = otr_text_take(allocator, map->n_slots, sizeof *map->slots);
  return map->slots != NULL ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

void otr_text_map_destroy(otr_text_map *map, const otr_allocator *allocator) {
  otr_text_give(allocator, map->slots, map->n_slots, sizeof *map->slots);
}

/* The slot of a text, or the free one where it would be. */
static struct otr_text_slot *find_text(const otr_text_map *map, const char *text, size_t n_bytes, uint32_t hash) {
  for (size_t i = hash;; ++i) {
    struct otr_text_slot *slot = &map->slots[i & (map->n_slots - 1)];
    if (slot->id_plus_1 == 0) return slot;
    if (slot->hash != hash) continue;
    size_t bytes;
    const char *other = otr_texts_at(map->texts, slot->id_plus_1 - 1, &bytes);
    if (bytes == n_bytes && memcmp(text, other, bytes) == 0) return slot;
  }
}

void otr_text_map_add(otr_text_map *map, int32_t id) {
  size_t n_bytes;
  const char *text = otr_texts_at(map->texts, id, &n_bytes);
  uint32_t hash = hash_text(text, n_bytes);
  struct otr_text_slot *slot = find_text(map, text, n_bytes, hash);
  if (slot->id_plus_1 == 0) *slot = (struct otr_text_slot){hash, id + 1};
}

int32_t otr_text_map_find(const otr_text_map *map, const char *text, size_t n_bytes) {
  return find_text(map, text, n_bytes, hash_text(text, n_bytes))->id_plus_1 - 1;
}

otr_status otr_pair_map_create(otr_pair_map *map, const otr_allocator *allocator, size_t n) {
  map->n_slots = slots_for(n);
  map->slots = otr_text_take(allocator, map->n_slots, sizeof *map->slots);
  return map->slots != NULL ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

void otr_pair_map_destroy(otr_pair_map *map, const otr_allocator *allocator) {
  otr_text_give(allocator, map->slots, map->n_slots, sizeof *map->slots);
}

static struct otr_pair_slot *find_pair(const otr_pair_map *map, uint64_t key) {
  for (size_t i = (size_t)mix(key);; ++i) {
    struct otr_pair_slot *slot = &map->slots[i & (map->n_slots - 1)];
    if (slot->value_plus_1 == 0 || slot->key == key) return slot;
  }
}

uint32_t otr_pair_map_add(otr_pair_map *map, uint64_t key, uint32_t value) {
  struct otr_pair_slot *slot = find_pair(map, key);
  if (slot->value_plus_1 == 0) *slot = (struct otr_pair_slot){key, value + 1};
  return slot->value_plus_1 - 1;
}

bool otr_pair_map_find(const otr_pair_map *map, uint64_t key, uint32_t *value) {
  const struct otr_pair_slot *slot = find_pair(map, key);
  *value = slot->value_plus_1 - 1;
  return slot->value_plus_1 != 0;
}
