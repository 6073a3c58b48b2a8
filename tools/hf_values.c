// SPDX-License-Identifier: Apache-2.0
#include "hf_values.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "status.h"

#define KEY_BYTES 96
#define NAME_BYTES 64

const json_t *hf_find(const hf_reader *r, const char *names, char out[NAME_BYTES]) {
  char name[NAME_BYTES] = "?";
  const json_t *found = NULL;
  for (const char *at = names; at != NULL && found == NULL;) {
    size_t n = strcspn(at, "|");
    snprintf(name, sizeof name, "%.*s", (int)n, at);
    const json_t *value = json_object_get(r->config, name);
    if (value != NULL && !json_is_null(value)) found = value;
    at = at[n] == '|' ? at + n + 1 : NULL;
  }
  if (out != NULL) memcpy(out, name, sizeof name);
  return found;
}

bool hf_is_null(const hf_reader *r, const char *name) {
  return json_is_null(json_object_get(r->config, name));
}

otr_status hf_int(const hf_reader *r, const char *names, int64_t low, int64_t high, const int32_t *fallback,
                  int32_t *out) {
  char name[NAME_BYTES];
  const json_t *value = hf_find(r, names, name);
  if (value == NULL) {
    if (fallback == NULL) return otr_fail(OTR_STATUS_BAD_FORMAT, "%s is missing", name);
    *out = *fallback;
    return OTR_STATUS_OK;
  }
  if (!json_is_integer(value)) return otr_fail(OTR_STATUS_BAD_FORMAT, "%s is not an integer", name);
  json_int_t given = json_integer_value(value);
  if (given < low || given > high)
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s is %lld; it must lie in %lld to %lld", name, (long long)given,
                    (long long)low, (long long)high);
  *out = (int32_t)given;
  return OTR_STATUS_OK;
}

otr_status hf_number(const hf_reader *r, const char *names, double fallback, double *out) {
  char name[NAME_BYTES];
  const json_t *value = hf_find(r, names, name);
  *out = value != NULL ? json_number_value(value) : fallback;
  if (value != NULL && !json_is_number(value)) return otr_fail(OTR_STATUS_BAD_FORMAT, "%s is not a number", name);
  if (!isfinite(*out)) return otr_fail(OTR_STATUS_BAD_FORMAT, "%s is not finite", name);
  return OTR_STATUS_OK;
}

otr_status hf_bool(const hf_reader *r, const char *names, bool fallback, bool *out) {
  char name[NAME_BYTES];
  const json_t *value = hf_find(r, names, name);
  *out = value != NULL ? json_is_true(value) : fallback;
  if (value != NULL && !json_is_boolean(value))
    return otr_fail(OTR_STATUS_BAD_FORMAT, "%s is neither true nor false", name);
  return OTR_STATUS_OK;
}

otr_status hf_string(const hf_reader *r, const char *names, const char *fallback, const char **out) {
  char name[NAME_BYTES];
  const json_t *value = hf_find(r, names, name);
  *out = value != NULL ? json_string_value(value) : fallback;
  return *out != NULL ? OTR_STATUS_OK : otr_fail(OTR_STATUS_BAD_FORMAT, "%s is not a string", name);
}

static const char *full(const hf_reader *r, const char *key, char out[KEY_BYTES]) {
  snprintf(out, KEY_BYTES, "%s.%s", r->family->arch, key);
  return out;
}

void hf_put_u32(const hf_reader *r, const char *key, int32_t value) {
  char name[KEY_BYTES];
  otr_gguf_put_u32(r->keys, full(r, key, name), (uint32_t)value);
}

void hf_put_f32(const hf_reader *r, const char *key, double value) {
  char name[KEY_BYTES];
  otr_gguf_put_f32(r->keys, full(r, key, name), (float)value);
}

void hf_put_bool(const hf_reader *r, const char *key, bool value) {
  char name[KEY_BYTES];
  otr_gguf_put_bool(r->keys, full(r, key, name), value);
}

void hf_put_string(const hf_reader *r, const char *key, const char *value) {
  char name[KEY_BYTES];
  otr_gguf_put_string(r->keys, full(r, key, name), value);
}
