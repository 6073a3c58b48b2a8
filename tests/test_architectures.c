// SPDX-License-Identifier: Apache-2.0
/* Small models of every architecture and block variant: one hash each for all devices, thread counts and splits; fused
 * and interleaved files give the bits of plain ones; metadata that cannot be true are refused by name. The constants
 * were computed once, by the reference: that they are what the architectures mean is shown by the golden data. */
#include <string.h>

#include "arch_gguf.h"
#include "model_kit.h"

#define N 270

/* Shapes; each architecture's own as it needs them. */
#define SMALL .dim = 24, .ffn = 40, .n_heads = 4, .n_kv_heads = 2, .head_dim = 6, .n_rot = 6, .n_ctx = 300
#define LLAMA .arch = "llama", SMALL, .paired = true
#define QWEN2 .arch = "qwen2", SMALL, .biases = ARCH_QKV_BIAS, .tied = true
#define QWEN3 .arch = "qwen3", SMALL, .gains = ARCH_ONE_GAIN, .tied = true
#define PHI3 .arch = "phi3", SMALL, .fused = true
#define GEMMA                                                                                                      \
  .arch = "gemma", .dim = 20, .ffn = 36, .n_heads = 3, .n_kv_heads = 1, .head_dim = 14, .n_rot = 14, .n_ctx = 300, \
  .tied = true
#define STABLELM \
  .arch = "stablelm", .dim = 24, .ffn = 40, .n_heads = 4, .n_kv_heads = 2, .head_dim = 6, .n_rot = 2, .n_ctx = 300
#define PLAIN \
  .dim = 20, .ffn = 44, .n_heads = 5, .n_kv_heads = 5, .head_dim = 4, .n_ctx = 300, .biases = ARCH_ALL_BIASES
#define GPT2 .arch = "gpt2", PLAIN, .tied = true
#define OPT .arch = "opt", PLAIN, .tied = true
#define BLOOM .arch = "bloom", PLAIN, .tied = true, .fused = true
#define NEOX .arch = "gptneox", PLAIN, .n_rot = 2, .fused = true
#define FALCON \
  .arch = "falcon", .dim = 24, .ffn = 40, .n_heads = 4, .head_dim = 6, .n_ctx = 300, .tied = true, .fused = true
#define WINDOW(n)                                \
  {                                              \
    { "attention.sliding_window", 'u', n, NULL } \
  }
#define LONGROPE(original)                                                                                      \
  {                                                                                                             \
    {"rope.scaling.type", 's', 0, "longrope"}, {"rope.scaling.original_context_length", 'u', original, NULL}, { \
      "rope.scaling.attn_factor", 'f', 1.25, NULL                                                               \
    }                                                                                                           \
  }
#define FACTORS .factors = {"rope_factors_short.weight", "rope_factors_long.weight"}
#define RULE(name, rule, value)                                                             \
  {                                                                                         \
    {"outrider.outliers.names", 'S', 0, name}, {"outrider.outliers.rules", 'S', 0, rule}, { \
      "outrider.outliers.values", 'F', value, NULL                                          \
    }                                                                                       \
  }

typedef struct variant {
  const char *what;
  arch_model model;
  const char *hash;
} variant;

