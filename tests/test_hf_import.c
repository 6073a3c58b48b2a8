// SPDX-License-Identifier: Apache-2.0
/* Hugging Face directories that are wrong in one place are answered with a message that names file and tensor or entry;
 * what is right is read value by value. */
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "conversion.h"
#include "hf_folder.h"
#include "model_kit.h"
#include "origin.h"
#include "source.h"

static char *folder;
static hf_item items[HF_LLAMA_ITEMS + 4];
static size_t n_items;

static void set_up(void) {
  folder = hf_folder_new();
  hf_llama_items(items);
  n_items = HF_LLAMA_ITEMS;
  hf_folder_config(folder, NULL, NULL);
}

static void tear_down(void) {
  hf_folder_remove(folder);
}

static hf_item *item(const char *name) {
  for (size_t i = 0; i < n_items; i++)
    if (strcmp(items[i].name, name) == 0) return &items[i];
  ck_abort_msg("no tensor %s", name);
  return NULL;
}

static void write_items(void) {
  hf_folder_safetensors(folder, "model.safetensors", items, n_items);
}

/* Opens and reads every value, as converting does. */
static otr_status read_all(void) {
  otr_memory memory;
  source *from;
  float values[256], absmax[16];
  int8_t q[256];
  otr_memory_init(&memory, NULL);
  otr_status status = source_open(folder, &memory, &from);
  ck_assert_int_eq(status == OTR_STATUS_OK, from != NULL);
  for (int32_t i = 0; from != NULL && status == OTR_STATUS_OK && i < source_count(from); i++) {
    const source_tensor *t = source_at(from, i);
    ck_assert_int_le(t->n * t->k, 256);
    status = t->is_int8 ? source_int8(from, t, 0, t->n, q, absmax) : source_rows(from, t, 0, t->n, values);
  }
  source_close(from);
  ck_assert_uint_eq(memory.now, 0);
  return status;
}

static void refused(otr_status want, const char *first, const char *second) {
  otr_status status = read_all();
  ck_assert_msg(
      status == want && strstr(otr_error_detail(), first) != NULL && strstr(otr_error_detail(), second) != NULL,
      "%s, %s: %s: %s", first, second, otr_status_text(status), otr_error_detail());
}

START_TEST(good) {
  write_items();
  ck_ok(read_all());
}
END_TEST

/* ---- config.json ------------------------------------------------------------------------------------------------- */

