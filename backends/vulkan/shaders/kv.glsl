// SPDX-License-Identifier: Apache-2.0
/* KV pages: words of set 1's windows. A page is a piece per layer, in it a piece per KV head: keys as [d / 8][256] sixteens
 * of bytes, of 8 features of a position each, so that neighbouring positions are neighbours; then values as
 * [256][d / 2] words of two features. Both zero beyond d. Layout: ../vulkan_layout.c. */
#ifndef OTR_VULKAN_KV
#define OTR_VULKAN_KV

#define KV_WINDOWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

#define KV_VIEWS(i)                                                                  \
  layout(std430, set = 1, binding = i) KV_ACCESS buffer kv_words_##i { uint kv_word_##i[]; }; \
  layout(std430, set = 1, binding = i) KV_ACCESS buffer kv_fours_##i { uvec4 kv_four_##i[]; };
KV_WINDOWS(KV_VIEWS)

/* One window is used by all of a workgroup, so that no thread waits for another's branch. */
#define KV_LOAD(i) case i: return kv_word_##i[at];
#define KV_LOAD4(i) case i: return kv_four_##i[at];
#define KV_STORE(i) case i: kv_word_##i[at] = word; break;

#ifdef KV_WRITES
void kv_store(uint window, uint at, uint word) {
  switch (int(window)) { KV_WINDOWS(KV_STORE) }
}
#else
uint kv_load(uint window, uint at) {
  switch (int(window)) { KV_WINDOWS(KV_LOAD) }
  return 0u;
}
uvec4 kv_load4(uint window, uint at) {
  switch (int(window)) { KV_WINDOWS(KV_LOAD4) }
  return uvec4(0u);
}
#endif

uint key_words(uint head_dim) { return (head_dim + 7u) / 8u * (4u * OTR_CHUNK); }
uint value_words(uint head_dim) { return (head_dim + 1u) / 2u * OTR_CHUNK; }

#endif