#define LLAMA_HASH "d98e092a1048ce0f58771b1121a73ebffdc5fdfc516feeed653bcd2ea7f335a3"
#define QWEN3_HASH "44832372aaffefd3284f14286e0c3fcbb75080f96ff7fa06686d3d2c7e63c6cb"
#define BLOOM_HASH "7535b634271389669f111428353c78995f0960278af056234d7429256a4f49b2"
static const variant variants[] = {
    {"llama", {LLAMA}, LLAMA_HASH},
    {"llama, pairs by halves", {.arch = "llama", SMALL, .keys = {{"outrider.rope.order", 's', 0, "half"}}}, LLAMA_HASH},
    {"llama, a rule that is the usual one", {LLAMA, .keys = RULE("blk.1.attn_k.weight", "relative", 4)}, LLAMA_HASH},
    {"llama, another rule",
     {LLAMA, .keys = RULE("blk.1.attn_k.weight", "absolute", 1)},
     "33f594314c09bc489e5d9edd6251951f39dff68ad96acbe15560fe23bf009cd2"},
    {"mistral's window",
     {LLAMA, .keys = WINDOW(16)},
     "35da536b7685629db02bbda2b2a5b15d5db391d3b83d34b36fc134d565b94f30"},
    {"a window of all positions", {LLAMA, .keys = WINDOW(300)}, LLAMA_HASH},
    {"llama, yarn",
     {LLAMA, .keys = {{"rope.scaling.type", 's', 0, "yarn"},
                      {"rope.scaling.factor", 'f', 4, NULL},
                      {"rope.scaling.original_context_length", 'u', 64, NULL}}},
     "3f6a757684c85ea4203fb31d14a2711b14616060f914a8e6dfb39e5a08549e51"},
    {"qwen2", {QWEN2}, "3923f70361244bd26738622a0abd167030386e05580e68e6c06855aa0f739bdc"},
    {"qwen3", {QWEN3}, QWEN3_HASH},
    {"gains of q and k, interleaved",
     {.arch = "llama", SMALL, .gains = ARCH_ONE_GAIN, .tied = true, .paired = true},
     QWEN3_HASH},
    {"phi3", {PHI3}, LLAMA_HASH},
    {"phi3, not fused", {.arch = "phi3", SMALL}, LLAMA_HASH},
    {"phi3, long factors",
     {PHI3, .keys = LONGROPE(100), FACTORS},
     "7268c8ab7415ba470efcef6ce2b23a4ea62e79ccda417557df12c044b9af1677"},
    {"phi3, short factors",
     {PHI3, .keys = LONGROPE(1000), FACTORS},
     "cd69bec62dba1cdd45c99a6ba9c0a391e2b46155425f0be3bc325cda393d49eb"},
    {"gemma", {GEMMA}, "6bb893ee9681293cb7a2e42b511eb8cf03773232451d3667ab1dcf75f1840a27"},
    {"stablelm",
     {STABLELM, .biases = ARCH_QKV_BIAS},
     "44ce848e3ae5537c9d05b9ac4dfe198088a8f61779ae30cf4331f01d1dfe6045"},
    {"stablelm, parallel",
     {STABLELM, .block = "parallel"},
     "04e336652084e8d9996babbb9585e2bf77dead6778f0234e3e9bae9c2e5c494b"},
    {"stablelm, gains of each head",
     {STABLELM, .block = "parallel", .gains = ARCH_GAIN_A_HEAD},
     "051771753c6d8c4664525804897b3eb481801a1809f29c0891586426f692de1c"},
    {"gpt2", {GPT2, .fused = true}, "8febead45dafd1e70fc5ed5127b63641a108e2d8535e5a93104d5a130319ddaa"},
    {"opt", {OPT}, "51231bf0dfb752080ed3683f0e7c00c29721abfa599683b270864cc705325ffc"},
    {"opt, post-norm, projected",
     {OPT, .block = "post", .embd = 12},
     "64c83c269387edc2367fbb90c02d5e6dc9ff0b31419fa6c95822049abaa71b33"},
    {"bloom", {BLOOM}, BLOOM_HASH},
    {"bloom, not fused", {.arch = "bloom", PLAIN, .tied = true}, BLOOM_HASH},
    {"gptneox", {NEOX}, "f716578b851d8ba261ebba826deec738ca9e8c6e38d591dcd7e711b830f02188"},
    {"gptneox, serial", {NEOX, .block = "serial"}, "759d1230779a18989b4d9611957f1ab4d97213e1aa1c8ff32ac5f84df9293b55"},
    {"gptneox, tanh",
     {NEOX, .keys = {{"outrider.activation", 's', 0, "gelu_tanh"}}},
     "73d5f167316e00431814d6785cd03340981cef729f1ae81c6b4d061abaec3df3"},
    {"falcon",
     {FALCON, .n_kv_heads = 1, .n_rot = 6},
     "94d67b417096f406e8ce681ac7cd598e0c0216ec641c182b6f02cafeee53e158"},
    {"falcon, two norms",
     {FALCON, .n_kv_heads = 2, .n_rot = 6, .block = "parallel2"},
     "ed75814d533651aa77dba6aef4a88b825158d2a069a8d2e1730d34fe2d88436c"},
    {"falcon, serial, ALiBi",
     {FALCON, .n_kv_heads = 4, .biases = ARCH_ALL_BIASES, .block = "serial",
      .keys = {{"attention.max_alibi_bias", 'f', 8, NULL}}},
     "90570f6160f134f3e9af140030dc372afbec3d3d6937f878cbf913a76775c682"},
};
#define N_VARIANTS ((int)(sizeof variants / sizeof variants[0]))

