// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "check_bench.h"
#include "check_data.h"
#include "clock.h"
#include "numerics.h"
#include "status.h"

/* Stale keys and values everywhere, so that a position that must not be seen shows when it is. */
static otr_status fill_pages(otr_bench *b) {
  int32_t width = b->c->n_kv_heads * b->c->head_dim;
  otr_data_f16_kind kind = b->c->values == OTR_VALUES_EDGES ? OTR_F16_EDGES : OTR_F16_PLAIN;
  size_t halves = (size_t)OTR_CHUNK * (size_t)width;
  if (b->n_pages == 0) return OTR_STATUS_OK;
  for (int32_t i = 0; i < b->n_pages * OTR_BENCH_LAYERS; ++i) {
    otr_page page = b->page[i / OTR_BENCH_LAYERS];
    otr_data_f16(&b->state, b->kv, 2 * OTR_CHUNK, width, width, kind);
    OTR_TRY(b->device->ops->kv_write(b->device, &b->program.kv, page, i % OTR_BENCH_LAYERS, 0, OTR_CHUNK, b->kv,
                                     b->kv + halves));
  }
  return b->device->ops->buffer_write(b->device, b->buffer, b->kv_ref.offset, b->kv, 2 * halves * sizeof *b->kv);
}

static otr_status submit(otr_bench *b, int32_t repeats, otr_step_result *result, double *seconds) {
  for (int32_t i = 0; i < repeats; ++i) {
    double begin = otr_clock_seconds();
    OTR_TRY(b->device->ops->submit(b->device, b->prepared, &b->step, result));
    double took = otr_clock_seconds() - begin;
    if (seconds != NULL && (i == 0 || took < *seconds)) *seconds = took;
  }
  return OTR_STATUS_OK;
}

/* Bytes [from, to) of the buffer belong to no output. */
static otr_status same_between(const otr_bench *b, size_t from, size_t to) {
  for (size_t i = from; i < to; ++i) {
    if (b->image[i] == b->after[i]) continue;
    return otr_fail(OTR_STATUS_NO_DEVICE, "%s writes outside its outputs", otr_op_name(b->c->code));
  }
  return OTR_STATUS_OK;
}

static otr_status check_untouched(otr_bench *b) {
  size_t from = 0;
  OTR_TRY(b->device->ops->buffer_read(b->device, b->buffer, 0, b->after, b->size));
  for (int32_t i = 0; i < b->n_out; ++i) {
    const otr_output *o = &b->out[i];
    int32_t pieces = o->kind == OTR_PAGES ? b->n_pages : 1;
    for (int32_t j = 0; j < pieces; ++j) {
      size_t at = o->kind == OTR_PAGES ? b->page[j].offset : o->offset;
      OTR_TRY(same_between(b, from, at));
      from = at + o->bytes;
    }
  }
  return same_between(b, from, b->used);
}

/* Of a row, whole words where floats are among them. */
static size_t canonical_bytes(const otr_output *o) {
  size_t width = (size_t)o->width;
  switch (o->kind) {
    case OTR_FLOATS:
      return width * 4;
    case OTR_QUANTIZED:
      return (width * 7 + 12 + 3) / 4 * 4; /* scale, 2^e, count, outliers, x16, q */
    case OTR_ROUNDED:
      return (width * 2 + 4 + 3) / 4 * 4;
    default:
      return width * 2;
  }
}

static otr_status read_row(otr_bench *b, const otr_output *o, int32_t row, uint8_t *to) {
  const otr_device_ops *ops = b->device->ops;
  otr_ref ref = {b->buffer, o->offset};
  int32_t *words = (int32_t *)(void *)to, width = o->width, max_rows = b->program.max_rows;
  float *floats = (float *)(void *)to;
  uint16_t *halves = (uint16_t *)(void *)(words + 3 + width);
  switch (o->kind) {
    case OTR_FLOATS:
      memcpy(to, b->after + o->offset + (size_t)row * (size_t)width * 4, (size_t)width * 4);
      return OTR_STATUS_OK;
    case OTR_QUANTIZED:
      return ops->quantized_read(b->device, ref, max_rows, width, row, (int8_t *)(halves + width), floats, floats + 1,
                                 words + 2, words + 3, halves);
    case OTR_ROUNDED:
      return ops->rounded_read(b->device, ref, max_rows, width, row, (uint16_t *)(void *)(words + 1), floats);
    case OTR_HALVES:
      return ops->q16_read(b->device, ref, width, row, (uint16_t *)(void *)to);
    default:
      halves = (uint16_t *)(void *)to;
      return ops->kv_read(b->device, &b->program.kv, b->page[row / OTR_BENCH_LAYERS], row % OTR_BENCH_LAYERS, 0,
                          OTR_CHUNK, halves, halves + width / 2);
  }
}

