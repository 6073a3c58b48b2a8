// SPDX-License-Identifier: Apache-2.0
#include "hf_folder.h"

#include <check.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096

char *hf_folder_new(void) {
  char *folder = strdup("test_hf_XXXXXX");
  ck_assert(folder != NULL && mkdtemp(folder) != NULL);
  return folder;
}

void hf_folder_remove(char *folder) {
  char path[PATH_BYTES];
  DIR *entries = opendir(folder);
  ck_assert_ptr_nonnull(entries);
  for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    if (entry->d_name[0] != '.') unlink(path);
  }
  closedir(entries);
  ck_assert_int_eq(rmdir(folder), 0);
  free(folder);
}

void hf_folder_write(const char *folder, const char *name, const void *bytes, size_t n_bytes) {
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  ck_assert_ptr_nonnull(file);
  ck_assert_uint_eq(fwrite(bytes, 1, n_bytes, file), n_bytes);
  ck_assert_int_eq(fclose(file), 0);
}

void hf_folder_text(const char *folder, const char *name, const char *text) {
  hf_folder_write(folder, name, text, strlen(text));
}

static size_t dtype_bytes(const char *dtype) {
  return strcmp(dtype, "F32") == 0 ? 4 : strstr(dtype, "16") != NULL ? 2 : 1;
}

static size_t item_bytes(const hf_item *item) {
  if (item->data != NULL) return item->bytes;
  size_t bytes = dtype_bytes(item->dtype);
  for (int32_t i = 0; i < item->n_dims; i++) bytes *= (size_t)item->dims[i];
  return bytes;
}

static void put_data(FILE *file, const hf_item *item) {
  size_t n = item_bytes(item);
  if (item->data != NULL) {
    ck_assert_uint_eq(fwrite(item->data, 1, n, file), n);
    return;
  }
  const float half = 0.5f;
  const bool is_f32 = strcmp(item->dtype, "F32") == 0;
  for (size_t i = 0; i < n; i += is_f32 ? sizeof half : 1) {
    if (is_f32) {
      ck_assert_uint_eq(fwrite(&half, sizeof half, 1, file), 1);
    } else {
      fputc(0, file);
    }
  }
}

/* The file with its header; data follow. */
static FILE *begin_safetensors(const char *folder, const char *name, const hf_item *items, size_t n) {
  static char header[1 << 16];
  size_t at = 1, place = 0;
  header[0] = '{';
  for (size_t i = 0; i < n; i++) {
    const hf_item *item = &items[i];
    char shape[64] = "";
    if (item->n_dims == 1) snprintf(shape, sizeof shape, "%lld", (long long)item->dims[0]);
    if (item->n_dims == 2)
      snprintf(shape, sizeof shape, "%lld,%lld", (long long)item->dims[0], (long long)item->dims[1]);
    at += (size_t)snprintf(header + at, sizeof header - at,
                           "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", i > 0 ? "," : "",
                           item->name, item->dtype, shape, place, place + item_bytes(item));
    ck_assert_uint_lt(at, sizeof header - 1);
    place += item_bytes(item);
  }
  header[at++] = '}';
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  ck_assert_ptr_nonnull(file);
  uint64_t length = at;
  ck_assert(fwrite(&length, sizeof length, 1, file) == 1 && fwrite(header, 1, at, file) == at);
  return file;
}

void hf_folder_safetensors(const char *folder, const char *name, const hf_item *items, size_t n) {
  FILE *file = begin_safetensors(folder, name, items, n);
  for (size_t i = 0; i < n; i++) put_data(file, &items[i]);
  ck_assert_int_eq(fclose(file), 0);
}

uint64_t hf_folder_sparse(const char *folder, const char *name, const hf_item *items, size_t n) {
  FILE *file = begin_safetensors(folder, name, items, n);
  ck_assert_int_eq(fflush(file), 0);
  off_t bytes = ftello(file);
  for (size_t i = 0; i < n; i++) bytes += (off_t)item_bytes(&items[i]);
  ck_assert_int_eq(ftruncate(fileno(file), bytes), 0);
  ck_assert_int_eq(fclose(file), 0);
  return (uint64_t)bytes;
}

void hf_folder_config(const char *folder, const char *key, const char *value) {
  static const char *const entries[][2] = {{"model_type", "\"llama\""},  {"hidden_size", "8"},
                                           {"intermediate_size", "12"},  {"num_hidden_layers", "1"},
                                           {"num_attention_heads", "2"}, {"num_key_value_heads", "1"},
                                           {"vocab_size", "16"},         {"max_position_embeddings", "64"},
                                           {"rms_norm_eps", "1e-5"},     {"hidden_act", "\"silu\""},
                                           {"rope_theta", "10000.0"},    {"tie_word_embeddings", "false"}};
  char text[4096] = "{\"architectures\": [\"LlamaForCausalLM\"]";
  size_t at = strlen(text);
  for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
    if (key == NULL || strcmp(entries[i][0], key) != 0)
      at += (size_t)snprintf(text + at, sizeof text - at, ", \"%s\": %s", entries[i][0], entries[i][1]);
  if (key != NULL && value != NULL) at += (size_t)snprintf(text + at, sizeof text - at, ", \"%s\": %s", key, value);
  snprintf(text + at, sizeof text - at, "}");
  hf_folder_text(folder, "config.json", text);
}

void hf_llama_items(hf_item *items) {
  static const hf_item all[HF_LLAMA_ITEMS] = {
      {"model.embed_tokens.weight", "F32", 2, {16, 8}, NULL, 0},
      {"model.layers.0.input_layernorm.weight", "F32", 1, {8, 0}, NULL, 0},
      {"model.layers.0.self_attn.q_proj.weight", "F32", 2, {8, 8}, NULL, 0},
      {"model.layers.0.self_attn.k_proj.weight", "F32", 2, {4, 8}, NULL, 0},
      {"model.layers.0.self_attn.v_proj.weight", "F32", 2, {4, 8}, NULL, 0},
      {"model.layers.0.self_attn.o_proj.weight", "F32", 2, {8, 8}, NULL, 0},
      {"model.layers.0.post_attention_layernorm.weight", "F32", 1, {8, 0}, NULL, 0},
      {"model.layers.0.mlp.gate_proj.weight", "F32", 2, {12, 8}, NULL, 0},
      {"model.layers.0.mlp.up_proj.weight", "F32", 2, {12, 8}, NULL, 0},
      {"model.layers.0.mlp.down_proj.weight", "F32", 2, {8, 12}, NULL, 0},
      {"model.norm.weight", "F32", 1, {8, 0}, NULL, 0},
      {"lm_head.weight", "F32", 2, {16, 8}, NULL, 0},
  };
  memcpy(items, all, sizeof all);
}
