// SPDX-License-Identifier: Apache-2.0
/* lanesum<64> over a row by a workgroup of 64 threads or more. */
#ifndef OTR_VULKAN_LANESUM
#define OTR_VULKAN_LANESUM

shared float lanesum_lane[OTR_LANES_ROW];
shared float lanesum_half[8];

/** Joins the 64 partials, given by thread `l` < 64 each; all threads get the sum. The tree of the contract, in three
 *  levels by 8 threads and three by everyone: two barriers instead of six. */
float join_row_lanes(float partial) {
  uint l = gl_LocalInvocationIndex;
  barrier(); /* the last sum was read */
  if (l < OTR_LANES_ROW) lanesum_lane[l] = partial;
  barrier();
  if (l < 8) {
    precise float a = lanesum_lane[l] + lanesum_lane[l + 32], b = lanesum_lane[l + 8] + lanesum_lane[l + 40];
    precise float c = lanesum_lane[l + 16] + lanesum_lane[l + 48], d = lanesum_lane[l + 24] + lanesum_lane[l + 56];
    a = a + c;
    b = b + d;
    lanesum_half[l] = a + b;
  }
  barrier();
  precise float s0 = lanesum_half[0] + lanesum_half[4], s1 = lanesum_half[1] + lanesum_half[5];
  precise float s2 = lanesum_half[2] + lanesum_half[6], s3 = lanesum_half[3] + lanesum_half[7];
  s0 = s0 + s2;
  s1 = s1 + s3;
  precise float sum = s0 + s1;
  return sum;
}

#endif