static otr_status read_outputs(otr_bench *b, otr_case_image *image) {
  size_t total = 0;
  for (int32_t i = 0; i < b->n_out; ++i) total += canonical_bytes(&b->out[i]) * (size_t)b->out[i].rows;
  image->bytes = otr_memory_take_array(b->device->memory, total, 1);
  if (image->bytes == NULL) return OTR_STATUS_NO_MEMORY;
  image->n_bytes = total;
  image->n_outputs = b->n_out;
  size_t at = 0;
  for (int32_t i = 0; i < b->n_out; ++i) {
    const otr_output *o = &b->out[i];
    size_t row_bytes = canonical_bytes(o);
    image->output[i] = (otr_case_output){o->name, at, row_bytes, o->rows};
    for (int32_t row = 0; row < o->rows; ++row, at += row_bytes) OTR_TRY(read_row(b, o, row, image->bytes + at));
  }
  return OTR_STATUS_OK;
}

/* The pattern around and in everything: NaN as f32 and as f16, a weight of -63 or 127 as int8. */
static void fill_pattern(uint8_t *bytes, size_t n) {
  for (size_t i = 0; i < n; ++i) bytes[i] = i % 2 == 0 ? 0xc1 : 0x7f;
}

static otr_status run(otr_bench *b, otr_case_image *image, int32_t repeats, double *seconds) {
  const otr_device_ops *ops = b->device->ops;
  otr_step_result result = {.nonfinite_layer = OTR_LAYER_NONE};
  otr_bench_build(b);
  OTR_TRY(b->status);
  b->size = b->used;
  OTR_TRY(ops->buffer_create(b->device, b->size, &b->buffer));
  b->image = otr_memory_take(b->device->memory, b->size, OTR_BENCH_ALIGN);
  b->after = otr_memory_take(b->device->memory, b->size, OTR_BENCH_ALIGN);
  if (b->image == NULL || b->after == NULL) return OTR_STATUS_NO_MEMORY;
  fill_pattern(b->image, b->size);
  otr_bench_build(b);
  OTR_TRY(b->status);
  OTR_TRY(ops->buffer_write(b->device, b->buffer, 0, b->image, b->size));
  OTR_TRY(fill_pages(b));
  OTR_TRY(ops->prepare(b->device, &b->program, &b->prepared));
  OTR_TRY(submit(b, repeats, &result, seconds));
  if (image == NULL) return OTR_STATUS_OK;
  OTR_TRY(check_untouched(b));
  image->result = result;
  return read_outputs(b, image);
}

otr_status otr_case_run(otr_device *device, const otr_case *c, const otr_case_place *place, otr_case_image *image,
                        int32_t repeats, double *seconds) {
  otr_bench b = {.c = c, .device = device, .place = place, .status = OTR_STATUS_OK};
  if (image != NULL) *image = (otr_case_image){.bytes = NULL};
  otr_status status = run(&b, image, repeats, seconds);
  if (b.prepared != NULL) device->ops->prepared_destroy(device, b.prepared);
  if (b.buffer != NULL) device->ops->buffer_destroy(device, b.buffer);
  otr_memory_give(device->memory, b.image, b.size);
  otr_memory_give(device->memory, b.after, b.size);
  if (status != OTR_STATUS_OK && image != NULL) otr_case_image_free(device->memory, image);
  return status;
}

void otr_case_image_free(otr_memory *memory, otr_case_image *image) {
  otr_memory_give_array(memory, image->bytes, image->n_bytes, 1);
  *image = (otr_case_image){.bytes = NULL};
}

/* ---- comparing ----------------------------------------------------------------------------------------------------
 */

static otr_status compare_output(const otr_case *c, const otr_case_output *o, const uint8_t *a, const uint8_t *b) {
  for (size_t i = 0; i < o->row_bytes * (size_t)o->rows; ++i) {
    if (a[o->offset + i] == b[o->offset + i]) continue;
    return otr_fail(OTR_STATUS_NO_DEVICE, "%s gives other bits: %s, row %d, byte %d", otr_op_name(c->code), o->name,
                    (int)(i / o->row_bytes), (int)(i % o->row_bytes));
  }
  return OTR_STATUS_OK;
}

otr_status otr_case_compare(const otr_case *c, const otr_case_image *expected, const otr_case_image *got) {
  const otr_step_result *e = &expected->result, *g = &got->result;
  const char *name = otr_op_name(c->code);
  if (c->values == OTR_VALUES_NAN && c->code != OTR_OP_EMBED && c->code != OTR_OP_ADD) return OTR_STATUS_OK;
  if (e->nonfinite_layer != g->nonfinite_layer) {
    return otr_fail(OTR_STATUS_NO_DEVICE, "%s: NONFINITE of layer %d, expected %d", name, g->nonfinite_layer,
                    e->nonfinite_layer);
  }
  if (e->nonfinite_layer != OTR_LAYER_NONE) return OTR_STATUS_OK; /* results after it are undefined */
  for (int32_t i = 0; i < expected->n_outputs; ++i) {
    OTR_TRY(compare_output(c, &expected->output[i], expected->bytes, got->bytes));
  }
  if (e->saturations != g->saturations || e->outliers != g->outliers || e->activations != g->activations) {
    return otr_fail(OTR_STATUS_NO_DEVICE, "%s: other counts of saturations, outliers or activations", name);
  }
  return OTR_STATUS_OK;
}