static const struct fault {
  const char *key, *value;
  otr_status status;
  const char *word;
} faults[] = {
    {"num_hidden_layers", "0", OTR_STATUS_BAD_FORMAT, "num_hidden_layers is 0"},
    {"num_hidden_layers", "2147483648", OTR_STATUS_BAD_FORMAT, "num_hidden_layers is 2147483648"},
    {"num_hidden_layers", "13", OTR_STATUS_BAD_FORMAT, "13 layers, but 12 tensors"},
    {"num_hidden_layers", "2", OTR_STATUS_BAD_FORMAT, "blk.1."},
    {"num_hidden_layers", NULL, OTR_STATUS_BAD_FORMAT, "num_hidden_layers is missing"},
    {"num_hidden_layers", "1.5", OTR_STATUS_BAD_FORMAT, "num_hidden_layers is not an integer"},
    {"num_attention_heads", "0", OTR_STATUS_BAD_FORMAT, "num_attention_heads is 0"},
    {"num_attention_heads", "3", OTR_STATUS_BAD_FORMAT, "8 values cannot be shared out over 3 heads"},
    {"num_key_value_heads", "4", OTR_STATUS_BAD_FORMAT, "KV heads"},
    {"num_key_value_heads", "-1", OTR_STATUS_BAD_FORMAT, "num_key_value_heads is -1"},
    {"head_dim", "0", OTR_STATUS_BAD_FORMAT, "head_dim is 0"},
    {"head_dim", "3", OTR_STATUS_BAD_FORMAT, "odd number"},
    {"head_dim", "6", OTR_STATUS_BAD_FORMAT, "blk.0.attn_q.weight"},
    {"hidden_size", "16777217", OTR_STATUS_BAD_FORMAT, "hidden_size is 16777217"},
    {"vocab_size", "0", OTR_STATUS_BAD_FORMAT, "vocab_size is 0"},
    {"vocab_size", "17", OTR_STATUS_BAD_FORMAT, "vocab_size"},
    {"rope_theta", "0", OTR_STATUS_BAD_FORMAT, "rope.freq_base"},
    {"rope_theta", "\"nan\"", OTR_STATUS_BAD_FORMAT, "rope_theta is not a number"},
    {"rope_theta", "NaN", OTR_STATUS_BAD_FORMAT, "config.json"},
    {"rms_norm_eps", "-1e-5", OTR_STATUS_BAD_FORMAT, "rms_norm_eps is -1e-05"},
    {"rms_norm_eps", "1e-30", OTR_STATUS_BAD_FORMAT, "layer_norm_rms_epsilon"},
    {"max_position_embeddings", "99999999999", OTR_STATUS_BAD_FORMAT, "max_position_embeddings"},
    {"model_type", "\"mamba\"", OTR_STATUS_UNSUPPORTED, "model_type \"mamba\""},
    {"model_type", NULL, OTR_STATUS_BAD_FORMAT, "model_type is missing"},
    {"hidden_act", "\"quick_gelu\"", OTR_STATUS_UNSUPPORTED, "quick_gelu"},
    {"tie_word_embeddings", "1", OTR_STATUS_BAD_FORMAT, "tie_word_embeddings"},
    {"rope_scaling", "5", OTR_STATUS_BAD_FORMAT, "rope_scaling"},
    {"rope_scaling", "{\"rope_type\": \"dynamic\", \"factor\": 2.0}", OTR_STATUS_UNSUPPORTED, "dynamic"},
    {"rope_scaling", "{\"type\": \"linear\"}", OTR_STATUS_BAD_FORMAT, "rope_scaling has no factor"},
    {"rope_scaling", "{\"type\": \"longrope\", \"long_factor\": [1.0], \"short_factor\": [1.0, 1.0]}",
     OTR_STATUS_BAD_FORMAT, "long_factor"},
    {"quantization_config", "{\"quant_method\": \"gptq\"}", OTR_STATUS_UNSUPPORTED, "gptq"},
    {"quantization_config", "{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}", OTR_STATUS_UNSUPPORTED,
     "fp8"},
    {"quantization_config", "{\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true}", OTR_STATUS_UNSUPPORTED,
     "4 bits"},
    {"quantization_config", "{\"load_in_8bit\": true, \"llm_int8_threshold\": -1}", OTR_STATUS_BAD_FORMAT,
     "llm_int8_threshold is -1"},
};
#define N_FAULTS ((int)(sizeof faults / sizeof faults[0]))

START_TEST(bad_config) {
  const struct fault *f = &faults[_i];
  write_items();
  hf_folder_config(folder, f->key, f->value);
  refused(f->status, f->word, folder);
}
END_TEST

START_TEST(bad_config_file) {
  static const char *const texts[] = {"", "[]", "{\"model_type\": \"llama\"", "{\"a\": 1, \"a\": 2}", "null"};
  write_items();
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    hf_folder_text(folder, "config.json", texts[i]);
    refused(OTR_STATUS_BAD_FORMAT, "config.json", folder);
  }
}
END_TEST

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

