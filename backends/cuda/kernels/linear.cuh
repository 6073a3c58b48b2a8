// SPDX-License-Identifier: Apache-2.0
/* What the kernels of a linear share: the parts, an outlier's weight, the end of the formula (contract, section 2). */
#ifndef OTR_CUDA_LINEAR_CUH
#define OTR_CUDA_LINEAR_CUH

#include "device.cuh"

/** The part that block `block` of the grid's x works on. */
template <class Args>
CUDA_FN const cuda_part &cuda_part_of(const Args &a, int block) {
  int p = 0;
  while (p + 1 < a.n_parts && block >= a.part[p + 1].first_block) p++;
  return a.part[p];
}

/** Wo[n, feature] of a feature in the static set, or q (Wq) of any other. */
CUDA_FN float cuda_outlier_weight(const cuda_part &p, int n, int feature, int q) {
  if (!p.static_cols) return OTR_I2F(q);
  int slot = p.static_slot ? __ldg(p.static_slot + feature) : feature;
  if (slot < 0) return OTR_I2F(q);
  return otr_f16_value(__ldg(p.static_cols + (size_t)slot * p.n + n));
}

/** y of the integer sum and the outliers' lanesum. */
CUDA_FN float cuda_linear_value(const cuda_part &p, int n, int acc, float outliers, float scale, float pow2e) {
  float scale_w = __ldg(p.scale + n), both = scale * scale_w;
  float y = OTR_I2F(acc) * both;
  float o = outliers * pow2e;
  o = o * scale_w;
  y = y + o;
  if (p.bias) y = y + __ldg(p.bias + n);
  return y;
}

#endif