static char *write_model(const arch_model *model) {
  char *path = kit_new_file("arch");
  ck_ok(arch_model_write(path, model, 5));
  return path;
}

/* Test _i: device _i / N_VARIANTS, variant _i % N_VARIANTS. */
START_TEST(one_hash) {
  const variant *v = &variants[_i % N_VARIANTS];
  const char *device = kit_device(_i / N_VARIANTS);
  static const int32_t splits[3] = {512, 7, 1};
  char *path = write_model(&v->model), hash[65];
  int32_t ids[N], threads = 1 + _i % 3;
  kit_ids(ids, N, ARCH_VOCAB, 11);
  kit k = kit_open(path, device, threads, NULL);
  float *logits = kit_logits(k.model, ids, N, splits[(_i % N_VARIANTS + _i / N_VARIANTS) % 3]);
  kit_hash(hash, logits, (size_t)N * ARCH_VOCAB);
  ck_assert_msg(strcmp(hash, v->hash) == 0, "%s on %s, %d threads: %s", v->what, device, threads, hash);
  free(logits);
  kit_close(&k);
  kit_remove(path);
}
END_TEST

/* The first half in one session, the second in another that got its state. */
START_TEST(states) {
  const variant *v = &variants[_i];
  char *path = write_model(&v->model);
  int32_t ids[N];
  kit_ids(ids, N, ARCH_VOCAB, 3);
  kit k = kit_open(path, "auto", 2, NULL);
  float *expected = kit_logits(k.model, ids, N, N);
  otr_session *first = kit_session(k.model, N, N), *second = kit_session(k.model, N, N);
  ck_ok(otr_session_eval(first, ids, N / 2, NULL));
  kit_bytes state = kit_save(first);
  ck_ok(otr_session_load(second, state.data, state.n));
  ck_ok(otr_session_eval(second, ids + N / 2, N - N / 2, NULL));
  kit_same(otr_session_logits(second), expected + (size_t)(N - 1) * ARCH_VOCAB, ARCH_VOCAB, v->what);
  ck_ok(otr_session_copy(second, first));
  ck_ok(otr_session_eval(second, ids + N / 2, N - N / 2, NULL));
  kit_same(otr_session_logits(second), expected + (size_t)(N - 1) * ARCH_VOCAB, ARCH_VOCAB, v->what);
  free(state.data);
  free(expected);
  otr_session_destroy(first);
  otr_session_destroy(second);
  kit_close(&k);
  kit_remove(path);
}
END_TEST

/* The caller's rule takes the place of all rules in the file. */
START_TEST(override) {
  const arch_model plain = {LLAMA}, ruled = {LLAMA, .keys = RULE("blk.0.ffn_down.weight", "off", 0)};
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  params.outliers = (otr_outliers){OTR_OUTLIERS_ABSOLUTE, 2.0f};
  char *path[2] = {write_model(&plain), write_model(&ruled)};
  float *logits[2];
  int32_t ids[20];
  kit_ids(ids, 20, ARCH_VOCAB, 7);
  for (int i = 0; i < 2; ++i) {
    kit k = kit_open(path[i], "auto", 1, &params);
    logits[i] = kit_logits(k.model, ids, 20, 20);
    kit_close(&k);
    kit_remove(path[i]);
  }
  kit_same(logits[0], logits[1], (size_t)20 * ARCH_VOCAB, "override");
  free(logits[0]);
  free(logits[1]);
}
END_TEST