START_TEST(bad_tensors) {
  static const float wrong[8] = {0, 0, 0, INFINITY};
  const char *name = "model.layers.0.mlp.up_proj.weight";
  item(name)->dims[0] = 11;
  write_items();
  refused(OTR_STATUS_BAD_FORMAT, "blk.0.ffn_up.weight", folder);
  item(name)->dims[0] = 12;
  item(name)->dtype = "I32";
  item(name)->data = items; /* any bytes */
  item(name)->bytes = 12 * 8 * 4;
  write_items();
  refused(OTR_STATUS_UNSUPPORTED, "model.safetensors: tensor model.layers.0.mlp.up_proj.weight has dtype I32", folder);
  hf_llama_items(items);
  item("model.norm.weight")->data = wrong;
  item("model.norm.weight")->bytes = sizeof wrong;
  write_items();
  refused(OTR_STATUS_BAD_FORMAT, "model.safetensors: tensor model.norm.weight: row 3", "not finite");
  hf_llama_items(items);
  item(name)->name = "model.layers.0.mlp.side_proj.weight";
  write_items();
  refused(OTR_STATUS_UNSUPPORTED, "tensor model.layers.0.mlp.side_proj.weight belongs to no part", folder);
  hf_llama_items(items);
  n_items--; /* the output layer: then the embedding is it */
  write_items();
  ck_ok(read_all());
  hf_folder_write(folder, "model.safetensors", "12345", 5);
  refused(OTR_STATUS_BAD_FORMAT, "model.safetensors", folder);
}
END_TEST

static void write_index(const char *tensor, const char *shard) {
  char text[4096] = "{\"weight_map\": {";
  size_t at = strlen(text);
  for (size_t i = 0; i < n_items; i++)
    at += (size_t)snprintf(text + at, sizeof text - at, "%s\"%s\": \"%s\"", i > 0 ? ", " : "", items[i].name,
                           strcmp(items[i].name, tensor) == 0 ? shard
                           : i < 6                            ? "a.safetensors"
                                                              : "b.safetensors");
  snprintf(text + at, sizeof text - at, "}}");
  hf_folder_text(folder, "model.safetensors.index.json", text);
}

START_TEST(shards) {
  hf_folder_safetensors(folder, "a.safetensors", items, 6);
  hf_folder_safetensors(folder, "b.safetensors", items + 6, n_items - 6);
  write_index("", "");
  ck_ok(read_all());
  static const char *const names[] = {"../b.safetensors", "/etc/passwd", "", ".", "..", "x\\\\b"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    write_index("lm_head.weight", names[i]);
    refused(OTR_STATUS_BAD_FORMAT, "model.safetensors.index.json", "lm_head.weight");
  }
  write_index("lm_head.weight", "c.safetensors");
  refused(OTR_STATUS_IO, "c.safetensors", folder);
  write_index("lm_head.weight", "a.safetensors");
  refused(OTR_STATUS_BAD_FORMAT, "tensor lm_head.weight is not in a.safetensors", "index.json");
  write_index("", "");
  hf_folder_safetensors(folder, "b.safetensors", items + 5, n_items - 5);
  refused(OTR_STATUS_BAD_FORMAT, "o_proj.weight is in a.safetensors and in b.safetensors", "index.json");
  hf_folder_text(folder, "model.safetensors.index.json", "{}");
  refused(OTR_STATUS_BAD_FORMAT, "weight_map", "index.json");
}
END_TEST

START_TEST(no_weights) {
  refused(OTR_STATUS_IO, "no model.safetensors", folder);
  hf_folder_text(folder, "pytorch_model.bin", "pickle");
  refused(OTR_STATUS_UNSUPPORTED, "safe_serialization", folder);
}
END_TEST

/* ---- bitsandbytes ------------------------------------------------------------------------------------------------ */

static int8_t rows[4 * 8];
static float scb[4];
static uint8_t format;

/* k_proj as int8, right in everything. */
static void make_int8(void) {
  hf_llama_items(items);
  n_items = HF_LLAMA_ITEMS;
  for (int i = 0; i < 32; i++) rows[i] = (int8_t)(i * 8 - 127);
  for (int i = 0; i < 4; i++) scb[i] = 0.25f * (float)(i + 1);
  format = 0;
  hf_item *w = item("model.layers.0.self_attn.k_proj.weight");
  w->dtype = "I8";
  w->data = rows;
  w->bytes = sizeof rows;
  items[n_items++] = (hf_item){"model.layers.0.self_attn.k_proj.SCB", "F32", 1, {4, 0}, scb, sizeof scb};
  items[n_items++] = (hf_item){"model.layers.0.self_attn.k_proj.weight_format", "U8", 0, {0, 0}, &format, 1};
}

