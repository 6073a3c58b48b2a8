// SPDX-License-Identifier: Apache-2.0
/* From f16 weights the quantizer gives bitsandbytes' own CB and SCB, bit for bit (needs OUTRIDER_TEST_DATA). */
#include <dirent.h>
#include <string.h>

#include "dequantize.h"
#include "gguf.h"
#include "golden_file.h"
#include "numerics.h"
#include "quantize_weights.h"
#include "suite.h"

static const char *data;

static void check_rows(const char *name, const golden_tensor *w, const golden_tensor *cb, const golden_tensor *scb) {
  int64_t n = w->dims[0], k = w->dims[1];
  float *row = malloc((size_t)k * sizeof *row), scale, absmax;
  int8_t *q = malloc((size_t)k);
  ck_assert(w->n_dims == 2 && cb->bytes == (size_t)(n * k) && scb->bytes == 4 * (size_t)n);
  for (int64_t i = 0; i < n; ++i) {
    ck_assert(otr_dequantize_row(row, (const uint8_t *)w->data + 2 * i * k, OTR_GGML_F16, (size_t)k));
    otr_quantize_row(q, &scale, row, (size_t)k);
    memcpy(&absmax, (const uint8_t *)scb->data + 4 * i, sizeof absmax);
    float want = absmax * otr_f32_of_bits(OTR_BITS_INV127);
    ck_assert_msg(memcmp(q, (const uint8_t *)cb->data + i * k, (size_t)k) == 0, "%s: CB of row %d", name, (int)i);
    ck_assert_msg(memcmp(&scale, &want, sizeof want) == 0, "%s: SCB of row %d", name, (int)i);
  }
  free(row);
  free(q);
}

START_TEST(goldens) {
  char path[4096];
  snprintf(path, sizeof path, "%s/goldens/bnb_linear", data);
  DIR *folder = opendir(path);
  ck_assert_msg(folder != NULL, "%s: cannot be opened", path);
  int n = 0;
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    if (strstr(entry->d_name, ".safetensors") == NULL) continue;
    golden_file file;
    golden_tensor w, cb, scb;
    snprintf(path, sizeof path, "%s/goldens/bnb_linear/%s", data, entry->d_name);
    ck_assert_msg(golden_open(&file, path), "%s", path);
    ck_assert(golden_find(&file, "W", &w) && strcmp(w.dtype, "F16") == 0);
    ck_assert(golden_find(&file, "CB", &cb) && golden_find(&file, "SCB", &scb));
    check_rows(entry->d_name, &w, &cb, &scb);
    golden_close(&file);
    ++n;
  }
  closedir(folder);
  ck_assert_int_ge(n, 19);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, goldens);
}

int main(void) {
  data = suite_data("test_bnb_weights");
  return data != NULL ? suite_run("bnb_weights", add) : SUITE_SKIPPED;
}
