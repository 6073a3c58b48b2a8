// SPDX-License-Identifier: Apache-2.0
#include "hf_bnb.h"

#include <stdio.h>
#include <string.h>

#include "status.h"

#define NAME_BYTES 256

static hf_tensor *beside(const hf_files *files, const char *stem, const char *suffix) {
  char name[NAME_BYTES];
  snprintf(name, sizeof name, "%s%s", stem, suffix);
  return hf_files_find(files, name);
}

/* 0 is row-major; 1 to 3 were layouts of older GPUs. */
static otr_status check_format(const hf_files *files, const char *stem) {
  hf_tensor *format = beside(files, stem, ".weight_format");
  if (format == NULL) return OTR_STATUS_OK;
  format->used = 1;
  if (format->info->dtype != SAFETENSORS_U8 || format->info->bytes != 1)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s is not one U8", format->shard->name, format->info->name);
  if (format->data[0] != 0)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "%s: tensor %s is %u; only 0, row-major, is read", format->shard->name,
                    format->info->name, (unsigned)format->data[0]);
  return OTR_STATUS_OK;
}

otr_status hf_bnb_take(const hf_files *files, const char *stem, const hf_tensor *tensor, origin *o) {
  if (tensor->info->dtype != SAFETENSORS_I8) return OTR_STATUS_OK;
  hf_tensor *scb = beside(files, stem, ".SCB");
  if (scb == NULL)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s is I8 and has no SCB beside it", tensor->shard->name,
                    tensor->info->name);
  scb->used = 1;
  if (scb->info->dtype != SAFETENSORS_F32 || scb->info->n_dims != 1 || scb->info->dims[0] != (uint64_t)o->rows)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s is not F32 [%d]", scb->shard->name, scb->info->name,
                    (int)o->rows);
  if (tensor->info->n_dims != 2)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s: tensor %s is I8 and no matrix", tensor->shard->name,
                    tensor->info->name);
  o->absmax = scb->data;
  return check_format(files, stem);
}
