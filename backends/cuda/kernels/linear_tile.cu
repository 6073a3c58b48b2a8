// SPDX-License-Identifier: Apache-2.0
/* LINEAR for many rows: tiles of BM rows x 128 outputs on the int8 tensor cores, 64 features a step, three steps under
 * way.
 *
 * The outliers' sums are f32 and their order is the contract's, so they are made one by one when the integer sums are
 * done. Their columns of the weights are taken from the step's tile as it passes, where they are in registers: a
 * product with a matrix that has a single 1 in each row picks up to 16 columns of a slab of 32 features and turns them
 * the way a row of outputs reads them. They go to the block's panel, 128 bytes a column, whatever tile of rows: a
 * column's bytes in W itself lie a row apart. What finds no room there is fetched from W. */
#include "linear.cuh"

enum { TILE_THREADS = 256, TILE_WARPS = 8, TILE_STAGES = 3, TILE_STEP = CUDA_K_TILE, TILE_CHUNK = 16, N_WARPS = 4 };
enum { STAGED_STRIDE = CUDA_TILE_N + 4 }; /* of the sums on their way to rows, int32: no bank twice */

/* What a block works on. */
struct tile_task {
  const cuda_part *part;
  int row_tile, first_row, n_rows; /* n_rows: of the pass */
  int first_n;
};

/** The block's panel: [CUDA_PANEL_SLOTS, CUDA_TILE_N]. */
CUDA_FN uint8_t *tile_panel(const cuda_tile_args &a) {
  return a.panel + (size_t)blockIdx.x * CUDA_PANEL_SLOTS * CUDA_TILE_N;
}

/* A row of a tile is 64 bytes, four chunks. They are shuffled so that the eight rows that ldmatrix reads at a time, and
 * eight threads of a copy, lie in different banks. Weights: see weight_row. */
CUDA_FN int shuffled_x(int row, int chunk) {
  return row * TILE_STEP + ((chunk ^ (row >> 1)) & 3) * TILE_CHUNK;
}
CUDA_FN int shuffled_w(int row, int chunk) {
  return row * TILE_STEP + ((chunk ^ (row >> 3)) & 3) * TILE_CHUNK;
}

/** The output that column c of the warp's n8 tile j is: a thread's columns 2t and 2t + 1 of the four tiles are then
 *  outputs 8t ... 8t + 7. */
CUDA_FN int weight_row(int c, int j) {
  return c / 2 * 8 + j * 2 + c % 2;
}

/* What a thread copies of each step: the same chunk of rows 64 apart. */
struct tile_source {
  const int8_t *x, *w; /* the chunk of the first of them */
  unsigned there;      /* bit i: row i of x is, bit 8 + i: of w */
  int w_end;           /* chunks of w that begin before it are there */
};

/** Begins to copy step `step` of x and W. Bytes that are not there become 0, unread. */
template <int BM>
CUDA_FN void tile_load(const cuda_tile_args &a, const cuda_part &p, const tile_source &from, unsigned char *stage,
                       int step) {
  const int rows = TILE_THREADS / 4, row = (int)threadIdx.x / 4, chunk = (int)threadIdx.x % 4, at = step * TILE_STEP;
#pragma unroll
  for (int i = 0; i < BM / rows; i++)
    cp_async16_part(stage + shuffled_x(row + i * rows, chunk), from.x + (size_t)i * rows * a.linear.in.stride + at,
                    from.there >> i & 1 ? TILE_CHUNK : 0);
  stage += BM * TILE_STEP;
#pragma unroll
  for (int i = 0; i < CUDA_TILE_N / rows; i++)
    cp_async16_part(stage + shuffled_w(row + i * rows, chunk), from.w + (size_t)i * rows * p.row_stride + at,
                    at < from.w_end && from.there >> (8 + i) & 1 ? TILE_CHUNK : 0);
}

template <int BM>
CUDA_FN tile_source tile_begin(const cuda_tile_args &a, const tile_task &t) {
  const int rows = TILE_THREADS / 4, row = (int)threadIdx.x / 4, byte = (int)threadIdx.x % 4 * TILE_CHUNK;
  tile_source from = {a.linear.in.q + (size_t)(t.first_row + row) * a.linear.in.stride + byte,
                      (const int8_t *)t.part->data + (size_t)(t.first_n + row) * t.part->row_stride + byte, 0,
                      min((int)t.part->row_stride, a.linear.in.stride) - byte};
  for (int i = 0; i < BM / rows; i++) from.there |= (unsigned)(t.first_row + row + i * rows < t.n_rows) << i;
  for (int i = 0; i < CUDA_TILE_N / rows; i++)
    from.there |= (unsigned)(t.first_n + row + i * rows < t.part->n) << (8 + i);
  return from;
}

