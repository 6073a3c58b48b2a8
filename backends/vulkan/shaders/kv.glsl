// SPDX-License-Identifier: Apache-2.0
/* KV pages: words of set 1's windows. A page is a piece per layer, in it a piece per KV head: keys as [d / 8][256] sixteens
 * of bytes, of 8 features of a position each, so that neighbouring positions are neighbours; then values as
 * [256][d / 2] words of two features. Both zero beyond d. Layout: ../vulkan_layout.c. */
#ifndef OTR_VULKAN_KV
#define OTR_VULKAN_KV

/* Indexed by what is the same for all of a workgroup (shaderStorageBufferArrayDynamicIndexing). */
layout(std430, set = 1, binding = 0) KV_ACCESS buffer kv_words_block { uint word[]; } kv[8];
layout(std430, set = 1, binding = 0) KV_ACCESS buffer kv_fours_block { uvec4 four[]; } kv4[8];

uint key_words(uint head_dim) { return (head_dim + 7u) / 8u * (4u * OTR_CHUNK); }
uint value_words(uint head_dim) { return (head_dim + 1u) / 2u * OTR_CHUNK; }

#endif
