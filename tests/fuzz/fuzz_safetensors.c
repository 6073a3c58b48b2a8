// SPDX-License-Identifier: Apache-2.0
/* The safetensors parser on any bytes: whatever they are, it answers with a status; what it accepts keeps its promises.
 */
#include <stdlib.h>
#include <string.h>

#include "safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition) {
  if (!condition) abort();
}

static void walk(const safetensors *file, const uint8_t *data, uint64_t file_bytes) {
  volatile uint8_t sink = 0;
  uint64_t bytes = 0;
  for (int32_t i = 0; i < file->n; ++i) {
    const safetensor *t = &file->tensors[i];
    require(t->name[0] != '\0' && safetensors_find(file, t->name) == t);
    require(t->offset <= file_bytes && t->bytes <= file_bytes - t->offset && safetensors_dtype_name(t->dtype) != NULL);
    require(i == 0 || strcmp(file->tensors[i - 1].name, t->name) < 0);
    for (uint64_t j = 0; j < t->bytes; ++j) sink = (uint8_t)(sink ^ data[t->offset + j]);
    bytes += t->bytes;
  }
  uint64_t header;
  memcpy(&header, data, sizeof header);
  require(bytes == file_bytes - 8 - header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  otr_memory memory;
  safetensors file;
  otr_memory_init(&memory, NULL);
  otr_status status = safetensors_parse(data, size, size, &memory, &file);
  require(status == OTR_STATUS_OK || file.tensors == NULL);
  if (status == OTR_STATUS_OK) walk(&file, data, size);
  safetensors_destroy(&file);
  /* The beginning of a larger file: its header may go on where nothing is at hand. */
  if (safetensors_parse(data, size, (uint64_t)size + ((uint64_t)1 << 40), &memory, &file) == OTR_STATUS_OK)
    safetensors_destroy(&file);
  require(memory.now == 0);
  return 0;
}