/** The warp's weights of n8 tiles j and j + 1 and a slab, as second factors. */
CUDA_FN void two_weights(const unsigned char *weights, int slab, int j, unsigned b[2][2]) {
  int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
  int row = warp % N_WARPS * 32 + weight_row(lane % 8, j + lane / 16);
  unsigned r[4];
  ldmatrix_x4(r, weights + shuffled_w(row, slab * 2 + lane / 8 % 2));
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

CUDA_FN unsigned four_bytes(int a, int b, int c, int d) {
  return (unsigned)(a & 255) | (unsigned)(b & 255) << 8 | (unsigned)(c & 255) << 16 | (unsigned)(d & 255) << 24;
}

/** The columns of slots [slot, end), of slab `slab` of the step, to the panel. */
CUDA_FN void tile_columns(const cuda_tile_args &args, const unsigned char *weights, int slab, const uint8_t *place,
                          int slot, int end) {
  int lane = (int)threadIdx.x % 32, g = lane / 4, word = lane % 4, n_warp = (int)threadIdx.x / 32 % N_WARPS;
#pragma unroll 1
  for (; slot < end; slot += 16) {
    unsigned a[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (slot + g + 8 * i >= end) continue;
      int f = place[slot + g + 8 * i];
      unsigned one = 1u << 8 * (f & 3);
      a[i] = f / 4 == word ? one : 0u;
      a[i + 2] = f / 4 == word + 4 ? one : 0u;
    }
    uint8_t *to = tile_panel(args) + (size_t)(slot + g) * CUDA_TILE_N + n_warp * 32 + 8 * word;
#pragma unroll
    for (int j = 0; j < 4; j += 2) {
      unsigned b[2][2];
      two_weights(weights, slab, j, b);
      int c0[4] = {0, 0, 0, 0}, c1[4] = {0, 0, 0, 0};
      mma_s8_16832(c0, a, b[0]);
      mma_s8_16832(c1, a, b[1]);
      if (slot + g < end) *(unsigned *)(to + 2 * j) = four_bytes(c0[0], c0[1], c1[0], c1[1]);
      if (slot + g + 8 < end) *(unsigned *)(to + 8 * CUDA_TILE_N + 2 * j) = four_bytes(c0[2], c0[3], c1[2], c1[3]);
    }
  }
}

/** A step: two slabs of 32 features. In a loop: ptxas of CUDA 11.8 and 12.6 spill registers of both side by side. */
template <int MT>
CUDA_FN void tile_step(const unsigned char *stage, int acc[MT][4][4]) {
  int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
#pragma unroll 1
  for (int slab = 0; slab < 2; slab++) {
    unsigned a[4], b[4][2];
    two_weights(stage + 2 * MT * 16 * TILE_STEP, slab, 0, b);
    two_weights(stage + 2 * MT * 16 * TILE_STEP, slab, 2, b + 2);
#pragma unroll
    for (int i = 0; i < MT; i++) {
      ldmatrix_x4(a, stage + shuffled_x((warp / N_WARPS * MT + i) * 16 + lane % 16, slab * 2 + lane / 16));
#pragma unroll
      for (int j = 0; j < 4; j++) mma_s8_16832(acc[i][j], a, b[j]);
    }
  }
}

template <int BM, int MT>
CUDA_FN void tile_sums(const cuda_tile_args &a, const tile_task &t, unsigned char *shared, int acc[MT][4][4]) {
  const int stage_bytes = (BM + CUDA_TILE_N) * TILE_STEP;
  uint8_t *place = shared + TILE_STAGES * stage_bytes;
  const int32_t *bases = a.outliers.base + (size_t)t.row_tile * (a.outliers.n_slabs + 1);
  const uint8_t *places = a.outliers.place + (size_t)t.row_tile * CUDA_PANEL_SLOTS;
  int n_steps = a.linear.in.n_tiles, n_slots = min(bases[a.outliers.n_slabs], (int)CUDA_PANEL_SLOTS);
  for (int i = (int)threadIdx.x; i < n_slots; i += TILE_THREADS) place[i] = places[i];
  tile_source from = tile_begin<BM>(a, t);
  for (int s = 0; s < TILE_STAGES - 1; s++) {
    if (s < n_steps) tile_load<BM>(a, *t.part, from, shared + s * stage_bytes, s);
    cp_commit();
  }
#pragma unroll 1
  for (int step = 0; step < n_steps; step++) {
    cp_wait<TILE_STAGES - 2>();
    __syncthreads();
    int ahead = step + TILE_STAGES - 1;
    if (ahead < n_steps) tile_load<BM>(a, *t.part, from, shared + ahead % TILE_STAGES * stage_bytes, ahead);
    cp_commit();
    const unsigned char *stage = shared + step % TILE_STAGES * stage_bytes;
    tile_step<MT>(stage, acc);
    /* The two halves of the warps hold the same weights: each takes a slab's columns. */
    int half = (int)threadIdx.x / (TILE_THREADS / 2);
    int slot = __ldg(bases + 2 * step + half), end = min(__ldg(bases + 2 * step + half + 1), (int)CUDA_PANEL_SLOTS);
    tile_columns(a, stage + BM * TILE_STEP, half, place, slot, end);
  }
  cp_wait<0>();
  __syncthreads();
}

/* ---- rows: outliers, the end of the formula ---------------------------------------------------------------------- */

/** Four weights of a column as the panel holds them. */
CUDA_FN void panel_weights(unsigned bytes, float w[4]) {
  bytes ^= 0x80808080u; /* w + 128, which 2^23 + it holds in its low bits */
#pragma unroll
  for (int i = 0; i < 4; i++) w[i] = OTR_FLOAT(0x4b000000u | (bytes >> 8 * i & 255u)) - 8388736.0f;
}

/** Wo of four outputs of one feature. slot: in the panel; static_slot: >= 0 for one of the static set. */
CUDA_FN void column_weights(const cuda_tile_args &a, const tile_task &t, int feature, int slot, int static_slot, int n,
                            float w[4]) {
  const cuda_part &p = *t.part;
  if (static_slot >= 0) {
#pragma unroll
    for (int i = 0; i < 4; i++)
      w[i] = otr_f16_value(p.static_cols[(size_t)static_slot * p.n + min(t.first_n + n + i, p.n - 1)]);
  } else if (slot < CUDA_PANEL_SLOTS) {
    panel_weights(*(const unsigned *)(tile_panel(a) + (size_t)slot * CUDA_TILE_N + n), w);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++)
      w[i] = OTR_I2F(((const int8_t *)p.data)[(size_t)min(t.first_n + n + i, p.n - 1) * p.row_stride + feature]);
  }
}

