// SPDX-License-Identifier: Apache-2.0
/* LINEAR for many rows: a workgroup of 256 threads does a tile of 64 rows (axis y) by 64 outputs (axis x), a thread 4
   by 4 of them, from tiles of 64 inputs of both in shared memory. */
/* Outliers: thread (row, lane) follows the list of its row and lane along k. Where the next feature lies in the tile of
   inputs, its x16 goes to shared memory too, and everyone adds x16 * Wo for the tile's union of such features, a superset of
   each row's: weights come from the tile as it passes, never again from global memory. Tiles and features ascend, so each
   lane of each output is summed in its order. */
#include "linear_parts.glsl"

#define TILE 64u
#define TILE_K16 4u  /* sixteens of inputs of a tile */
#define PITCH 5u     /* sixteens from row to row in shared memory */

layout(local_size_x = 256) in;

shared uvec4 x_tile[TILE * PITCH];
shared uvec4 w_tile[TILE * PITCH];
shared float outlier[TILE * TILE]; /* [feature of the tile][row] x16; zero but while the tile with it is at work */
shared uint in_union[2][2];        /* features of this tile and the next that are in the union, a bit each */

int acc[16];
float partial[4][16]; /* [lane][4 * row + output] */

/** Both tiles, a sixteen of each a thread; zero beyond the last row, output and input. */
void load_tiles(uint row_first, uint n_first, uint k16) {
  uint t = gl_LocalInvocationIndex, r = t / TILE_K16, i = k16 + t % TILE_K16;
  uint to = r * PITCH + t % TILE_K16, row = row_first + r, n = n_first + r;
  x_tile[to] = row < rows_of_pass() && i < K16 ? x4[q_of(row) + i] : uvec4(0u);
  w_tile[to] = n < N_HERE && i < K16 ? w4[FIRST4(3) + n * STRIDE16 + i] : uvec4(0u);
}

void multiply_tiles(uint tx, uint ty) {
  for (uint i = 0u; i < TILE_K16; i++) {
    uvec4 q[4], v[4];
    [[unroll]] for (uint r = 0u; r < 4u; r++) q[r] = x_tile[(ty * 4u + r) * PITCH + i];
    [[unroll]] for (uint c = 0u; c < 4u; c++) v[c] = w_tile[(tx + 16u * c) * PITCH + i];
    [[unroll]] for (uint r = 0u; r < 4u; r++)
      [[unroll]] for (uint c = 0u; c < 4u; c++) acc[4u * r + c] += dot16(q[r], v[c]);
  }
}

/** Adds feature `f` of the tile to lane `lane` of the thread's outputs. */
void add_feature(uint lane, uint f, uint k_first, uint n_first, uint tx, uint ty) {
  float value[4], weight[4];
  [[unroll]] for (uint r = 0u; r < 4u; r++) value[r] = outlier[f * TILE + ty * 4u + r];
  [[unroll]] for (uint c = 0u; c < 4u; c++) {
    uint n = min(n_first + tx + 16u * c, N_HERE - 1u);
    uint word = w_tile[(tx + 16u * c) * PITCH + (f >> 4)][(f >> 2) & 3u];
    weight[c] = outlier_weight(k_first + f, N_FIRST + n, byte_value(word, f));
  }
  [[unroll]] for (uint r = 0u; r < 4u; r++)
    [[unroll]] for (uint c = 0u; c < 4u; c++) {
      precise float product = value[r] * weight[c];
      precise float sum = partial[lane][4u * r + c] + product;
      partial[lane][4u * r + c] = sum;
    }
}

void add_outliers(uint which, uint k_first, uint n_first, uint tx, uint ty) {
  [[unroll]] for (uint lane = 0u; lane < 4u; lane++)
    for (uint h = 0u; h < 2u; h++)
      for (uint left = in_union[which][h] & (0x11111111u << lane); left != 0u; left &= left - 1u)
        add_feature(lane, uint(findLSB(left)) + 32u * h, k_first, n_first, tx, ty);
}

/* A thread's place in the list that it follows. */
uint list_at, list_end, list_next; /* list_next: the entry there, or one beyond all features */
const uint NO_ENTRY = 0xffffffffu;

void take_entry() { list_next = list_at < list_end ? list[list_at] : NO_ENTRY; }

void begin_list(uint row_first) {
  uint t = gl_LocalInvocationIndex, row = row_first + (t >> 2), lane = t & 3u;
  list_at = list_end = 0u;
  if (row < rows_of_pass()) {
    list_at = list_of(row, lane);
    list_end = list_at + x[head_of(row) + QUANTIZED_LANES + lane];
  }
  take_entry();
}

/** Puts the entries of the inputs [k_first, k_first + 64) into shared memory; or takes the values of the list places
 *  from `list_begin` to `list_at` out again. */
void put_entries(uint which, uint k_first) {
  uint t = gl_LocalInvocationIndex, lane = t & 3u;
  while (list_next != NO_ENTRY && outlier_feature(list_next, lane) < k_first + TILE) {
    uint f = outlier_feature(list_next, lane) - k_first;
    outlier[f * TILE + (t >> 2)] = pair_value(list_next).x;
    atomicOr(in_union[which][f >> 5], 1u << (f & 31u));
    list_at++;
    take_entry();
  }
}

void remove_entries(uint from, uint k_first) {
  uint t = gl_LocalInvocationIndex, lane = t & 3u;
  for (uint i = from; i < list_at; i++) outlier[(outlier_feature(list[i], lane) - k_first) * TILE + (t >> 2)] = 0.0;
}

void put_results(uint row_first, uint n_first, uint tx, uint ty) {
  int sums[16]; /* acc and partial stay in registers, which a loop that is not unrolled cannot index */
  vec4 lanes[16];
  [[unroll]] for (uint a = 0u; a < 16u; a++) {
    sums[a] = acc[a];
    lanes[a] = vec4(partial[0][a], partial[1][a], partial[2][a], partial[3][a]);
  }
  for (uint a = 0u; a < 16u; a++) {
    uint row = row_first + ty * 4u + a / 4u, n = n_first + tx + 16u * (a % 4u);
    if (row < rows_of_pass() && n < N_HERE)
      put_result(row, N_FIRST + n, sums[a], lanes[a].x, lanes[a].y, lanes[a].z, lanes[a].w);
  }
}

void main() {
  uint t = gl_LocalInvocationIndex, tx = t & 15u, ty = t >> 4;
  uint row_first = group_y() * TILE, n_first = gl_WorkGroupID.x * TILE, which = 0u;
  if (row_first >= rows_of_pass()) return;
  [[unroll]] for (uint a = 0u; a < 16u; a++) {
    acc[a] = 0;
    [[unroll]] for (uint lane = 0u; lane < 4u; lane++) partial[lane][a] = 0.0;
    outlier[16u * t + a] = 0.0;
  }
  if (t < 4u) in_union[t >> 1][t & 1u] = 0u;
  begin_list(row_first);
  barrier();
  for (uint k16 = 0u; k16 < K16; k16 += TILE_K16) {
    uint from = list_at;
    load_tiles(row_first, n_first, k16);
    put_entries(which, 16u * k16);
    barrier();
    multiply_tiles(tx, ty);
    bool any = (in_union[which][0] | in_union[which][1]) != 0u;
    if (any) add_outliers(which, 16u * k16, n_first, tx, ty);
    which ^= 1u;
    barrier();
    if (t < 2u) in_union[which ^ 1u][t] = 0u; /* used again only after the next barrier but one */
    if (any) remove_entries(from, 16u * k16);
  }
  put_results(row_first, n_first, tx, ty);
}