START_TEST(int8_as_it_is) {
  otr_memory memory;
  source *from;
  float absmax[4], values[32];
  int8_t q[32];
  make_int8();
  write_items();
  hf_folder_config(folder, "quantization_config", "{\"load_in_8bit\": true, \"llm_int8_threshold\": 5.5}");
  otr_memory_init(&memory, NULL);
  ck_ok(source_open(folder, &memory, &from));
  const source_tensor *t = source_find(from, "blk.0.attn_k.weight");
  ck_assert(t != NULL && t->is_int8 && t->threshold == 5.5f);
  ck_ok(source_int8(from, t, 0, 4, q, absmax));
  ck_assert_mem_eq(q, rows, sizeof rows);
  ck_assert_mem_eq(absmax, scb, sizeof scb);
  ck_ok(source_rows(from, t, 1, 2, values));
  ck_assert(fabsf(values[9] - (float)rows[17] * scb[2] / 127.0f) < 1e-7f);
  source_close(from);
}
END_TEST

START_TEST(bad_int8) {
  static const float bad[] = {-0.5f, NAN, INFINITY, 0.0f};
  static const uint8_t formats[] = {1, 2, 3, 255};
  for (size_t i = 0; i < 4; i++) {
    make_int8();
    scb[2] = bad[i];
    write_items();
    refused(OTR_STATUS_BAD_FORMAT, "model.safetensors: tensor model.layers.0.self_attn.k_proj.weight", "SCB of row 2");
    make_int8();
    format = formats[i];
    write_items();
    refused(OTR_STATUS_UNSUPPORTED, "k_proj.weight_format is", folder);
  }
  make_int8();
  rows[13] = -128;
  write_items();
  refused(OTR_STATUS_BAD_FORMAT, "k_proj.weight: row 1 holds -128", "model.safetensors");
  make_int8();
  item("model.layers.0.self_attn.k_proj.SCB")->dims[0] = 3;
  item("model.layers.0.self_attn.k_proj.SCB")->bytes = 12;
  write_items();
  refused(OTR_STATUS_BAD_FORMAT, "k_proj.SCB is not F32 [4]", folder);
  make_int8();
  item("model.layers.0.self_attn.k_proj.SCB")->name = "model.layers.0.self_attn.k_proj.SCX";
  write_items();
  refused(OTR_STATUS_BAD_FORMAT, "k_proj.weight is I8 and has no SCB", folder);
  make_int8();
  memset(rows, 0, 8);
  scb[0] = 0.0f; /* a zero row's */
  n_items--;     /* no weight_format: row-major */
  write_items();
  ck_ok(read_all());
}
END_TEST

