// SPDX-License-Identifier: Apache-2.0
/* Pages: what goes in is escaped, whatever it is; drawings of nothing and of impossible values stay well-formed. */
#include <math.h>
#include <string.h>

#include "html.h"
#include "suite.h"

static char text[1 << 16];

/* What `write` puts out. */
static const char *written(void (*write)(FILE *out)) {
  FILE *file = tmpfile();
  ck_assert_ptr_nonnull(file);
  write(file);
  rewind(file);
  size_t n = fread(text, 1, sizeof text - 1, file);
  text[n] = 0;
  fclose(file);
  return text;
}

static void write_text(FILE *out) {
  html_text(out, "a<b>&\"c\" \x01\xe2\x89\xa5 \xe2\x89 \xff \xc0\x80 \xed\xa0\x80 \xf0\x9f\x99\x82");
}

START_TEST(test_text) {
  ck_assert_str_eq(written(write_text),
                   "a&lt;b&gt;&amp;&quot;c&quot; \xe2\x89\xa5 \xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd "
                   "\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xf0\x9f\x99\x82");
}
END_TEST

static void write_bars(FILE *out) {
  const html_bar bars[] = {{"none", NAN, false}, {"zero", 0.0, false}, {"one", 1.0, true}, {"<>", 1e-9, false}};
  html_bars(out, bars, 4, "%.2f", true, "bars");
  html_bars(out, bars, 1, "%.2f", false, "no bar");
  html_bars(out, bars, 0, "%.2f", true, "nothing");
}

START_TEST(test_bars) {
  const char *page = written(write_bars);
  ck_assert(strstr(page, "&lt;&gt;") && strstr(page, "1.00") && !strstr(page, "nan") && !strstr(page, "inf"));
}
END_TEST

static double shade(void *user, int32_t row, int32_t column) {
  (void)user;
  return row == 0 ? NAN : 0.5 * column;
}

static void label(void *user, int32_t column, char out[32]) {
  (void)user;
  snprintf(out, 32, "c%d", (int)column);
}

static void write_map(FILE *out) {
  static const char *const rows[] = {"a", "b"};
  html_map map = {.rows = 2,
                  .columns = 3,
                  .row_labels = rows,
                  .column_label = label,
                  .shade = shade,
                  .low = "0",
                  .high = "1",
                  .rows_name = "rows",
                  .columns_name = "columns"};
  html_heat_map(out, &map, "map");
  map.rows = 0;
  html_heat_map(out, &map, "none");
}

START_TEST(test_map) {
  const char *page = written(write_map);
  ck_assert(strstr(page, "c0") && strstr(page, "fill-opacity=\"1.000\"") && !strstr(page, "nan"));
}
END_TEST

static void write_page(FILE *out) {
  static const char *const headers[] = {"a", "b"};
  static const double counts[] = {0, 4, 1};
  const html_histogram h[] = {{"before", NULL, NULL, counts, 3, -1, 1}, {"after", "note", counts, counts, 3, -1, 1}};
  html_begin(out, "T & U", "sub");
  html_section(out, "heading", NULL);
  html_paragraph(out, "%d < %d", 1, 2);
  html_table(out, headers, 2);
  html_row(out);
  html_cell(out, "%s", "<x>");
  html_cell(out, "%.1f", 2.0);
  html_table_end(out);
  html_histograms(out, h, 2, "histograms");
  html_section_end(out);
  html_end(out);
}

START_TEST(test_page) {
  const char *page = written(write_page);
  ck_assert(strstr(page, "<title>T &amp; U</title>") && strstr(page, "1 &lt; 2") && strstr(page, "<td>&lt;x&gt;"));
  ck_assert(strstr(page, "polyline") && strstr(page, "prefers-color-scheme:dark") && strstr(page, "</html>"));
  ck_assert(!strstr(page, "http") && !strstr(page, "<script"));
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, test_text);
  tcase_add_test(tests, test_bars);
  tcase_add_test(tests, test_map);
  tcase_add_test(tests, test_page);
}

int main(void) {
  return suite_run("html", add);
}
