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

/* Where a lane's rows of the warp's first fragments of x and of W begin in a step, slab 0. Fragments of other rows are
 * at these distances, and the other slab is two chunks on, which the shuffle makes an exclusive or. */
enum { NEXT_X = 16 * TILE_STEP, NEXT_TWO_W = 4 * TILE_STEP, OTHER_SLAB = 2 * TILE_CHUNK };
struct tile_lanes {
  int x, w;
};

template <int BM, int MT>
CUDA_FN tile_lanes lanes_of_step() {
  int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
  int row = warp % N_WARPS * 32 + weight_row(lane % 8, lane / 16);
  return {shuffled_x(warp / N_WARPS * MT * 16 + lane % 16, lane / 16), BM * TILE_STEP + shuffled_w(row, lane / 8 % 2)};
}

/** The warp's weights of two n8 tiles, as second factors. */
CUDA_FN void two_weights(const unsigned char *rows, unsigned b[2][2]) {
  unsigned r[4];
  ldmatrix_x4(r, rows);
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

/** Four weights as the panel holds them: w + 128 each. */
CUDA_FN unsigned four_weights(int a, int b, int c, int d) {
  unsigned low = __byte_perm((unsigned)a, (unsigned)b, 0x0040u), high = __byte_perm((unsigned)c, (unsigned)d, 0x0040u);
  return __byte_perm(low, high, 0x5410u) ^ 0x80808080u;
}

/** The columns of slots [slot, end) to the panel; weights: the lane's rows of their slab. */
CUDA_FN void tile_columns(const cuda_tile_args &args, const unsigned char *weights, const uint8_t *place, int slot,
                          int end) {
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
      two_weights(weights + j / 2 * NEXT_TWO_W, b);
      int c0[4] = {0, 0, 0, 0}, c1[4] = {0, 0, 0, 0};
      mma_s8_16832(c0, a, b[0]);
      mma_s8_16832(c1, a, b[1]);
      if (slot + g < end) *(unsigned *)(to + 2 * j) = four_weights(c0[0], c0[1], c1[0], c1[1]);
      if (slot + g + 8 < end) *(unsigned *)(to + 8 * CUDA_TILE_N + 2 * j) = four_weights(c0[2], c0[3], c1[2], c1[3]);
    }
  }
}

