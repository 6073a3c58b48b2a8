// SPDX-License-Identifier: Apache-2.0
/* Converting with an allocation that fails, each one in turn: NO_MEMORY, nothing held, no file. jansson's allocations
 * are among them. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conversion.h"
#include "counted_heap.h"
#include "hf_folder.h"
#include "model_kit.h"
#include "tiny_model.h"

#define PATH_BYTES 80

static char *folder, in[PATH_BYTES], out[PATH_BYTES], part[PATH_BYTES];

static void set_up(void) {
  folder = hf_folder_new();
  snprintf(out, sizeof out, "%s/out.gguf", folder);
  snprintf(part, sizeof part, "%s/out.gguf.part", folder);
}

static void tear_down(void) {
  hf_folder_remove(folder);
}

static bool exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0;
}

/* Runs a conversion once for every allocation of it, with that one failing, and then to its end. */
static void fail_each(conversion_params *params) {
  bool failed = true;
  for (long n = 0; failed; ++n) {
    conversion_result result;
    long before = heap_held;
    heap_taken = 0;
    heap_fail_at = n;
    otr_status status = conversion_run(params, &result);
    failed = heap_taken > n;
    heap_fail_at = -1;
    long held = heap_held - before;
    ck_assert_msg(status == (failed ? OTR_STATUS_NO_MEMORY : OTR_STATUS_OK), "allocation %ld: %s (%s)", n,
                  otr_status_text(status), otr_error_detail());
    ck_assert_msg(held == 0, "allocation %ld failed: %ld pieces are still held", n, held);
    ck_assert_msg(!exists(part) && exists(out) == !failed, "allocation %ld failed: a file is left", n);
  }
}

static void convert(const char *from) {
  static const char *const keep[] = {"blk.0.attn_v.weight"};
  static const int32_t columns[] = {1, 5};
  static const conversion_linear linear = {"blk.0.ffn_up.weight", {OTR_OUTLIERS_OFF, 0.0f}, columns, 2};
  otr_runtime *runtime = kit_runtime("cpu", 1);
  conversion_params params;
  memset(&params, 0, sizeof params);
  params.in = from;
  params.out = out;
  params.keep_f16 = keep;
  params.n_keep_f16 = 1;
  params.linears = &linear;
  params.n_linears = 1;
  params.runtime = runtime;
  fail_each(&params);
  ck_ok(otr_runtime_destroy(runtime));
}

START_TEST(gguf) {
  llama_shape shape = tiny_model_shape();
  shape.n_layers = 1;
  shape.rope_freqs = true;
  snprintf(in, sizeof in, "%s/in.gguf", folder);
  ck_ok(tiny_model_write(in, &shape, 3));
  convert(in);
}
END_TEST

/* Two shards, int8 rows of bitsandbytes, a tokenizer with merges and added tokens. */
static void write_directory(void) {
  static int8_t rows[4 * 8];
  static const float scb[4] = {1.0f, 0.5f, 0.25f, 2.0f};
  hf_item items[HF_LLAMA_ITEMS + 1];
  char index[4096] = "{\"weight_map\":{";
  hf_llama_items(items);
  for (int i = 0; i < 32; i++) rows[i] = (int8_t)(i * 8 - 127);
  items[3].dtype = "I8"; /* k_proj */
  items[3].data = rows;
  items[3].bytes = sizeof rows;
  items[HF_LLAMA_ITEMS] = (hf_item){"model.layers.0.self_attn.k_proj.SCB", "F32", 1, {4, 0}, scb, sizeof scb};
  hf_folder_safetensors(folder, "a.safetensors", items, 6);
  hf_folder_safetensors(folder, "b.safetensors", items + 6, HF_LLAMA_ITEMS - 5);
  for (int i = 0; i <= HF_LLAMA_ITEMS; i++)
    snprintf(index + strlen(index), sizeof index - strlen(index), "%s\"%s\":\"%c.safetensors\"", i > 0 ? "," : "",
             items[i].name, i < 6 ? 'a' : 'b');
  strcat(index, "}}");
  hf_folder_text(folder, "model.safetensors.index.json", index);
  hf_folder_config(folder, "quantization_config", "{\"load_in_8bit\": true, \"llm_int8_threshold\": 5.5}");
}

static void write_tokenizer(void) {
  hf_folder_text(folder, "tokenizer.json",
                 "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
                 "\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true}],"
                 "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<s>\":3,\"</s>\":4},"
                 "\"merges\":[\"a b\"]}}");
  hf_folder_text(folder, "tokenizer_config.json",
                 "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},\"chat_template\":\"{{ bos_token }}\"}");
}

START_TEST(directory) {
  write_directory();
  write_tokenizer();
  convert(folder);
}
END_TEST

/* One file of tensors; the tokenizer is the test's. */
static void write_plain_directory(void) {
  hf_item items[HF_LLAMA_ITEMS];
  hf_llama_items(items);
  hf_folder_safetensors(folder, "model.safetensors", items, HF_LLAMA_ITEMS);
  hf_folder_config(folder, NULL, NULL);
}

START_TEST(vocabulary_and_merges) {
  write_plain_directory();
  hf_folder_text(folder, "vocab.json", "{\"a\":0,\"b\":1,\"ab\":2,\"<s>\":3}");
  hf_folder_text(folder, "merges.txt", "#version: 0.2\na b\n");
  hf_folder_text(folder, "added_tokens.json", "{\"<x>\":4}");
  hf_folder_text(folder, "tokenizer_config.json",
                 "{\"tokenizer_class\":\"GPT2Tokenizer\",\"bos_token\":\"<s>\",\"add_prefix_space\":false}");
  convert(folder);
}
END_TEST

/* Protobuf: pieces "a" and "<unk>", kind BPE, extra white space is kept. */
START_TEST(sentencepiece) {
  static const char model[] = "\x0a\x03\x0a\x01\x61\x0a\x07\x0a\x05<unk>\x12\x02\x18\x02\x1a\x02\x20\x00";
  write_plain_directory();
  hf_folder_write(folder, "tokenizer.model", model, sizeof model - 1);
  hf_folder_text(folder, "added_tokens.json", "{\"<x>\":2}");
  convert(folder);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, gguf);
  tcase_add_test(tests, directory);
  tcase_add_test(tests, vocabulary_and_merges);
  tcase_add_test(tests, sentencepiece);
}

int main(void) {
  return suite_run("import_memory", add);
}