CUDA_FN void add_products(float sum[4], float x, const float w[4]) {
#pragma unroll
  for (int i = 0; i < 4; i++) sum[i] += x * w[i];
}

/** One outlier of a row as a lane looks it up. */
struct tile_outlier {
  int feature, slot, static_slot;
  float x16;
};

CUDA_FN tile_outlier look_up(const cuda_tile_args &a, const tile_task &t, const cuda_outlier *list, int index) {
  const cuda_union &u = a.outliers;
  tile_outlier o = {__ldg(&list[index].feature), 0, -1, __ldg(&list[index].x16)};
  int slab = o.feature / 32;
  unsigned below = __ldg(u.mask + (size_t)t.row_tile * u.n_slabs + slab) & ((1u << (o.feature & 31)) - 1u);
  o.slot = __ldg(u.base + (size_t)t.row_tile * (u.n_slabs + 1) + slab) + __popc(below);
  if (t.part->static_cols) o.static_slot = t.part->static_slot ? __ldg(t.part->static_slot + o.feature) : o.feature;
  return o;
}

/** lanesum<4> of a row's outliers for the lane's four outputs from n on: a lane looks up one of 32, then the warp goes
 *  through them. */
CUDA_FN void tile_outliers(const cuda_tile_args &a, const tile_task &t, int row, int n, float sum[4]) {
  const cuda_quantized &in = a.linear.in;
  int lane = (int)threadIdx.x % 32;
  int count = __ldg(in.first + (size_t)row * (in.n_tiles + 1) + in.n_tiles);
  const cuda_outlier *list = in.outlier + (size_t)row * in.k;
  float sum0[4] = {0, 0, 0, 0}, sum1[4] = {0, 0, 0, 0}, sum2[4] = {0, 0, 0, 0}, sum3[4] = {0, 0, 0, 0};
  for (int first = 0; first < count; first += 32) {
    int here = min(count - first, 32);
    tile_outlier mine = {0, 0, 0, 0.0f};
    if (lane < here) mine = look_up(a, t, list, first + lane);
    for (int j = 0; j < here; j++) {
      float x = __shfl_sync(CUDA_FULL_WARP, mine.x16, j), w[4];
      int f = __shfl_sync(CUDA_FULL_WARP, mine.feature, j), slot = __shfl_sync(CUDA_FULL_WARP, mine.slot, j);
      column_weights(a, t, f, slot, __shfl_sync(CUDA_FULL_WARP, mine.static_slot, j), n, w);
      switch (f & 3) {
        case 0:
          add_products(sum0, x, w);
          break;
        case 1:
          add_products(sum1, x, w);
          break;
        case 2:
          add_products(sum2, x, w);
          break;
        default:
          add_products(sum3, x, w);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) sum[i] = (sum0[i] + sum2[i]) + (sum1[i] + sum3[i]);
}

/** The tile's rows, whose sums are staged; a warp a row. */
template <int BM>
CUDA_FN void tile_rows(const cuda_tile_args &a, const tile_task &t, const int *staged) {
  const cuda_part &p = *t.part;
  int lane = (int)threadIdx.x % 32, n = lane * 4;
  unsigned worst = 0;
  for (int r = (int)threadIdx.x / 32; r < BM; r += TILE_WARPS) {
    int row = t.first_row + r;
    if (row >= t.n_rows) break;
    float outliers[4];
    tile_outliers(a, t, row, n, outliers);
    int4 sums = *(const int4 *)(staged + r * STAGED_STRIDE + n);
    const int acc[4] = {sums.x, sums.y, sums.z, sums.w};
    float scale = __ldg(a.linear.in.scale + row), pow2e = __ldg(a.linear.in.pow2e + row);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int at = t.first_n + n + i;
      if (at < p.n)
        p.out[(size_t)row * p.n + at] = cuda_tidy(cuda_linear_value(p, at, acc[i], outliers[i], scale, pow2e), worst);
    }
  }
  cuda_note(a.linear.head, worst);
}

/** The warp's sums to shared memory: [BM, STAGED_STRIDE]. */
template <int MT>
CUDA_FN void tile_stage(int *staged, const int acc[MT][4][4]) {
  int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      int row = (warp / N_WARPS * MT + i) * 16 + h * 8 + g;
      int *to = staged + row * STAGED_STRIDE + warp % N_WARPS * 32 + t * 8;
      const int(*c)[4] = acc[i];
      *(int4 *)to = make_int4(c[0][2 * h], c[0][2 * h + 1], c[1][2 * h], c[1][2 * h + 1]);
      *(int4 *)(to + 4) = make_int4(c[2][2 * h], c[2][2 * h + 1], c[3][2 * h], c[3][2 * h + 1]);
    }
  __syncthreads();
}

