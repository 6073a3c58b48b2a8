// SPDX-License-Identifier: Apache-2.0
#include "golden_file.h"

#include <string.h>

bool golden_open(golden_file *g, const char *path) {
  const otr_source source = {.kind = OTR_SOURCE_PATH, .path = path};
  memset(g, 0, sizeof *g);
  otr_memory_init(&g->memory, NULL);
  if (otr_file_open(&source, false, &g->file) != OTR_STATUS_OK) return false;
  if (safetensors_parse(otr_file_address(&g->file), (size_t)g->file.bytes, g->file.bytes, &g->memory, &g->header) ==
      OTR_STATUS_OK)
    return true;
  otr_file_close(&g->file);
  return false;
}

void golden_close(golden_file *g) {
  safetensors_destroy(&g->header);
  otr_file_close(&g->file);
}

bool golden_find(const golden_file *g, const char *name, golden_tensor *out) {
  const safetensor *t = safetensors_find(&g->header, name);
  memset(out, 0, sizeof *out);
  if (t == NULL) return false;
  out->data = otr_file_address(&g->file) + t->offset;
  out->bytes = (size_t)t->bytes;
  out->dtype = safetensors_dtype_name(t->dtype);
  out->n_dims = t->n_dims;
  for (int i = 0; i < t->n_dims && i < 4; i++) out->dims[i] = (int64_t)t->dims[i];
  return true;
}
