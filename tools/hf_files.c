// SPDX-License-Identifier: Apache-2.0
#include "hf_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "json_read.h"
#include "status.h"

#define PATH_ROOM 4096
#define ONE_FILE "model.safetensors"
#define INDEX ONE_FILE ".index.json"

static otr_status path_of(char out[PATH_ROOM], const char *directory, const char *name) {
  int n = snprintf(out, PATH_ROOM, "%s/%s", directory, name);
  if (n < 0 || n >= PATH_ROOM) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "%s: the path is too long", directory);
  return OTR_STATUS_OK;
}

static bool has_file(const char *directory, const char *name) {
  char path[PATH_ROOM];
  struct stat info;
  return path_of(path, directory, name) == OTR_STATUS_OK && stat(path, &info) == 0;
}

otr_status hf_read_json(const char *directory, const char *name, int optional, json_t **out) {
  char path[PATH_ROOM];
  json_error_t error;
  *out = NULL;
  OTR_TRY(path_of(path, directory, name));
  if (optional && !has_file(directory, name)) return OTR_STATUS_OK;
  otr_status status = json_read_file(path, 0, out, &error);
  if (status == OTR_STATUS_OK && json_is_object(*out)) return OTR_STATUS_OK;
  json_decref(*out);
  *out = NULL;
  if (status == OTR_STATUS_OK) return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: it is no JSON object", path);
  if (status == OTR_STATUS_BAD_FORMAT) return otr_fail(status, "%s: %s", path, error.text);
  return status == OTR_STATUS_IO ? otr_fail(status, "%s: cannot be opened", path) : otr_fail_in(status, "%s", path);
}

static otr_status open_shard(const char *directory, const char *name, otr_memory *memory, hf_shard *shard) {
  char path[PATH_ROOM];
  OTR_TRY(path_of(path, directory, name));
  snprintf(shard->name, sizeof shard->name, "%s", name);
  const otr_source source = {.kind = OTR_SOURCE_PATH, .path = path};
  OTR_TRY(otr_file_open(&source, false, &shard->file));
  size_t n = shard->file.bytes < SIZE_MAX ? (size_t)shard->file.bytes : SIZE_MAX;
  otr_status status = safetensors_parse(otr_file_address(&shard->file), n, shard->file.bytes, memory, &shard->header);
  return status == OTR_STATUS_OK ? status : otr_fail_in(status, "%s", path);
}

static otr_status take_shards(hf_files *files, int32_t n) {
  files->shards = otr_memory_take_array(files->memory, (size_t)n, sizeof *files->shards);
  if (files->shards == NULL) return OTR_STATUS_NO_MEMORY;
  files->n_shards = n;
  return OTR_STATUS_OK;
}

/* A shard lies in the directory itself: an index is not to lead out of it. */
static bool is_plain_name(const char *name) {
  size_t n = strlen(name);
  return n > 0 && n < sizeof((hf_shard *)0)->name && name[0] != '.' && strpbrk(name, "/\\") == NULL;
}

/* The names of the shards, each once. */
static otr_status list_shards(const json_t *map, json_t *shards) {
  const char *tensor;
  json_t *shard;
  json_object_foreach((json_t *)map, tensor, shard) {
    const char *name = json_string_value(shard);
    if (name == NULL || !is_plain_name(name))
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is said to be in \"%.64s\", which is no plain file name",
                      tensor, name != NULL ? name : "");
    if (json_object_set(shards, name, json_true()) != 0) return otr_fail(OTR_STATUS_NO_MEMORY, "no memory");
  }
  if (json_object_size(shards) == 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "there is no weight_map, or it is empty");
  return OTR_STATUS_OK;
}

static otr_status check_map(const hf_files *files, const json_t *map) {
  const char *tensor;
  json_t *shard;
  json_object_foreach((json_t *)map, tensor, shard) {
    const hf_tensor *t = hf_files_find(files, tensor);
    if (t == NULL || strcmp(t->shard->name, json_string_value(shard)) != 0)
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is not in %s", tensor, json_string_value(shard));
  }
  return OTR_STATUS_OK;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const hf_tensor *)a)->info->name, ((const hf_tensor *)b)->info->name);
}

