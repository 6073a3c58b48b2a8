// SPDX-License-Identifier: Apache-2.0
/* Saved states: what goes on after a load has the bits of what was saved, on every device, thread count and context;
 * and every way in which a blob can be wrong. */
#include <string.h>

#include "model_kit.h"

#define N 300
#define HEADER 80
#define ROW (2 * 1 * 12 * 2 * 2) /* layers, KV heads, head dim, K and V, bytes: the small shape's */

static char *path;
static llama_shape shape;
static int32_t ids[2 * N];

static void set_up(void) {
  shape = kit_small_shape();
  path = kit_tiny_file(&shape, 1);
  kit_ids(ids, 2 * N, 320, 7);
}

static void tear_down(void) {
  kit_remove(path);
}

static otr_session *evaluated(otr_model *model, int32_t n_ctx, int32_t n) {
  otr_session *s = kit_session(model, n_ctx, 128);
  if (n > 0) ck_ok(otr_session_eval(s, ids, n, NULL));
  return s;
}

static otr_status load(otr_session *s, kit_bytes blob) {
  return otr_session_load(s, blob.data, blob.n);
}

START_TEST(any_device_goes_on) {
  static const int32_t lengths[] = {0, 1, 255, 256, 257, N};
  kit from = kit_open(path, kit_device(_i), 2, NULL);
  for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
    int32_t n = lengths[l];
    otr_session *a = evaluated(from.model, 512, n);
    kit_bytes blob = kit_save(a);
    ck_assert_uint_eq(blob.n, HEADER + (size_t)n * (ROW + 4) + 32);
    ck_ok(otr_session_eval(a, ids + n, 5, NULL));
    for (int32_t d = 0; d < kit_n_devices(); d++) {
      kit to = kit_open(path, kit_device(d), 1 + d % 3, NULL);
      otr_session *b = evaluated(to.model, 1024, 40); /* larger, and used before */
      ck_ok(load(b, blob));
      ck_assert_int_eq(otr_session_position(b), n);
      ck_assert_int_eq(otr_session_room(b), 1024 - n);
      ck_assert_ptr_null(otr_session_logits(b));
      kit_bytes again = kit_save(b);
      ck_assert_uint_eq(again.n, blob.n);
      ck_assert_mem_eq(again.data, blob.data, blob.n);
      ck_ok(otr_session_eval(b, ids + n, 5, NULL));
      kit_same(otr_session_logits(b), otr_session_logits(a), 320, kit_device(d));
      free(again.data);
      otr_session_destroy(b);
      kit_close(&to);
    }
    free(blob.data);
    otr_session_destroy(a);
  }
  kit_close(&from);
}
END_TEST

/* Rows given instead of ids stand as -1 in the record. */
START_TEST(given_rows_are_saved) {
  kit k = kit_open(path, "cpu", 1, NULL);
  otr_session *s = evaluated(k.model, 512, 3), *t = kit_session(k.model, 512, 128);
  float rows[2 * 24];
  for (int i = 0; i < 48; i++) rows[i] = (float)(i % 7) - 3.0f;
  ck_ok(otr_session_eval_embeddings(s, rows, 2, NULL));
  kit_bytes blob = kit_save(s);
  static const uint8_t minus_one[8] = {255, 255, 255, 255, 255, 255, 255, 255};
  ck_assert_mem_eq(blob.data + HEADER + 12, minus_one, 8);
  ck_ok(load(t, blob));
  ck_ok(otr_session_eval(s, ids, 1, NULL));
  ck_ok(otr_session_eval(t, ids, 1, NULL));
  kit_same(otr_session_logits(s), otr_session_logits(t), 320, "after given rows");
  free(blob.data);
  otr_session_destroy(s);
  otr_session_destroy(t);
  kit_close(&k);
}
END_TEST

static void refused(otr_session *s, const uint8_t *data, size_t n, otr_status want, const char *what) {
  /* A block of exactly its size, so that a sanitizer sees a read past its end. */
  uint8_t *copy = malloc(n > 0 ? n : 1);
  memcpy(copy, data, n);
  otr_status got = otr_session_load(s, copy, n);
  ck_assert_msg(got == want, "%s: %s (%s)", what, otr_status_text(got), otr_error_detail());
  ck_assert_msg(otr_session_position(s) == 0, "%s: not reset", what);
  free(copy);
}

