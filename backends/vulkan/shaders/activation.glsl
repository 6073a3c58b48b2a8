// SPDX-License-Identifier: Apache-2.0
/* Activations, by a specialization constant: otr_act_kind, or one of ../vulkan_lower.h's. */
layout(constant_id = 1) const uint ACT = 0;

float activate(float x) {
  if (ACT == 0u) return otr_silu(x);
  if (ACT == 1u) return otr_gelu_tanh(x);
  if (ACT == 2u) return otr_gelu_erf(x);
  if (ACT == 4u) return otr_recip(x);
  if (ACT == 5u) return otr_sqrt(x);
  return x > 0.0 ? x : 0.0;
}