/** Grid: tiles of this launch. Dynamic shared memory: CUDA_TILE_SHARED(BM). */
template <int BM>
CUDA_FN void tile(const cuda_tile_args &a, unsigned char *shared) {
  enum { MT = BM / 32 };
  int index = a.first_tile + (int)blockIdx.x, n_tile = index / a.row_tiles, row_tile = index % a.row_tiles;
  const cuda_part &part = cuda_part_of(a.linear, n_tile);
  tile_task t = {&part, row_tile, row_tile * BM, cuda_rows(a.linear.head), (n_tile - part.first_block) * CUDA_TILE_N};
  if (t.first_row >= t.n_rows) return;
  int acc[MT][4][4];
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int j = 0; j < 16; j++) acc[i][j / 4][j % 4] = 0;
  tile_sums<BM, MT>(a, t, shared, acc);
  tile_stage<MT>((int *)shared, acc);
  tile_rows<BM>(a, t, (const int *)shared);
}

/* Before sm_80 a multiprocessor's shared memory holds one block of 64 rows, and none of 128. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
enum { BLOCKS_OF_64 = 1, HAS_128 = 0 };
#else
enum { BLOCKS_OF_64 = 2, HAS_128 = 1 };
#endif

CUDA_KERNEL(otr_linear_tile64, cuda_tile_args, TILE_THREADS, BLOCKS_OF_64) {
  CUDA_DYNAMIC_SHARED(shared);
  tile<64>(args, shared);
}
CUDA_KERNEL(otr_linear_tile128, cuda_tile_args, TILE_THREADS, 2) {
  CUDA_DYNAMIC_SHARED(shared);
  if constexpr (HAS_128) tile<128>(args, shared);
}