/* A table of positions ends. */
START_TEST(positions_end) {
  arch_model model = {GPT2};
  model.n_ctx = 40;
  char *path = write_model(&model);
  int32_t ids[41];
  kit_ids(ids, 41, ARCH_VOCAB, 7);
  kit k = kit_open(path, "auto", 1, NULL);
  otr_session *s = kit_session(k.model, 64, 64);
  ck_assert_int_eq(otr_session_room(s), 40);
  ck_assert_int_eq(otr_session_eval(s, ids, 41, NULL), OTR_STATUS_CONTEXT_FULL);
  ck_ok(otr_session_eval(s, ids, 40, NULL));
  ck_assert_int_eq(otr_session_room(s), 0);
  ck_assert_int_eq(otr_session_slide(s, 0, 1), OTR_STATUS_CONTEXT_FULL);
  otr_session_destroy(s);
  kit_close(&k);
  kit_remove(path);
}
END_TEST

/* Behind the window nothing is read: a small session that slides gives the bits of one that holds all positions. */
START_TEST(window_in_constant_memory) {
  enum { WINDOW_ROWS = 300, PIECE = 64, ALL = 30 * PIECE };
  const arch_model model = {LLAMA, .keys = WINDOW(WINDOW_ROWS)};
  static int32_t ids[ALL];
  char *path = write_model(&model);
  kit_ids(ids, ALL, ARCH_VOCAB, 7);
  kit k = kit_open(path, "auto", 1, NULL);
  otr_model_info info = {.struct_size = sizeof info};
  ck_ok(otr_model_get_info(k.model, &info));
  ck_assert_int_eq(info.window, WINDOW_ROWS);
  otr_session *all = kit_session(k.model, ALL, PIECE), *small = kit_session(k.model, WINDOW_ROWS + PIECE + 256, PIECE);
  for (int32_t at = 0; at < ALL; at += PIECE) {
    ck_ok(otr_session_eval(all, ids + at, PIECE, NULL));
    ck_ok(otr_session_slide(small, 0, PIECE));
    ck_ok(otr_session_eval(small, ids + at, PIECE, NULL));
    kit_same(otr_session_logits(all), otr_session_logits(small), ARCH_VOCAB, "behind the window");
  }
  otr_stats held[2] = {{.struct_size = sizeof *held}, {.struct_size = sizeof *held}};
  ck_ok(otr_session_stats(all, &held[0]));
  ck_ok(otr_session_stats(small, &held[1]));
  ck_assert_uint_eq(held[0].kv_bytes / 8, held[1].kv_bytes / 3);
  otr_session_destroy(all);
  otr_session_destroy(small);
  kit_close(&k);
  kit_remove(path);
}
END_TEST

/* Rows that an app gives would be those behind the projection. */
START_TEST(projected_rows) {
  const arch_model model = {OPT, .block = "post", .embd = 12};
  const float rows[20] = {0};
  char *path = write_model(&model);
  kit k = kit_open(path, "cpu", 1, NULL);
  otr_session *s = kit_session(k.model, 64, 64);
  ck_assert_int_eq(otr_session_eval_embeddings(s, rows, 1, NULL), OTR_STATUS_UNSUPPORTED);
  otr_session_destroy(s);
  kit_close(&k);
  kit_remove(path);
}
END_TEST

/* Short and long sessions of longrope turn keys by different angles: what one computed is of no use to the other. */
START_TEST(long_sessions) {
  const arch_model model = {PHI3, .keys = LONGROPE(300), FACTORS};
  char *path = write_model(&model);
  int32_t ids[20];
  kit_ids(ids, 20, ARCH_VOCAB, 7);
  kit k = kit_open(path, "auto", 1, NULL);
  otr_session *within = kit_session(k.model, 256, 32), *beyond = kit_session(k.model, 512, 32);
  ck_ok(otr_session_eval(within, ids, 20, NULL));
  ck_ok(otr_session_eval(beyond, ids, 20, NULL));
  ck_assert(memcmp(otr_session_logits(within), otr_session_logits(beyond), ARCH_VOCAB * sizeof(float)) != 0);
  ck_assert_int_eq(otr_session_copy(beyond, within), OTR_STATUS_INVALID_ARGUMENT);
  kit_bytes state = kit_save(within);
  ck_assert_int_eq(otr_session_load(beyond, state.data, state.n), OTR_STATUS_MISMATCH);
  free(state.data);
  otr_session_destroy(within);
  otr_session_destroy(beyond);
  kit_close(&k);
  kit_remove(path);
}
END_TEST