/* One list of all shards' tensors. */
static otr_status collect(hf_files *files) {
  size_t n = 0;
  for (int32_t i = 0; i < files->n_shards; ++i) n += (size_t)files->shards[i].header.n;
  if (n > SAFETENSORS_MAX_TENSORS) return otr_fail(OTR_STATUS_UNSUPPORTED, "%zu tensors in all", n);
  files->tensors = otr_memory_take_array(files->memory, n, sizeof *files->tensors);
  if (files->tensors == NULL) return OTR_STATUS_NO_MEMORY;
  files->n = (int32_t)n;
  hf_tensor *t = files->tensors;
  for (int32_t i = 0; i < files->n_shards; ++i) {
    const hf_shard *shard = &files->shards[i];
    files->bytes += shard->file.bytes;
    for (int32_t j = 0; j < shard->header.n; ++j) {
      const safetensor *info = &shard->header.tensors[j];
      *t++ = (hf_tensor){.info = info, .shard = shard, .data = otr_file_address(&shard->file) + info->offset};
    }
  }
  if (n > 0) qsort(files->tensors, n, sizeof *files->tensors, by_name);
  for (size_t i = 1; i < n; ++i)
    if (by_name(&files->tensors[i - 1], &files->tensors[i]) == 0)
      return otr_fail(OTR_STATUS_BAD_FORMAT, "tensor %s is in %s and in %s", files->tensors[i].info->name,
                      files->tensors[i - 1].shard->name, files->tensors[i].shard->name);
  return OTR_STATUS_OK;
}

static otr_status open_listed(hf_files *files, const char *directory, const json_t *map, const json_t *names) {
  const char *name;
  json_t *value;
  int32_t i = 0;
  OTR_TRY(take_shards(files, (int32_t)json_object_size(names)));
  json_object_foreach((json_t *)names, name, value) {
    OTR_TRY(open_shard(directory, name, files->memory, &files->shards[i++]));
  }
  otr_status status = collect(files);
  if (status == OTR_STATUS_OK) status = check_map(files, map);
  return status == OTR_STATUS_OK ? status : otr_fail_in(status, "%s/" INDEX, directory);
}

static otr_status open_index(hf_files *files, const char *directory) {
  json_t *index, *names = json_object();
  otr_status status = hf_read_json(directory, INDEX, 0, &index);
  const json_t *map = json_object_get(index, "weight_map");
  if (status == OTR_STATUS_OK) {
    status = names != NULL ? list_shards(map, names) : otr_fail(OTR_STATUS_NO_MEMORY, "no memory");
    if (status != OTR_STATUS_OK) status = otr_fail_in(status, "%s/" INDEX, directory);
  }
  if (status == OTR_STATUS_OK) status = open_listed(files, directory, map, names);
  json_decref(names);
  json_decref(index);
  return status;
}

static otr_status no_weights(const char *directory) {
  if (has_file(directory, "pytorch_model.bin") || has_file(directory, "pytorch_model.bin.index.json"))
    return otr_fail(
        OTR_STATUS_UNSUPPORTED,
        "%s has its weights in pytorch_model.bin, a pickle, which runs code when it is read: save the model "
        "as safetensors (model.save_pretrained(DIRECTORY, safe_serialization=True))",
        directory);
  return otr_fail(OTR_STATUS_IO, "%s has no " ONE_FILE " and no " INDEX, directory);
}

otr_status hf_files_open(const char *directory, otr_memory *memory, hf_files *out) {
  *out = (hf_files){.memory = memory};
  if (has_file(directory, ONE_FILE)) {
    OTR_TRY(take_shards(out, 1));
    OTR_TRY(open_shard(directory, ONE_FILE, memory, &out->shards[0]));
    return collect(out);
  }
  return has_file(directory, INDEX) ? open_index(out, directory) : no_weights(directory);
}

void hf_files_close(hf_files *files) {
  for (int32_t i = 0; i < files->n_shards; ++i) {
    safetensors_destroy(&files->shards[i].header);
    otr_file_close(&files->shards[i].file);
  }
  if (files->shards != NULL)
    otr_memory_give_array(files->memory, files->shards, (size_t)files->n_shards, sizeof *files->shards);
  if (files->tensors != NULL)
    otr_memory_give_array(files->memory, files->tensors, (size_t)files->n, sizeof *files->tensors);
  *files = (hf_files){0};
}

hf_tensor *hf_files_find(const hf_files *files, const char *name) {
  if (files->n == 0) return NULL;
  const safetensor info = {.name = name};
  const hf_tensor key = {.info = &info};
  return bsearch(&key, files->tensors, (size_t)files->n, sizeof key, by_name);
}
