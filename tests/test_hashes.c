// SPDX-License-Identifier: Apache-2.0
/* One hash of the tiny model's logits for every device, thread count, split, compiler and optimization: the constants
 * below were computed once, by the reference. A change of any of them is a change of the contract. */
#include <string.h>

#include "model_kit.h"
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#define N 290

static const char *const all_weights[] = {"*"}, *const embedding[] = {"token_embd.weight"},
                         *const some[] = {"blk.1.ffn_*", "blk.?.attn_k.weight"};

typedef struct variant {
  const char *what;
  otr_outliers outliers;
  int32_t f16_columns_all, n_keep_f16;
  const char *const *keep_f16;
  bool f16_file, own_head, bias, rope_freqs;
  const char *hash;
} variant;

static const variant variants[] = {
    {.what = "relative 4", .hash = "3be4fc06b2b7ba6a7ae170e7c3d10e6173e493c46ca360b82c7c068e4d78280a"},
    {.what = "absolute 6",
     .outliers = {OTR_OUTLIERS_ABSOLUTE, 0},
     .hash = "96afee717229d0b50571061274891e7d342072e92c5f1d92b201390978b4b06e"},
    {.what = "off",
     .outliers = {OTR_OUTLIERS_OFF, 0},
     .hash = "e0b524280bfc8a0ced81b8cdee378a2fdab51242d0c9ab740f42bfd1b60801a8"},
    {.what = "relative 2.5",
     .outliers = {OTR_OUTLIERS_RELATIVE, 2.5f},
     .hash = "373051b493b913668ae281267cb88495eb338dac8d920d97b6d1a40b4efcb972"},
    {.what = "f16 columns",
     .f16_columns_all = 1,
     .hash = "7b398e43344b81bb20dd6579a331564ddbc5987efdb20c09625dc05973da72bb"},
    {.what = "absolute 6, f16 columns",
     .outliers = {OTR_OUTLIERS_ABSOLUTE, 6},
     .f16_columns_all = 1,
     .hash = "4ef4b72ca1b97e242e15d7d618863346c46b70af7aac2187cce1c707cd1b2668"},
    {.what = "near exact",
     .outliers = {OTR_OUTLIERS_ABSOLUTE, 1e-30f},
     .f16_columns_all = 1,
     .n_keep_f16 = 1,
     .keep_f16 = embedding,
     .hash = "e49eae785e9174b53e467b87865a4f678941eb4037cfbee9c35b8152b21002f9"},
    {.what = "every linear f16",
     .n_keep_f16 = 1,
     .keep_f16 = all_weights,
     .hash = "a5c48f8644a677ba589b48d6f56e4a6e328c88628d53cab4d863932d63932f2c"},
    {.what = "some linears f16",
     .n_keep_f16 = 2,
     .keep_f16 = some,
     .hash = "587a65e4e443bfde200fed692d4c6510d96d9f964aa65f75207c7a62f7ebdf52"},
    {.what = "own head, biases, rope_freqs",
     .own_head = true,
     .bias = true,
     .rope_freqs = true,
     .hash = "b3558bffea4a5cabf46fa38e637479c9218dc43acb34e8219e223dc14b0a5f22"},
    {.what = "from f16", .f16_file = true, .hash = "431a899641043acdf1929c1565f539e42c780d2f413cb5ca3731fbc80533602a"},
};
#define N_VARIANTS ((int)(sizeof variants / sizeof variants[0]))

/* Test _i: device _i / N_VARIANTS, variant _i % N_VARIANTS. */
START_TEST(one_hash) {
  const variant *v = &variants[_i % N_VARIANTS];
  const char *device = kit_device(_i / N_VARIANTS);
  static const int32_t splits[3] = {512, 7, 1};
  llama_shape shape = tiny_model_shape();
  shape.tied = !v->own_head;
  shape.bias = v->bias;
  shape.rope_freqs = v->rope_freqs;
  shape.f16 = v->f16_file;
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  params.outliers = v->outliers;
  params.f16_columns_all = v->f16_columns_all;
  params.keep_f16 = v->keep_f16;
  params.n_keep_f16 = v->n_keep_f16;
  char *path = kit_tiny_file(&shape, 1);
  int32_t ids[N], threads = 1 + _i % 3;
  kit_ids(ids, N, 320, 11);
  kit k = kit_open(path, device, threads, &params);
  float *logits = kit_logits(k.model, ids, N, splits[_i % N_VARIANTS % 3]);
  char hash[65];
  kit_hash(hash, logits, (size_t)N * 320);
  ck_assert_msg(strcmp(hash, v->hash) == 0, "%s on %s, %d threads: %s", v->what, device, threads, hash);
  free(logits);
  kit_close(&k);
  kit_remove(path);
}
END_TEST

#if defined(__SSE2__)
/* A caller who rounds down, up or to zero and flushes subnormals gets the same hash, and its mode back: from weights
 * (made in the model's opening), tables and passes alike. Test _i: device _i / 4, rounding _i % 4. */
START_TEST(callers_mode_does_not_show) {
  const unsigned int before = _mm_getcsr(), odd = 0x1f80u | 0x8040u | (unsigned int)(_i % 4) << 13;
  const char *device = kit_device(_i / 4);
  char *path = kit_tiny_file(NULL, 1), hash[65];
  int32_t ids[N];
  kit_ids(ids, N, 320, 11);
  _mm_setcsr(odd);
  kit k = kit_open(path, device, 2, NULL);
  float *logits = kit_logits(k.model, ids, N, 512);
  unsigned int after = _mm_getcsr();
  _mm_setcsr(before);
  ck_assert_uint_eq(after & 0xffc0u, odd & 0xffc0u);
  kit_hash(hash, logits, (size_t)N * 320);
  ck_assert_msg(strcmp(hash, variants[0].hash) == 0, "rounding %d on %s: %s", _i % 4, device, hash);
  free(logits);
  kit_close(&k);
  kit_remove(path);
}
END_TEST
#endif

static void add(TCase *tests) {
#if defined(__SSE2__)
  tcase_add_loop_test(tests, callers_mode_does_not_show, 0, kit_n_devices() * 4);
#endif
  tcase_add_loop_test(tests, one_hash, 0, kit_n_devices() * N_VARIANTS);
}

int main(void) {
  return suite_run("hashes", add);
}