/* ---- what is refused --------------------------------------------------------------------------------------------- */

typedef struct refusal {
  arch_model model;
  const char *detail; /* some words of the message */
} refusal;

#define KEY(name, type, number) .keys = {{name, type, number, NULL}}
#define TEXT(name, text) .keys = {{name, 's', 0, text}}
#define SCALING(kind, name, number) .keys = {{"rope.scaling.type", 's', 0, kind}, {name, 'f', number, NULL}}
static const refusal refusals[] = {
    {{GPT2, .left_out = "blk.1.attn_q.bias"}, "blk.1.attn_q.bias is missing"},
    {{GPT2, .left_out = "blk.0.attn_norm.bias"}, "blk.0.attn_norm.bias is missing"},
    {{GPT2, .left_out = "position_embd.weight"}, "position_embd.weight is missing"},
    {{GPT2, .cut = "position_embd.weight"}, "position_embd.weight is [20, 299"},
    {{GPT2, .fused = true, .cut = "blk.1.attn_qkv.weight"}, "blk.1.attn_qkv.weight is [20, 59"},
    {{GPT2, .fused = true, .cut = "blk.1.attn_qkv.bias"}, "blk.1.attn_qkv.bias is [59"},
    {{GPT2, KEY("context_length", 'u', 2000000)}, "gpt2.context_length is 2000000"},
    {{LLAMA, .left_out = "blk.1.attn_q.weight"}, "blk.1.attn_qkv.weight is missing"},
    {{PHI3, .cut = "blk.0.ffn_up.weight"}, "blk.0.ffn_up.weight is [24, 79"},
    {{LLAMA, .factors = {"blk.0.attn_norm.bias"}}, "blk.0.attn_norm.bias belongs to no part"},
    {{LLAMA, .factors = {"position_embd.weight"}}, "position_embd.weight belongs to no part"},
    {{QWEN3, .left_out = "blk.1.attn_q_norm.weight"}, "blk.1.attn_q_norm.weight is missing"},
    {{QWEN3, .cut = "blk.1.attn_k_norm.weight"}, "blk.1.attn_k_norm.weight is [5"},
    {{BLOOM, .left_out = "token_embd_norm.weight"}, "token_embd_norm.weight is missing"},
    {{BLOOM, KEY("attention.max_alibi_bias", 'f', -8)}, "bloom.attention.max_alibi_bias is -8"},
    {{BLOOM, KEY("attention.max_alibi_bias", 'f', 1e9)}, "max_alibi_bias is 1e+09"},
    {{BLOOM, TEXT("attention.max_alibi_bias", "8")}, "max_alibi_bias is not a number"},
    {{OPT, .embd = 12, .left_out = "project_in.weight"}, "project_in.weight and project_out.weight do not fit"},
    {{OPT, .embd = 12, .left_out = "project_out.weight"}, "project_in.weight and project_out.weight do not fit"},
    {{OPT, .embd = 12, .cut = "project_out.weight"}, "project_out.weight is [20, 11"},
    {{OPT, .left_out = "output_norm.weight"}, "output_norm.weight is missing"},
    {{LLAMA, TEXT("outrider.block", "parallel")}, "outrider.block names no block of llama"},
    {{LLAMA, KEY("outrider.block", 'u', 1)}, "outrider.block names no block of llama"},
    {{LLAMA, TEXT("outrider.activation", "swish")}, "outrider.activation"},
    {{LLAMA, KEY("attention.sliding_window", 'u', 4294967295.0)}, "attention.sliding_window is 4294967295"},
    {{LLAMA, TEXT("attention.sliding_window", "16")}, "attention.sliding_window is not an integer"},
    {{NEOX, TEXT("use_parallel_residual", "yes")}, "use_parallel_residual is no bool"},
    {{NEOX, KEY("rope.dimension_count", 'u', 3)}, "an odd number (3)"},
    {{LLAMA, SCALING("yarn", "rope.scaling.factor", 0.5)}, "YaRN"},
    {{LLAMA, SCALING("yarn", "rope.scaling.yarn_beta_slow", 64)}, "YaRN"},
    {{LLAMA, SCALING("yarn", "rope.freq_base", 1)}, "YaRN"},
    {{LLAMA, SCALING("yarn", "rope.scaling.attn_factor", 0)}, "attention factor"},
    {{LLAMA, SCALING("linear", "rope.scaling.factor", 2), .factors = {"rope_freqs.weight"}}, "in two ways"},
    {{LLAMA, SCALING("none", "rope.scaling.factor", 2), .factors = {"rope_freqs.weight", "rope_factors_long.weight"}},
     "in two ways"},
    {{PHI3, .keys = LONGROPE(100)}, "rope_factors_long.weight or rope_factors_short.weight is missing"},
    {{PHI3, .keys = LONGROPE(100), .factors = {"rope_factors_short.weight"}}, "is missing"},
    {{PHI3, .keys = LONGROPE(0), FACTORS}, "rope.scaling.original_context_length is 0"},
    {{PHI3, SCALING("longrope", "rope.scaling.attn_factor", 1), FACTORS}, "original_context_length is missing"},
    {{PHI3, .keys = LONGROPE(100), FACTORS, .cut = "rope_factors_long.weight"}, "rope_factors_long.weight is not 3"},
    {{LLAMA, .keys = RULE("blk.2.attn_q.weight", "off", 0)}, "\"blk.2.attn_q.weight\" is no linear"},
    {{LLAMA, .keys = RULE("blk.0.attn_norm.weight", "off", 0)}, "\"blk.0.attn_norm.weight\" is no linear"},
    {{LLAMA, .keys = RULE("blk.00.attn_q.weight", "off", 0)}, "is no linear"},
    {{LLAMA, .keys = RULE("blk.0.attn_q.weight", "of", 0)}, "\"of\" is no rule"},
    {{LLAMA, .keys = RULE("blk.0.attn_q.weight", "relative", -1)}, "a relative threshold of -1"},
    {{LLAMA, .keys = RULE("blk.0.attn_q.weight", "absolute", -1)}, "an absolute threshold of -1"},
    {{LLAMA, .keys = {{"outrider.outliers.names", 'S', 0, "blk.0.attn_q.weight"}}}, "wrong types or lengths"},
    {{LLAMA, .keys = {{"outrider.outliers.names", 'F', 1, NULL},
                      {"outrider.outliers.rules", 'S', 0, "off"},
                      {"outrider.outliers.values", 'F', 1, NULL}}},
     "wrong types or lengths"},
};

