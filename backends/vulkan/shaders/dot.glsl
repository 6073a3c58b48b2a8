// SPDX-License-Identifier: Apache-2.0
/* Products of int8, four to a word: by the integer dot product where the shader is built with INT_DOT, else by bytes. */
#ifndef OTR_VULKAN_DOT
#define OTR_VULKAN_DOT

#ifdef INT_DOT
/* OpSDot of packed words; capabilities DotProduct and DotProductInput4x8BitPacked. */
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int packed_dot(uint a, uint b, spirv_literal int format);
int dot4(uint a, uint b) { return packed_dot(a, b, 0); }
#else
int dot4(uint a, uint b) {
  int x = int(a), y = int(b);
  return bitfieldExtract(x, 0, 8) * bitfieldExtract(y, 0, 8) + bitfieldExtract(x, 8, 8) * bitfieldExtract(y, 8, 8) +
         bitfieldExtract(x, 16, 8) * bitfieldExtract(y, 16, 8) + (x >> 24) * (y >> 24);
}
#endif

int dot16(uvec4 a, uvec4 b) { return dot4(a.x, b.x) + dot4(a.y, b.y) + dot4(a.z, b.z) + dot4(a.w, b.w); }

#endif
