// SPDX-License-Identifier: Apache-2.0
#include "device.cuh"

/* What one thread found. */
struct rope_found {
  unsigned worst, saturations;
};

CUDA_FN uint16_t rounded(float x, rope_found &found) {
  float t = cuda_tidy(x, found.worst);
  if (otr_f16_saturates(t)) found.saturations++;
  return (uint16_t)otr_f16_bits(t);
}

/** One head of a row, rotated where n_rot > 0, to out[j * stride]. */
CUDA_FN void rotate(uint16_t *out, int stride, const float *x, const float *cosines, const float *sines, int head_dim,
                    int n_rot, rope_found &found) {
  int half = n_rot / 2, n = half + head_dim - n_rot; /* pairs, then single values */
  for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
    if (i >= half) {
      int j = i - half + n_rot;
      out[(size_t)j * stride] = rounded(x[j], found);
      continue;
    }
    float x0 = x[i], x1 = x[i + half], c = cosines[i], s = sines[i];
    float a = x0 * c, b = x1 * s, d = x0 * s, e = x1 * c;
    out[(size_t)i * stride] = rounded(a - b, found);
    out[(size_t)(i + half) * stride] = rounded(d + e, found);
  }
}

/* Grid: rows; heads of q, then of k, then of v. */
CUDA_KERNEL(otr_rope_kv, cuda_rope_kv_args, 128, 1) {
  int row = (int)blockIdx.x, head = (int)blockIdx.y, d = args.head_dim;
  if (row >= cuda_rows(args.head)) return;
  int half = args.n_rot / 2;
  const float *cosines = (const float *)args.head.step->rope_cos + (size_t)row * half;
  const float *sines = (const float *)args.head.step->rope_sin + (size_t)row * half;
  rope_found found = {0, 0};
  if (head < args.n_heads) {
    size_t at = ((size_t)row * args.n_heads + head) * d;
    rotate(args.q16 + at, 1, args.q + at, cosines, sines, d, args.n_rot, found);
  } else {
    int in_page = cuda_position(args.head, row) % OTR_CHUNK, kv_head = (head - args.n_heads) % args.n_kv_heads;
    size_t at = ((size_t)row * args.n_kv_heads + kv_head) * d;
    uint64_t page = ((const uint64_t *)args.head.step->row_page)[row];
    uint16_t *keys = cuda_keys(page, args.n_kv_heads, d, args.kv_layer, kv_head);
    if (head < args.n_heads + args.n_kv_heads)
      rotate(keys + in_page, OTR_CHUNK, args.k + at, cosines, sines, d, args.n_rot, found);
    else
      rotate(keys + (size_t)(OTR_CHUNK + in_page) * d, 1, args.v + at, cosines, sines, d, 0, found);
  }
  cuda_note(args.head, found.worst);
  if (found.saturations) atomicAdd(&args.head.found->saturations, (unsigned long long)found.saturations);
}