START_TEST(truncated) {
  kit k = kit_open(path, "cpu", 1, NULL);
  otr_session *s = evaluated(k.model, 512, 20);
  kit_bytes blob = kit_save(s);
  for (size_t n = 0; n < blob.n; n += n < 140 ? 1 : 97) {
    ck_ok(otr_session_eval(s, ids, 1, NULL));
    refused(s, blob.data, n, OTR_STATUS_BAD_FORMAT, "cut short");
  }
  ck_assert_int_eq(otr_session_load(s, NULL, 5), OTR_STATUS_INVALID_ARGUMENT);
  uint8_t *longer = calloc(1, blob.n + 1);
  memcpy(longer, blob.data, blob.n);
  refused(s, longer, blob.n + 1, OTR_STATUS_BAD_FORMAT, "one byte more");
  ck_ok(load(s, blob));
  free(longer);
  free(blob.data);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

/* Each bit of the header and of the checksum, and bits of every kind of body. */
START_TEST(flipped_bits) {
  kit k = kit_open(path, "cpu", 1, NULL);
  otr_session *s = evaluated(k.model, 512, 20);
  kit_bytes blob = kit_save(s);
  for (size_t bit = 0; bit < 8 * blob.n; bit += bit < 8 * (HEADER + 8) || bit >= 8 * (blob.n - 33) ? 1 : 61) {
    blob.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    otr_status status = load(s, blob);
    ck_assert_msg(status == OTR_STATUS_BAD_FORMAT || status == OTR_STATUS_MISMATCH, "bit %zu: %s", bit,
                  otr_status_text(status));
    ck_assert_int_eq(otr_session_position(s), 0);
    blob.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
  }
  ck_ok(load(s, blob));
  free(blob.data);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

static void put32(uint8_t *at, uint32_t v) {
  for (int i = 0; i < 4; i++) at[i] = (uint8_t)(v >> (8 * i));
}

/* Lies under a right checksum. */
START_TEST(sealed_lies) {
  static const struct {
    size_t at;
    uint32_t value;
    otr_status status;
    const char *what;
  } lies[] = {{8, 2, OTR_STATUS_MISMATCH, "another contract revision"},
              {8, 0, OTR_STATUS_MISMATCH, "contract revision 0"},
              {12, 2, OTR_STATUS_MISMATCH, "another KV type"},
              {16, 3, OTR_STATUS_MISMATCH, "layers"},
              {20, 0, OTR_STATUS_MISMATCH, "KV heads"},
              {24, 24, OTR_STATUS_MISMATCH, "head dim"},
              {28, 21, OTR_STATUS_BAD_FORMAT, "a position more"},
              {28, 0xffffffffu, OTR_STATUS_BAD_FORMAT, "position -1"},
              {28, 1u << 21, OTR_STATUS_BAD_FORMAT, "position beyond all"},
              {32, 0, OTR_STATUS_BAD_FORMAT, "ids, but told of none"},
              {32, 2, OTR_STATUS_BAD_FORMAT, "flag 2"},
              {48, 0, OTR_STATUS_MISMATCH, "another model's digest"},
              {HEADER, 320, OTR_STATUS_BAD_FORMAT, "id = vocab"},
              {HEADER + 76, 0x80000000u, OTR_STATUS_BAD_FORMAT, "id far below 0"},
              {HEADER + 4, 0xfffffffeu, OTR_STATUS_BAD_FORMAT, "id -2"}};
  kit k = kit_open(path, "cpu", 1, NULL);
  otr_session *s = evaluated(k.model, 512, 20);
  for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
    otr_session_reset(s);
    ck_ok(otr_session_eval(s, ids, 20, NULL));
    kit_bytes blob = kit_save(s);
    put32(blob.data + lies[i].at, lies[i].value);
    kit_seal(&blob);
    refused(s, blob.data, blob.n, lies[i].status, lies[i].what);
    free(blob.data);
  }
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

/* Any f16 bits are a state: what is not finite is clamped, and the eval answers with a status. */
START_TEST(any_values_of_kv) {
  kit k = kit_open(path, kit_device(_i), 1, NULL);
  otr_session *s = evaluated(k.model, 512, 20);
  kit_bytes blob = kit_save(s);
  for (size_t i = HEADER + 80; i < blob.n - 32; i += 2) {
    static const uint16_t odd[] = {0x7c00, 0xfc00, 0x7e01, 0xffff, 0x8000, 0x0001, 0x83ff, 0x7bff};
    blob.data[i] = (uint8_t)odd[i / 2 % 8];
    blob.data[i + 1] = (uint8_t)(odd[i / 2 % 8] >> 8);
  }
  kit_seal(&blob);
  ck_ok(load(s, blob));
  kit_bytes again = kit_save(s);
  for (size_t i = HEADER + 80; i < again.n - 32; i += 2)
    ck_assert_msg((again.data[i + 1] & 0x7c) != 0x7c, "a value that is not finite was kept");
  otr_status status = otr_session_eval(s, ids, 3, NULL);
  ck_assert(status == OTR_STATUS_OK || status == OTR_STATUS_NONFINITE);
  free(again.data);
  free(blob.data);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

/* The same ids in a model that differs in its weights only, in a shape, in the rule. */
START_TEST(other_models) {
  kit k = kit_open(path, "cpu", 1, NULL);
  otr_session *s = evaluated(k.model, 512, N);
  kit_bytes blob = kit_save(s);
  char *seed = kit_tiny_file(&shape, 2);
  llama_shape wider = shape;
  wider.ffn = 44;
  char *other = kit_tiny_file(&wider, 1);
  otr_model_params params = OTR_MODEL_PARAMS_INIT;
  struct {
    const char *path;
    otr_outliers outliers;
  } cases[] = {{seed, {0, 0}},
               {other, {0, 0}},
               {path, {OTR_OUTLIERS_OFF, 0}},
               {path, {OTR_OUTLIERS_ABSOLUTE, 0}},
               {path, {OTR_OUTLIERS_RELATIVE, 5.0f}}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    params.outliers = cases[i].outliers;
    kit to = kit_open(cases[i].path, "cpu", 1, &params);
    otr_session *t = kit_session(to.model, 512, 64);
    ck_assert_msg(load(t, blob) == OTR_STATUS_MISMATCH, "case %zu", i);
    otr_session_destroy(t);
    kit_close(&to);
  }
  params.outliers = (otr_outliers){OTR_OUTLIERS_RELATIVE, 0}; /* the default, said aloud */
  kit same = kit_open(path, "cpu", 1, &params);
  otr_session *t = kit_session(same.model, 512, 64), *small = kit_session(same.model, 256, 64);
  ck_ok(load(t, blob));
  ck_assert_int_eq(load(small, blob), OTR_STATUS_CONTEXT_FULL);
  ck_ok(otr_session_eval(small, ids, 256, NULL)); /* it still has all its pages */
  otr_session_destroy(small);
  otr_session_destroy(t);
  kit_close(&same);
  kit_remove(seed);
  kit_remove(other);
  free(blob.data);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

typedef struct stingy {
  size_t n, limit;
} stingy;

static int32_t write_some(void *user, const void *bytes, size_t n_bytes) {
  stingy *w = user;
  (void)bytes;
  if (w->n + n_bytes > w->limit) return -1;
  w->n += n_bytes;
  return 0;
}

START_TEST(write_may_refuse) {
  kit k = kit_open(path, "cpu", 1, NULL);
  otr_session *s = evaluated(k.model, 512, N);
  size_t whole = (size_t)otr_session_state_bytes(s);
  for (size_t limit = 0; limit < whole; limit += 1 + whole / 23) {
    stingy w = {0, limit};
    ck_assert_int_eq(otr_session_save(s, write_some, &w), OTR_STATUS_IO);
  }
  stingy w = {0, whole - 1};
  ck_assert_int_eq(otr_session_save(s, write_some, &w), OTR_STATUS_IO);
  w = (stingy){0, whole};
  ck_ok(otr_session_save(s, write_some, &w));
  ck_assert_int_eq(otr_session_save(s, NULL, NULL), OTR_STATUS_INVALID_ARGUMENT);
  otr_session_destroy(s);
  kit_close(&k);
}
END_TEST

static int32_t write_and_eval(void *user, const void *bytes, size_t n_bytes) {
  (void)bytes;
  (void)n_bytes;
  otr_session_reset(user);
  return otr_session_eval(user, ids, 1, NULL) == OTR_STATUS_OK ? 0 : -1;
}

/* The caller's writer may use other sessions of the model. */
START_TEST(writer_may_eval) {
  kit k = kit_open(path, "cpu", 1, NULL);
  otr_session *s = evaluated(k.model, 512, 20), *t = kit_session(k.model, 256, 1);
  ck_ok(otr_session_save(s, write_and_eval, t));
  otr_session_destroy(s);
  otr_session_destroy(t);
  kit_close(&k);
}
END_TEST

static void add(TCase *tests) {
  int n = kit_n_devices();
  tcase_add_unchecked_fixture(tests, set_up, tear_down);
  tcase_add_loop_test(tests, any_device_goes_on, 0, n);
  tcase_add_test(tests, given_rows_are_saved);
  tcase_add_test(tests, truncated);
  tcase_add_test(tests, flipped_bits);
  tcase_add_test(tests, sealed_lies);
  tcase_add_loop_test(tests, any_values_of_kv, 0, n);
  tcase_add_test(tests, other_models);
  tcase_add_test(tests, write_may_refuse);
  tcase_add_test(tests, writer_may_eval);
}

int main(void) {
  return suite_run("state", add);
}