/** A step: two slabs of 32 features. In a loop: ptxas of CUDA 11.8 and 12.6 spill registers of both side by side. */
template <int MT>
CUDA_FN void tile_step(const unsigned char *stage, tile_lanes at, int acc[MT][4][4]) {
#pragma unroll 1
  for (int slab = 0; slab < 2 * OTHER_SLAB; slab += OTHER_SLAB) {
    unsigned a[4], b[4][2];
    const unsigned char *x = stage + (at.x ^ slab), *w = stage + (at.w ^ slab);
    two_weights(w, b);
    two_weights(w + NEXT_TWO_W, b + 2);
#pragma unroll
    for (int i = 0; i < MT; i++) {
      ldmatrix_x4(a, x + i * NEXT_X);
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
  tile_lanes lanes = lanes_of_step<BM, MT>();
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
    tile_step<MT>(stage, lanes, acc);
    /* The two halves of the warps hold the same weights: each takes a slab's columns. */
    int half = (int)threadIdx.x / (TILE_THREADS / 2);
    int slot = __ldg(bases + 2 * step + half), end = min(__ldg(bases + 2 * step + half + 1), (int)CUDA_PANEL_SLOTS);
    tile_columns(a, stage + (lanes.w ^ half * OTHER_SLAB), place, slot, end);
  }
  cp_wait<0>();
  __syncthreads();
}

/* ---- rows: outliers, the end of the formula ---------------------------------------------------------------------- */

/** Adds x times four weights of a column as the panel holds them: with 2^23 over it a byte is 2^23 + (w + 128). */
CUDA_FN void add_products(float sum[4], float x, unsigned bytes) {
#pragma unroll
  for (unsigned i = 0; i < 4; i++) sum[i] += x * (OTR_FLOAT(__byte_perm(bytes, 0x4b000000u, 0x7440u + i)) - 8388736.0f);
}

/* An outlier of a row: x16 and its column of W. */
struct tile_outlier {
  float x16;
  int column; /* >= 0: a slot of the panel; else -1 - feature */
};

CUDA_FN tile_outlier look_up(const cuda_tile_args &a, const tile_task &t, const cuda_outlier &o, int feature) {
  const cuda_union &u = a.outliers;
  int slab = feature / 32;
  unsigned below = __ldg(u.mask + (size_t)t.row_tile * u.n_slabs + slab) & ((1u << (feature & 31)) - 1u);
  int slot = __ldg(u.base + (size_t)t.row_tile * (u.n_slabs + 1) + slab) + __popc(below);
  bool is_static = t.part->static_cols && (!t.part->static_slot || __ldg(t.part->static_slot + feature) >= 0);
  return {__ldg(&o.x16), is_static || slot >= CUDA_PANEL_SLOTS ? -1 - feature : slot};
}

/** Sorts up to 32 outliers, one a thread, by their lane of the sum, k mod 4: lane l's end at ends[l], an even number;
 * what fills a gap adds 0 times a weight. sorted: the warp's. @return whether all columns are in the panel. */
CUDA_FN bool sort_outliers(tile_outlier *sorted, const cuda_tile_args &a, const tile_task &t, const cuda_outlier *list,
                           int n, int ends[4]) {
  int lane = (int)threadIdx.x % 32, feature = lane < n ? __ldg(&list[lane].feature) : 0, place = 0, begin = 0;
  unsigned kind = lane < n ? (unsigned)feature & 3u : 4u;
  tile_outlier mine = {0.0f, 0};
  if (lane < n) mine = look_up(a, t, list[lane], feature);
  __syncwarp(); /* what was there has been read */
#pragma unroll
  for (unsigned l = 0; l < 4; l++) {
    unsigned some = __ballot_sync(CUDA_FULL_WARP, kind == l);
    if (kind == l) place = begin + __popc(some & ((1u << lane) - 1u));
    int count = __popc(some);
    if (lane == 0 && (count & 1)) sorted[begin + count] = {0.0f, 0};
    ends[l] = begin = begin + (count + 1) / 2 * 2;
  }
  if (lane < n) sorted[place] = mine;
  bool all = __all_sync(CUDA_FULL_WARP, mine.column >= 0) != 0;
  __syncwarp();
  return all;
}

/** Adds the products of outliers [i, end), which are an even number, with the lane's four outputs. */
CUDA_FN void add_columns(float sum[4], const unsigned char *panel, const tile_outlier *sorted, int i, int end) {
#pragma unroll 1
  for (; i < end; i += 2) {
    float4 two = *(const float4 *)(sorted + i);
    unsigned bytes0 = *(const unsigned *)(panel + (size_t)OTR_BITS(two.y) * CUDA_TILE_N);
    unsigned bytes1 = *(const unsigned *)(panel + (size_t)OTR_BITS(two.w) * CUDA_TILE_N);
    add_products(sum, two.x, bytes0);
    add_products(sum, two.z, bytes1);
  }
}

/** The same for outliers some of whose columns are not in the panel: all four lanes. */
CUDA_FN void add_any(float lanes[4][4], const tile_task &t, const unsigned char *panel, const tile_outlier *sorted,
                     const int ends[4], int n) {
  const cuda_part &p = *t.part;
  int end = ends[0], i = 0;
#pragma unroll 1
  for (int l = 0; l < 4; l++) {
#pragma unroll 1
    for (; i < end; i++) {
      tile_outlier o = sorted[i];
      int feature = -1 - o.column;
      if (o.column >= 0) {
        add_products(lanes[0], o.x16, *(const unsigned *)(panel + (size_t)o.column * CUDA_TILE_N));
        continue;
      }
#pragma unroll
      for (int c = 0; c < 4; c++) {
        int at = min(t.first_n + n + c, p.n - 1);
        int q = ((const int8_t *)p.data)[(size_t)at * p.row_stride + feature];
        lanes[0][c] += o.x16 * cuda_outlier_weight(p, at, feature, q);
      }
    }
    end = l == 0 ? ends[1] : l == 1 ? ends[2] : ends[3];
#pragma unroll
    for (int c = 0; c < 4; c++) { /* round once: registers have no index */
      float next = lanes[0][c];
      lanes[0][c] = lanes[1][c], lanes[1][c] = lanes[2][c], lanes[2][c] = lanes[3][c], lanes[3][c] = next;
    }
  }
}

/** lanesum<4> of a row's outliers for the lane's four outputs from n on. */
CUDA_FN void tile_outliers(const cuda_tile_args &a, const tile_task &t, tile_outlier *sorted, int row, int n,
                           float sum[4]) {
  const cuda_quantized &in = a.linear.in;
  int count = __ldg(in.first + (size_t)row * (in.n_tiles + 1) + in.n_tiles);
  const cuda_outlier *list = in.outlier + (size_t)row * in.k;
  const unsigned char *panel = tile_panel(a) + n;
  float lanes[4][4];
#pragma unroll
  for (int i = 0; i < 16; i++) lanes[i / 4][i % 4] = 0.0f;
#pragma unroll 1
  for (int first = 0; first < count; first += 32) {
    int ends[4];
    if (sort_outliers(sorted, a, t, list + first, min(count - first, 32), ends)) {
#pragma unroll
      for (int l = 0; l < 4; l++) add_columns(lanes[l], panel, sorted, l == 0 ? 0 : ends[l - 1], ends[l]);
    } else {
      add_any(lanes, t, panel, sorted, ends, n);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) sum[i] = (lanes[0][i] + lanes[2][i]) + (lanes[1][i] + lanes[3][i]);
}

/** The tile's rows, whose sums are staged; a warp a row. */
template <int BM>
CUDA_FN void tile_rows(const cuda_tile_args &a, const tile_task &t, const int *staged, tile_outlier *sorted) {
  const cuda_part &p = *t.part;
  int lane = (int)threadIdx.x % 32, n = lane * 4;
  unsigned worst = 0;
  for (int r = (int)threadIdx.x / 32; r < BM; r += TILE_WARPS) {
    int row = t.first_row + r;
    if (row >= t.n_rows) break;
    float outliers[4];
    tile_outliers(a, t, sorted, row, n, outliers);
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
  tile_outlier *lists = (tile_outlier *)(shared + BM * STAGED_STRIDE * sizeof(int));
  tile_rows<BM>(a, t, (const int *)shared, lists + (int)threadIdx.x / 32 * CUDA_TILE_SORTED);
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
