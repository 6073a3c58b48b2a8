// SPDX-License-Identifier: Apache-2.0
#include "cuda_lower.h"

#include <string.h>

#include "cuda_layout.h"
#include "numerics.h"
#include "status.h"

_Static_assert(sizeof(struct cuda_tile_args) <= CUDA_ARGS_BYTES, "arguments fit a launch");
_Static_assert(CUDA_PARTS == OTR_LINEAR_PARTS, "a part each");

/* An operation on its way to launches. */
typedef struct lowering {
  const cuda_lowering *l;
  const otr_op *op;
  int32_t rows;     /* of this pass */
  int32_t max_rows; /* that the operands' layouts have room for */
  struct cuda_head head;
  cuda_emit emit;
  void *user;
} lowering;

/** Takes `bytes` of scratch at *at. */
static uint64_t take_scratch(uint64_t *at, uint64_t bytes) {
  uint64_t start = *at;
  *at = start + (bytes + 255) / 256 * 256;
  return start;
}

static uint32_t blocks(int64_t n, int64_t size) {
  return (uint32_t)((n + size - 1) / size);
}

static otr_status launch(const lowering *w, cuda_kernel kernel, const uint32_t grid[3], uint32_t threads,
                         uint32_t shared_bytes, const void *args, size_t args_bytes) {
  cuda_launch out = {.kernel = kernel,
                     .grid = {grid[0], grid[1], grid[2]},
                     .block = {threads, 1, 1},
                     .shared_bytes = shared_bytes,
                     .args_bytes = (uint32_t)args_bytes};
  memcpy(out.args, args, args_bytes);
  return w->emit(w->user, &out);
}