START_TEST(refused) {
  const refusal *r = &refusals[_i];
  char *path = kit_new_file("arch");
  otr_model *model;
  if (arch_model_write(path, &r->model, 1) != OTR_STATUS_OK) ck_abort_msg("%s: %s", r->detail, otr_error_detail());
  otr_runtime *runtime = kit_runtime("cpu", 1);
  otr_status status = otr_model_open_file(runtime, path, NULL, &model);
  ck_assert_msg(status == OTR_STATUS_BAD_FORMAT || status == OTR_STATUS_UNSUPPORTED, "%s: %s", r->detail,
                otr_status_text(status));
  ck_assert_msg(strstr(otr_error_detail(), r->detail) != NULL, "%s: %s", r->detail, otr_error_detail());
  ck_assert_ptr_null(model);
  ck_ok(otr_runtime_destroy(runtime));
  kit_remove(path);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_loop_test(tests, one_hash, 0, kit_n_devices() * N_VARIANTS);
  tcase_add_loop_test(tests, states, 0, N_VARIANTS);
  tcase_add_test(tests, override);
  tcase_add_test(tests, positions_end);
  tcase_add_test(tests, window_in_constant_memory);
  tcase_add_test(tests, projected_rows);
  tcase_add_test(tests, long_sessions);
  tcase_add_loop_test(tests, refused, 0, (int)(sizeof refusals / sizeof refusals[0]));
}

int main(void) {
  return suite_run("architectures", add);
}
