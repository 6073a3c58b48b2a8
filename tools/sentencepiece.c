// SPDX-License-Identifier: Apache-2.0
#include "sentencepiece.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

#define MOST_PIECES (1 << 24)

/* ---- protobuf ---------------------------------------------------------------------------------------------------- */

/* A message, read from its beginning. */
typedef struct message {
  const uint8_t *at, *end;
} message;

typedef enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 } wire;

typedef struct field {
  uint64_t number;
  wire wire;
  uint64_t value;       /* VARINT */
  const uint8_t *bytes; /* [n_bytes] of the others */
  size_t n_bytes;
} field;

static bool take_varint(message *m, uint64_t *value) {
  *value = 0;
  for (int shift = 0; shift < 64 && m->at < m->end; shift += 7) {
    uint8_t byte = *m->at++;
    *value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) return shift < 63 || byte < 2;
  }
  return false;
}

static bool take_bytes(message *m, uint64_t n_bytes, field *f) {
  if (n_bytes > (uint64_t)(m->end - m->at)) return false;
  f->bytes = m->at;
  f->n_bytes = (size_t)n_bytes;
  m->at += n_bytes;
  return true;
}

/* The next field. @return false where the message is malformed; not to be called at its end */
static bool take_field(message *m, field *f) {
  uint64_t key, length;
  *f = (field){.number = 0};
  if (!take_varint(m, &key)) return false;
  f->number = key >> 3;
  f->wire = (wire)(key & 7);
  switch (key & 7) {
    case WIRE_VARINT:
      return take_varint(m, &f->value);
    case WIRE_64:
      return take_bytes(m, 8, f);
    case WIRE_BYTES:
      return take_varint(m, &length) && take_bytes(m, length, f);
    case WIRE_32:
      return take_bytes(m, 4, f);
    default:
      return false; /* groups, which this file never had */
  }
}

static message message_of(const field *f) {
  return (message){f->bytes, f->bytes + f->n_bytes};
}

static float float_of(const field *f) {
  uint32_t bits = 0;
  float value;
  for (int i = 0; i < 4; ++i) bits |= (uint32_t)f->bytes[i] << (8 * i);
  memcpy(&value, &bits, sizeof value);
  return value;
}

static otr_status malformed(const char *what) {
  return otr_fail(OTR_STATUS_BAD_FORMAT, "%s is no whole protobuf message", what);
}

/* ---- the model's messages ---------------------------------------------------------------------------------------- */

static otr_status add_piece(sentencepiece_model *model, sentencepiece_piece piece) {
  if (model->n == model->room) {
    size_t room = model->room > 0 ? 2 * model->room : 1024;
    void *grown = realloc(model->pieces, room * sizeof *model->pieces);
    if (grown == NULL) return otr_fail(OTR_STATUS_NO_MEMORY, "%zu pieces", room);
    model->pieces = grown;
    model->room = room;
  }
  model->pieces[model->n++] = piece;
  return OTR_STATUS_OK;
}

static otr_status read_piece(sentencepiece_model *model, message m) {
  sentencepiece_piece piece = {.text = "", .type = 1};
  field f;
  while (m.at < m.end) {
    if (!take_field(&m, &f)) return malformed("a piece");
    if (f.number == 1 && f.wire == WIRE_BYTES) {
      piece.text = (const char *)f.bytes;
      piece.n_bytes = f.n_bytes;
    }
    if (f.number == 2 && f.wire == WIRE_32) piece.score = float_of(&f);
    if (f.number == 3 && f.wire == WIRE_VARINT) piece.type = f.value >= 1 && f.value <= 6 ? (int32_t)f.value : 0;
  }
  if (model->n >= MOST_PIECES) return otr_fail(OTR_STATUS_BAD_FORMAT, "more than %d pieces", MOST_PIECES);
  if (piece.type == 0 || isnan(piece.score))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "piece %zu, \"%.*s\", has no known type or no score", model->n,
                    (int)(piece.n_bytes < 32 ? piece.n_bytes : 32), piece.text);
  return add_piece(model, piece);
}

/* An int32 field: negative ones are written as 64 bits. */
static int32_t id_of(const field *f) {
  return f->value <= INT32_MAX ? (int32_t)f->value : -1;
}

static otr_status read_trainer(sentencepiece_model *model, message m) {
  field f;
  while (m.at < m.end) {
    if (!take_field(&m, &f)) return malformed("the trainer's part");
    if (f.wire != WIRE_VARINT) continue;
    if (f.number == 3) model->kind = f.value <= INT32_MAX ? (int64_t)f.value : 0;
    if (f.number == 24) model->space_behind = f.value != 0;
    if (f.number == 40) model->unk = id_of(&f);
    if (f.number == 41) model->bos = id_of(&f);
    if (f.number == 42) model->eos = id_of(&f);
    if (f.number == 43) model->pad = id_of(&f);
  }
  return OTR_STATUS_OK;
}

static otr_status read_normalizer(sentencepiece_model *model, message m) {
  field f;
  while (m.at < m.end) {
    if (!take_field(&m, &f)) return malformed("the normalizer's part");
    if (f.wire == WIRE_BYTES && f.number == 1) {
      model->normalizer = (const char *)f.bytes;
      model->normalizer_bytes = f.n_bytes;
    }
    if (f.wire == WIRE_BYTES && f.number == 2) model->charsmap_bytes = f.n_bytes;
    if (f.wire == WIRE_VARINT && f.number == 3) model->prefix = f.value != 0;
    if (f.wire == WIRE_VARINT && f.number == 4) model->trims = f.value != 0;
    if (f.wire == WIRE_VARINT && f.number == 5) model->keeps_spaces = f.value == 0;
  }
  return OTR_STATUS_OK;
}

otr_status sentencepiece_read(const void *bytes, size_t n_bytes, sentencepiece_model *out) {
  /* What the format says of fields that are left out. */
  *out = (sentencepiece_model){.kind = SENTENCEPIECE_UNIGRAM, .unk = 0, .bos = 1, .eos = 2, .pad = -1};
  out->prefix = out->trims = true;
  out->normalizer = "";
  message m = {bytes, (const uint8_t *)bytes + n_bytes};
  field f;
  while (m.at < m.end) {
    if (!take_field(&m, &f)) return malformed("the file");
    if (f.wire != WIRE_BYTES) continue;
    if (f.number == 1) OTR_TRY(read_piece(out, message_of(&f)));
    if (f.number == 2) OTR_TRY(read_trainer(out, message_of(&f)));
    if (f.number == 3) OTR_TRY(read_normalizer(out, message_of(&f)));
  }
  if (out->n == 0) return otr_fail(OTR_STATUS_BAD_FORMAT, "there are no pieces");
  return OTR_STATUS_OK;
}

void sentencepiece_free(sentencepiece_model *model) {
  free(model->pieces);
  *model = (sentencepiece_model){.n = 0};
}