/** A launch without dynamic shared memory. */
#define LAUNCH(w, name, x, y, threads, args) \
  launch(w, CUDA_KERNEL_##name, (const uint32_t[3]){x, y, 1}, threads, 0, &(args), sizeof(args))

/* ---- row-wise operations ----------------------------------------------------------------------------------------- */

enum { ROW_THREADS = 256, WIDE = 1024 /* values of a row that a block takes */ };

/** Threads of a block that takes a row (or a group of it): as many as are of use while there are few rows. */
static uint32_t row_threads(const lowering *w, int32_t width) {
  if (width <= 64) return 64;
  if (width <= 128) return 128;
  if (width <= 1024 || w->rows >= w->l->caps->n_sm) return ROW_THREADS;
  return width <= 4096 ? 512 : 1024;
}

/** Blocks of a kernel that goes through rows * width values, four or more a thread. */
static uint32_t flat_blocks(const lowering *w, int32_t width) {
  uint32_t most = (uint32_t)w->l->caps->n_sm * 16, n = blocks((int64_t)w->rows * width, WIDE);
  return n < most ? n : most;
}

static otr_status lower_embed(const lowering *w) {
  const otr_op_embed *o = &w->op->u.embed;
  struct cuda_embed_args a = {.head = w->head,
                              .out = cuda_address(o->out),
                              .data = cuda_address_streamed(o->table.data),
                              .scale = cuda_address(o->table.scale),
                              .positions = cuda_address(o->position_table),
                              .row_stride = o->table.row_stride,
                              .width = o->width,
                              .is_f16 = o->table.type == OTR_WEIGHT_F16,
                              .has_constant = o->has_scale,
                              .n_positions = o->n_positions,
                              .position_offset = o->position_offset,
                              .constant = o->scale};
  return LAUNCH(w, embed, (uint32_t)w->rows, blocks(o->width, WIDE), ROW_THREADS, a);
}

static otr_status lower_position(const lowering *w) {
  const otr_op_position *o = &w->op->u.position;
  struct cuda_position_args a = {.head = w->head,
                                 .x = cuda_address(o->x),
                                 .table = cuda_address(o->table),
                                 .width = o->width,
                                 .n_positions = o->n_positions,
                                 .position_offset = o->position_offset};
  return LAUNCH(w, position, (uint32_t)w->rows, blocks(o->width, WIDE), ROW_THREADS, a);
}

static struct cuda_norm_args norm_args(struct cuda_head head, const otr_op_norm *o) {
  struct cuda_norm_args a = {.head = head,
                             .out = cuda_address(o->out),
                             .x = cuda_address(o->x),
                             .gain = cuda_address(o->gain),
                             .bias = cuda_address(o->bias),
                             .width = o->width,
                             .groups = o->groups,
                             .group_gains = o->group_gains,
                             .is_layer = o->kind == OTR_NORM_LAYER,
                             .eps = o->eps,
                             .inv_width = otr_recip((float)o->width)};
  return a;
}

static otr_status lower_norm(const lowering *w) {
  const otr_op_norm *o = &w->op->u.norm;
  struct cuda_norm_args a = norm_args(w->head, o);
  return LAUNCH(w, norm, (uint32_t)w->rows, (uint32_t)o->groups, row_threads(w, o->width), a);
}

static struct cuda_quantize_args quantize_args(const lowering *w, const otr_op_quantize *o) {
  struct cuda_quantize_args a = {.head = w->head,
                                 .out = cuda_quantized_at(cuda_address(o->out), w->max_rows, o->k),
                                 .x = cuda_address(o->x),
                                 .rule = (int32_t)o->rule.kind,
                                 .value = o->rule.value,
                                 .inv_k = otr_recip((float)o->k)};
  return a;
}

static otr_status lower_quantize(const lowering *w) {
  const otr_op_quantize *o = &w->op->u.quantize;
  if (o->batch) return otr_fail(OTR_STATUS_UNSUPPORTED, "batch scope is on the reference device \"cpu\" only");
  struct cuda_quantize_args a = quantize_args(w, o);
  return LAUNCH(w, quantize, (uint32_t)w->rows, 1, row_threads(w, o->k), a);
}

static otr_status lower_round16(const lowering *w) {
  const otr_op_round16 *o = &w->op->u.round16;
  struct cuda_round16_args a = {
      .head = w->head, .out = cuda_rounded_at(cuda_address(o->out), w->max_rows, o->k), .x = cuda_address(o->x)};
  return LAUNCH(w, round16, (uint32_t)w->rows, 1, row_threads(w, o->k), a);
}

static struct cuda_glu_args glu_args(struct cuda_head head, const otr_op_glu *o) {
  struct cuda_glu_args a = {.head = head,
                            .out = cuda_address(o->out),
                            .gate = cuda_address(o->gate),
                            .up = cuda_address(o->up),
                            .width = o->width,
                            .act = (int32_t)o->act};
  return a;
}

static otr_status lower_glu(const lowering *w) {
  struct cuda_glu_args a = glu_args(w->head, &w->op->u.glu);
  return LAUNCH(w, glu, flat_blocks(w, a.width), 1, ROW_THREADS, a);
}

static otr_status lower_act(const lowering *w) {
  const otr_op_act *o = &w->op->u.act;
  struct cuda_act_args a = {
      .head = w->head, .out = cuda_address(o->out), .x = cuda_address(o->x), .width = o->width, .act = (int32_t)o->act};
  return LAUNCH(w, act, flat_blocks(w, o->width), 1, ROW_THREADS, a);
}

static struct cuda_add_args add_args(struct cuda_head head, const otr_op_add *o) {
  struct cuda_add_args a = {.head = head, .x = cuda_address(o->x), .y = cuda_address(o->y), .width = o->width};
  return a;
}

static otr_status lower_add(const lowering *w) {
  struct cuda_add_args a = add_args(w->head, &w->op->u.add);
  return LAUNCH(w, add, flat_blocks(w, a.width), 1, ROW_THREADS, a);
}

static otr_status lower_select(const lowering *w) {
  const otr_op_select *o = &w->op->u.select;
  struct cuda_select_args a = {
      .head = w->head, .out = cuda_address(o->out), .x = cuda_address(o->x), .width = o->width};
  return LAUNCH(w, select, (uint32_t)w->rows, blocks(o->width, WIDE), ROW_THREADS, a);
}

static otr_status lower_copy(const lowering *w) {
  const otr_op_copy *o = &w->op->u.copy;
  struct cuda_copy_args a = {.head = w->head, .out = cuda_address(o->out), .x = cuda_address(o->x), .width = o->width};
  return LAUNCH(w, copy, flat_blocks(w, o->width), 1, ROW_THREADS, a);
}

/* ---- linears ----------------------------------------------------------------------------------------------------- */

enum { STREAM_THREADS = 128, STREAM_OUTPUTS = 16, F16_THREADS = 128, F16_OUTPUTS = 32 };

/** The parts, each beginning at a block of `outputs` outputs of its own. @return blocks of them all
 *  @param streamed the weights are read once */
static uint32_t lower_parts(const otr_op_linear *o, struct cuda_part part[CUDA_PARTS], int32_t outputs, bool streamed) {
  uint32_t n_blocks = 0;
  for (int32_t i = 0; i < o->n_parts; i++) {
    const otr_weight *t = &o->part[i].w;
    part[i] = (struct cuda_part){.data = streamed ? cuda_address_streamed(t->data) : cuda_address(t->data),
                                 .scale = cuda_address(t->scale),
                                 .bias = cuda_address(t->bias),
                                 .static_slot = t->n_static > 0 ? cuda_address(t->static_slot) : 0,
                                 .static_cols = t->n_static > 0 ? cuda_address(t->static_cols) : 0,
                                 .out = cuda_address(o->part[i].out),
                                 .row_stride = t->row_stride,
                                 .n = t->n,
                                 .first_block = (int32_t)n_blocks};
    n_blocks += blocks(t->n, outputs);
  }
  return n_blocks;
}

static otr_status lower_stream(const lowering *w, struct cuda_linear_args *a) {
  uint32_t n = lower_parts(&w->op->u.linear, a->part, STREAM_OUTPUTS, w->rows <= 8);
  if (w->rows == 1) return LAUNCH(w, linear_stream1, n, 1, STREAM_THREADS, *a);
  if (w->rows == 2) return LAUNCH(w, linear_stream2, n, 1, STREAM_THREADS, *a);
  if (w->rows <= 4) return LAUNCH(w, linear_stream4, n, 1, STREAM_THREADS, *a);
  return LAUNCH(w, linear_stream8, n, blocks(w->rows, 8), STREAM_THREADS, *a);
}

/* Rows from which on the tensor cores do it; blocks of a launch of the GEMM for each multiprocessor, each with a panel
 * of its own. */
enum { TILE_FROM = 17, TILE_THREADS = 256, UNION_THREADS = 256, TILE_BLOCKS = 4 };

static bool is_demoted(const cuda_lowering *l, otr_op_code code) {
  return (l->demoted >> code & 1) != 0;
}

/** Rows of a tile: 128 where there are more than 64, and a multiprocessor has room for two such blocks. */
static int32_t tile_rows(const cuda_caps *caps, int32_t rows) {
  const int32_t reserved = 1024; /* by the driver, in each block */
  bool large =
      caps->shared_per_block >= CUDA_TILE128_SHARED && caps->shared_per_sm >= 2 * (CUDA_TILE128_SHARED + reserved);
  return large && rows > 64 ? 128 : 64;
}

/** Tiles of outputs of all parts. */
static int64_t output_tiles(const otr_op_linear *o) {
  int64_t n = 0;
  for (int32_t i = 0; i < o->n_parts; i++) n += blocks(o->part[i].w.n, CUDA_TILE_N);
  return n;
}

static int64_t panel_blocks(const cuda_caps *caps, const otr_op_linear *o, int64_t row_tiles) {
  int64_t all = output_tiles(o) * row_tiles, most = (int64_t)caps->n_sm * TILE_BLOCKS;
  return all < most ? all : most;
}

/** Places what a GEMM needs in scratch from *at on. */
static void tile_scratch(const cuda_caps *caps, const otr_op_linear *o, int64_t row_tiles, struct cuda_tile_args *a,
                         uint64_t *at) {
  uint64_t tiles = (uint64_t)row_tiles, slabs = blocks(o->k, CUDA_K_TILE) * 2;
  a->outliers.n_slabs = (int32_t)slabs;
  a->outliers.mask = take_scratch(at, tiles * slabs * sizeof(uint32_t));
  a->outliers.base = take_scratch(at, tiles * (slabs + 1) * sizeof(int32_t));
  a->outliers.place = take_scratch(at, tiles * CUDA_PANEL_SLOTS);
  a->panel = take_scratch(at, (uint64_t)panel_blocks(caps, o, row_tiles) * CUDA_PANEL_SLOTS * CUDA_TILE_N);
  a->row_tiles = (int32_t)row_tiles;
}

static size_t linear_scratch(const cuda_caps *caps, const otr_op_linear *o, int32_t max_rows) {
  struct cuda_tile_args a;
  uint64_t bytes = 0;
  if (max_rows >= TILE_FROM) tile_scratch(caps, o, blocks(max_rows, tile_rows(caps, max_rows)), &a, &bytes);
  return (size_t)bytes;
}

static otr_status lower_tile(const lowering *w, const struct cuda_linear_args *linear) {
  const cuda_caps *caps = w->l->caps;
  const otr_op_linear *o = &w->op->u.linear;
  struct cuda_tile_args a = {.linear = *linear, .outliers.tile_rows = tile_rows(caps, w->rows)};
  uint64_t at = w->l->scratch;
  bool large = a.outliers.tile_rows == 128;
  tile_scratch(caps, o, blocks(w->rows, a.outliers.tile_rows), &a, &at);
  int64_t n_tiles = (int64_t)lower_parts(o, a.linear.part, CUDA_TILE_N, false) * a.row_tiles;
  int64_t most = panel_blocks(caps, o, a.row_tiles);
  OTR_TRY(LAUNCH(w, linear_union, (uint32_t)a.row_tiles, 1, UNION_THREADS, a));
  for (int64_t first = 0; first < n_tiles; first += most) {
    uint32_t n = (uint32_t)(n_tiles - first < most ? n_tiles - first : most);
    a.first_tile = (int32_t)first;
    OTR_TRY(launch(w, large ? CUDA_KERNEL_linear_tile128 : CUDA_KERNEL_linear_tile64, (const uint32_t[3]){n, 1, 1},
                   TILE_THREADS, large ? CUDA_TILE128_SHARED : CUDA_TILE64_SHARED, &a, sizeof a));
  }
  return OTR_STATUS_OK;
}

static otr_status lower_linear(const lowering *w) {
  const otr_op_linear *o = &w->op->u.linear;
  struct cuda_linear_args a = {
      .head = w->head, .in = cuda_quantized_at(cuda_address(o->in), w->max_rows, o->k), .n_parts = o->n_parts};
  if (w->rows < TILE_FROM || is_demoted(w->l, OTR_OP_LINEAR)) return lower_stream(w, &a);
  return lower_tile(w, &a);
}

static otr_status lower_linear16(const lowering *w) {
  const otr_op_linear *o = &w->op->u.linear16;
  struct cuda_linear16_args a = {
      .head = w->head, .in = cuda_rounded_at(cuda_address(o->in), w->max_rows, o->k), .n_parts = o->n_parts};
  uint32_t n = lower_parts(o, a.part, F16_OUTPUTS, w->rows <= 8);
  if (w->rows == 1) return LAUNCH(w, linear16_1, n, 1, F16_THREADS, a);
  return LAUNCH(w, linear16_8, n, blocks(w->rows, 8), F16_THREADS, a);
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

static otr_status lower_rope_kv(const lowering *w) {
  const otr_op_rope_kv *o = &w->op->u.rope_kv;
  struct cuda_rope_kv_args a = {.head = w->head,
                                .q16 = cuda_address(o->q16),
                                .q = cuda_address(o->q),
                                .k = cuda_address(o->k),
                                .v = cuda_address(o->v),
                                .n_heads = o->n_heads,
                                .n_kv_heads = o->n_kv_heads,
                                .head_dim = o->head_dim,
                                .n_rot = o->n_rot,
                                .kv_layer = o->kv_layer};
  return LAUNCH(w, rope_kv, (uint32_t)w->rows, (uint32_t)(o->n_heads + 2 * o->n_kv_heads), 64, a);
}

enum { CHUNK_THREADS = 128, MERGE_THREADS = 128, TILE_ITEMS = 8, CHUNK_BLOCKS = 64 };
/* Partial results of a group of rows: the most bytes that are worth taking, unless one tile needs more. */
#define PARTS_BYTES ((size_t)32 << 20)

static size_t part_row_bytes(const otr_program *p, const otr_op_attention *o) {
  return (size_t)o->n_heads * (size_t)p->max_pages * (size_t)(o->head_dim + 2) * sizeof(float);
}

/** Rows whose partial results are held at a time. */
static int32_t group_rows(const otr_program *p, const otr_op_attention *o) {
  size_t most = PARTS_BYTES / part_row_bytes(p, o);
  int32_t rows = most < TILE_ITEMS ? TILE_ITEMS : most > (size_t)p->max_rows ? p->max_rows : (int32_t)most;
  return rows < p->max_rows ? rows / TILE_ITEMS * TILE_ITEMS : p->max_rows;
}

static otr_status lower_group(const lowering *w, struct cuda_attention_args *a) {
  uint32_t rows = (uint32_t)a->n_rows, heads = (uint32_t)a->n_heads, kv_heads = (uint32_t)a->n_kv_heads;
  uint32_t items = rows * (heads / kv_heads); /* that read the same K and V */
  uint32_t chunks = a->max_pages < CHUNK_BLOCKS ? (uint32_t)a->max_pages : CHUNK_BLOCKS;
  uint32_t q_bytes = (uint32_t)(a->head_dim + 3) / 4 * 4 * (uint32_t)sizeof(float);
  if (items == 1)
    OTR_TRY(launch(w, CUDA_KERNEL_attention_chunk, (const uint32_t[3]){chunks, kv_heads, 1}, CHUNK_THREADS, q_bytes, a,
                   sizeof *a));
  else
    OTR_TRY(launch(w, CUDA_KERNEL_attention_chunk8, (const uint32_t[3]){chunks, kv_heads, blocks(items, TILE_ITEMS)},
                   CHUNK_THREADS, TILE_ITEMS * q_bytes, a, sizeof *a));
  return LAUNCH(w, attention_merge, rows, heads, MERGE_THREADS, *a);
}

static otr_status lower_attention(const lowering *w) {
  const otr_op_attention *o = &w->op->u.attention;
  const otr_program *p = w->l->program;
  if (o->head_dim > CUDA_MAX_HEAD_DIM)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "heads of %d features: the CUDA backend takes at most %d", o->head_dim,
                    CUDA_MAX_HEAD_DIM);
  struct cuda_attention_args a = {.head = w->head,
                                  .out = cuda_address(o->out),
                                  .q16 = cuda_address(o->q16),
                                  .slopes = cuda_address(o->slopes),
                                  .parts = w->l->scratch,
                                  .n_heads = o->n_heads,
                                  .n_kv_heads = o->n_kv_heads,
                                  .head_dim = o->head_dim,
                                  .kv_layer = o->kv_layer,
                                  .window = o->window,
                                  .max_pages = p->max_pages,
                                  .scale = o->scale};
  int32_t group = group_rows(p, o);
  for (a.first_row = 0; a.first_row < w->rows; a.first_row += group) {
    a.n_rows = w->rows - a.first_row < group ? w->rows - a.first_row : group;
    OTR_TRY(lower_group(w, &a));
  }
  return OTR_STATUS_OK;
}

/** Partial results of a program's attention. */
static size_t attention_scratch(const otr_program *p, const otr_op_attention *o) {
  return part_row_bytes(p, o) * (size_t)group_rows(p, o);
}

/* ---- sequences that one kernel does ------------------------------------------------------------------------------ */

static struct cuda_head head_of(const cuda_lowering *l, const otr_op *op) {
  return (struct cuda_head){
      .step = l->step, .found = l->found, .layer = op->layer, .logits = op->rows == OTR_ROWS_LOGITS};
}

static otr_status lower_norm_sequence(const lowering *w, const otr_row_sequence *s) {
  const otr_op_norm *norm = &s->norm->u.norm;
  struct cuda_norm_quantize_args a = {.norm = norm_args(head_of(w->l, s->norm), norm),
                                      .quantize = quantize_args(w, &s->quantize->u.quantize),
                                      .has_add = s->add != NULL};
  if (s->add) a.add = add_args(w->head, &s->add->u.add);
  return LAUNCH(w, norm_quantize, (uint32_t)w->rows, 1, row_threads(w, norm->width), a);
}

static otr_status lower_act_sequence(const lowering *w, const otr_row_sequence *s) {
  const otr_op *op = s->act;
  otr_op_glu o = op->u.glu;
  if (op->code == OTR_OP_ACT)
    o = (otr_op_glu){.out = op->u.act.out, .gate = op->u.act.x, .width = op->u.act.width, .act = op->u.act.act};
  struct cuda_glu_quantize_args a = {.glu = glu_args(w->head, &o),
                                     .quantize = quantize_args(w, &s->quantize->u.quantize)};
  return LAUNCH(w, glu_quantize, (uint32_t)w->rows, 1, row_threads(w, o.width), a);
}

/* ---- all --------------------------------------------------------------------------------------------------------- */

otr_status cuda_lower(const cuda_lowering *l, const otr_op *op, int32_t rows, int32_t fuse, int32_t *n_ops,
                      cuda_emit emit, void *user) {
  static otr_status (*const lower[OTR_OP_COUNT])(const lowering *) = {
#define X(CODE, name) [OTR_OP_##CODE] = lower_##name,
      OTR_OP_LIST(X)
#undef X
  };
  lowering w = {.l = l,
                .op = op,
                .rows = rows,
                .max_rows = otr_rows_of(op->rows, l->program->max_rows, l->program->max_logits),
                .head = head_of(l, op),
                .emit = emit,
                .user = user};
  otr_row_sequence sequence;
  int32_t n_left = l->program->n_ops - (int32_t)(op - l->program->ops);
  *n_ops = fuse ? otr_row_sequence_at(op, n_left, &sequence) : 0;
  if (*n_ops > 0) return sequence.norm ? lower_norm_sequence(&w, &sequence) : lower_act_sequence(&w, &sequence);
  *n_ops = 1;
  return lower[op->code](&w);
}

size_t cuda_scratch_bytes(const cuda_caps *caps, const otr_program *program) {
  size_t most = 0;
  for (int32_t i = 0; i < program->n_ops; i++) {
    const otr_op *op = &program->ops[i];
    int32_t max_rows = otr_rows_of(op->rows, program->max_rows, program->max_logits);
    size_t bytes = 0;
    if (op->code == OTR_OP_ATTENTION) bytes = attention_scratch(program, &op->u.attention);
    if (op->code == OTR_OP_LINEAR) bytes = linear_scratch(caps, &op->u.linear, max_rows);
    if (bytes > most) most = bytes;
  }
  return most;
}

int32_t cuda_has_fast(const cuda_caps *caps, otr_op_code code) {
  (void)caps;
  return code == OTR_OP_LINEAR;
}
