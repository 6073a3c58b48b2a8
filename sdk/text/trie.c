// SPDX-License-Identifier: Apache-2.0
#include "vocabulary.h"

otr_status otr_trie_create(otr_trie *trie, const otr_allocator *allocator, size_t n_bytes) {
  trie->capacity = n_bytes + 1;
  trie->ids = otr_text_take(allocator, trie->capacity, sizeof *trie->ids);
  if (trie->ids == NULL) return OTR_STATUS_NO_MEMORY;
  trie->ids[0] = -1;
  trie->n_nodes = 1;
  return otr_pair_map_create(&trie->edges, allocator, n_bytes);
}

void otr_trie_destroy(otr_trie *trie, const otr_allocator *allocator) {
  otr_text_give(allocator, trie->ids, trie->capacity, sizeof *trie->ids);
  otr_pair_map_destroy(&trie->edges, allocator);
}

void otr_trie_add(otr_trie *trie, const char *text, size_t n_bytes, int32_t id) {
  if (n_bytes == 0) return;
  uint32_t node = 0;
  for (size_t i = 0; i < n_bytes; ++i) {
    uint32_t fresh = (uint32_t)trie->n_nodes;
    node = otr_pair_map_add(&trie->edges, otr_pair(node, (unsigned char)text[i]), fresh);
    if (node == fresh) trie->ids[trie->n_nodes++] = -1;
  }
  if (trie->ids[node] < 0) trie->ids[node] = id;
  trie->first[(unsigned char)text[0]] = true;
}

int32_t otr_trie_match(const otr_trie *trie, const char *text, size_t n_bytes, size_t *length) {
  int32_t id = -1;
  *length = 0;
  if (n_bytes == 0 || !trie->first[(unsigned char)text[0]]) return id;
  uint32_t node = 0;
  for (size_t i = 0; i < n_bytes; ++i) {
    if (!otr_pair_map_find(&trie->edges, otr_pair(node, (unsigned char)text[i]), &node)) break;
    if (trie->ids[node] < 0) continue;
    id = trie->ids[node];
    *length = i + 1;
  }
  return id;
}