/* Converted, int8 linears have their own threshold, others the default, and what is left beside them stays f16. */
START_TEST(int8_converted) {
  char out[64];
  make_int8();
  write_items();
  hf_folder_config(folder, "quantization_config", "{\"load_in_8bit\": true, \"llm_int8_threshold\": 6.0}");
  snprintf(out, sizeof out, "%s/out.gguf", folder);
  otr_runtime *runtime = kit_runtime("cpu", 1);
  conversion_params params;
  conversion_result result;
  memset(&params, 0, sizeof params);
  params.in = folder;
  params.out = out;
  params.runtime = runtime;
  ck_ok(conversion_run(&params, &result));
  ck_assert_int_eq(result.n_int8, 1);
  ck_assert_int_eq(result.n_f16, 8);
  otr_metadata *metadata;
  otr_metadata_value value;
  const otr_source file = {.path = out};
  size_t cursor = 0, n;
  const char *text;
  ck_ok(otr_metadata_open(&file, &metadata));
  ck_assert(otr_metadata_find(metadata, "outrider.outliers.names", &value) && value.count == 1);
  ck_assert(otr_metadata_next_string(&value, &cursor, &text, &n) && n == 19 &&
            memcmp(text, "blk.0.attn_k.weight", n) == 0);
  otr_metadata_close(metadata);
  params.outliers.rule = OTR_OUTLIERS_OFF; /* said by the caller: of every linear */
  ck_ok(conversion_run(&params, &result));
  ck_ok(otr_metadata_open(&file, &metadata));
  ck_assert(!otr_metadata_find(metadata, "outrider.outliers.names", &value));
  otr_metadata_close(metadata);
  ck_ok(otr_runtime_destroy(runtime));
}
END_TEST

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Every byte as FP8, against the formats' definition. */
START_TEST(fp8) {
  int nans[2] = {0, 0};
  for (int kind = 0; kind < 2; kind++)
    for (int byte = 0; byte < 256; byte++) {
      const uint8_t data = (uint8_t)byte;
      const int bits = kind == 0 ? 3 : 2, bias = kind == 0 ? 7 : 15;
      const int exponent = (byte & 127) >> bits, mantissa = byte & ((1 << bits) - 1);
      const origin o = {.file = "f",
                        .name = "t",
                        .data = &data,
                        .rows = 1,
                        .k = 1,
                        .type = kind == 0 ? ORIGIN_F8_E4M3 : ORIGIN_F8_E5M2};
      float value;
      otr_status status = origin_rows(&o, 0, 1, &value);
      nans[kind] += status != OTR_STATUS_OK;
      if (status != OTR_STATUS_OK) continue;
      double size =
          exponent == 0 ? ldexp(mantissa, 1 - bias - bits) : ldexp((1 << bits) + mantissa, exponent - bias - bits);
      ck_assert_double_eq((double)value, byte & 128 ? -size : size);
    }
  ck_assert_int_eq(nans[0], 2); /* E4M3 has one NaN of each sign and no infinity: 448 is its largest */
  ck_assert_int_eq(nans[1], 8);
}
END_TEST

/* Rows of a fused tensor in groups of heads, stored as they are and transposed. */
START_TEST(slices) {
  float stored[12 * 3], flipped[12 * 3], got[4 * 3], want[4 * 3];
  for (int i = 0; i < 12; i++)
    for (int j = 0; j < 3; j++) stored[i * 3 + j] = flipped[j * 12 + i] = (float)(i * 3 + j);
  /* two groups of six rows; of each the rows 3 and 4 */
  origin o = {.file = "f", .name = "t", .data = (const uint8_t *)stored, .rows = 12, .k = 3, .slice = {3, 2, 6}};
  static const int chosen[4] = {3, 4, 9, 10};
  for (int i = 0; i < 4; i++) memcpy(want + i * 3, stored + chosen[i] * 3, 3 * sizeof *want);
  ck_ok(origin_rows(&o, 0, 4, got));
  ck_assert_mem_eq(got, want, sizeof want);
  o.data = (const uint8_t *)flipped;
  o.transposed = 1;
  ck_ok(origin_rows(&o, 0, 4, got));
  ck_assert_mem_eq(got, want, sizeof want);
  ck_ok(origin_rows(&o, 2, 2, got));
  ck_assert_mem_eq(got, want + 6, 6 * sizeof *want);
}
END_TEST

/* ---- one model, two formats -------------------------------------------------------------------------------------- */

static float model_values[HF_LLAMA_ITEMS][16 * 12];

/* Values of every tensor; some columns are large, so that there are outliers. */
static void fill_items(void) {
  uint32_t seed = 7;
  for (size_t i = 0; i < HF_LLAMA_ITEMS; i++) {
    size_t n = (size_t)items[i].dims[0] * (items[i].n_dims == 2 ? (size_t)items[i].dims[1] : 1);
    for (size_t j = 0; j < n; j++) {
      seed = seed * 1664525u + 1013904223u;
      model_values[i][j] = ((float)(seed >> 8) * 0x1p-23f - 1.0f) * (j % 8 == 3 ? 5.0f : 0.5f);
    }
    items[i].data = model_values[i];
    items[i].bytes = n * sizeof(float);
  }
}

/* GGUF's rows of q and k: pair (j, j + 2) of a head of 4 is rows (2j, 2j + 1). */
static const float *gguf_values(void *user, llama_role role, int32_t layer, int32_t n, int32_t k) {
  static const int8_t places[LLAMA_ROLES] = {
      [LLAMA_TOKEN_EMBD] = 0, [LLAMA_ATTN_NORM] = 1,   [LLAMA_ATTN_Q] = 2,       [LLAMA_ATTN_K] = 3,
      [LLAMA_ATTN_V] = 4,     [LLAMA_ATTN_OUTPUT] = 5, [LLAMA_FFN_NORM] = 6,     [LLAMA_FFN_GATE] = 7,
      [LLAMA_FFN_UP] = 8,     [LLAMA_FFN_DOWN] = 9,    [LLAMA_OUTPUT_NORM] = 10, [LLAMA_OUTPUT] = 11};
  static float turned[8 * 8];
  const float *values = model_values[places[role]];
  (void)user;
  (void)layer;
  if (role != LLAMA_ATTN_Q && role != LLAMA_ATTN_K) return values;
  for (int32_t row = 0; row < n; row++)
    memcpy(turned + row * k, values + (row / 4 * 4 + row % 4 / 2 + row % 2 * 2) * k, (size_t)k * sizeof *turned);
  return turned;
}

static void logits_of(const char *path, float *out) {
  const int32_t ids[6] = {0, 15, 3, 3, 9, 1};
  kit k = kit_open(path, "cpu", 1, NULL);
  float *logits = kit_logits(k.model, ids, 6, 6);
  memcpy(out, logits, 6 * 16 * sizeof *out);
  free(logits);
  kit_close(&k);
}

START_TEST(same_as_gguf) {
  const llama_shape shape = {.name = "t",
                             .dim = 8,
                             .ffn = 12,
                             .n_layers = 1,
                             .n_heads = 2,
                             .n_kv_heads = 1,
                             .head_dim = 4,
                             .vocab = 16,
                             .n_ctx = 64,
                             .rope_base = 10000.0f,
                             .eps = 1e-5f};
  const char *tokens[16];
  float scores[16] = {0}, logits[2][6 * 16];
  int32_t types[16];
  for (int i = 0; i < 16; i++) {
    tokens[i] = "x";
    types[i] = 1;
  }
  const llama_vocab vocab = {tokens, scores, types};
  char gguf[64], out[64];
  snprintf(gguf, sizeof gguf, "%s/model.gguf", folder);
  snprintf(out, sizeof out, "%s/out.gguf", folder);
  fill_items();
  write_items();
  ck_ok(llama_gguf_write(gguf, &shape, &vocab, gguf_values, NULL));
  otr_runtime *runtime = kit_runtime("cpu", 1);
  conversion_params params;
  conversion_result from_hf, from_gguf;
  memset(&params, 0, sizeof params);
  params.in = folder;
  params.out = out;
  params.runtime = runtime;
  ck_ok(conversion_run(&params, &from_hf));
  logits_of(out, logits[0]);
  logits_of(gguf, logits[1]);
  kit_same(logits[0], logits[1], 6 * 16, "a directory and a GGUF");
  params.in = gguf;
  ck_ok(conversion_run(&params, &from_gguf));
  ck_assert_str_eq(from_hf.sha256, from_gguf.sha256);
  ck_ok(otr_runtime_destroy(runtime));
}
END_TEST

static void add(TCase *tests) {
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, good);
  tcase_add_loop_test(tests, bad_config, 0, N_FAULTS);
  tcase_add_test(tests, bad_config_file);
  tcase_add_test(tests, bad_tensors);
  tcase_add_test(tests, shards);
  tcase_add_test(tests, no_weights);
  tcase_add_test(tests, int8_as_it_is);
  tcase_add_test(tests, bad_int8);
  tcase_add_test(tests, int8_converted);
  tcase_add_test(tests, fp8);
  tcase_add_test(tests, slices);
  tcase_add_test(tests, same_as_gguf);
}

int main(void) {
  return suite_run("hf_import", add);
}
