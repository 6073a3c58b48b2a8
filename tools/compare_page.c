// SPDX-License-Identifier: Apache-2.0
/* compare's page. */
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "html.h"
#include "status.h"

typedef struct page {
  const comparison *c;
  FILE *out;
  double least, most;     // of the layers' errors, logarithms
  html_bar *bars;         // [n]
  html_histogram *drawn;  // [n]
  char (*notes)[64];      // [n]
  const char **names;     // [n]
} page;

/* ---- bars and table ---------------------------------------------------------------------------------------------- */

/* What the SDK gives without being asked stands out. */
static bool is_default(const compare_result *r) {
  return strcmp(r->scheme.name, "relative=4") == 0;
}

static void draw_bars(page *p, const char *heading, const char *note, double (*value)(const compare_result *),
                      const char *format, bool logarithmic) {
  int32_t n = 0;
  for (int32_t i = logarithmic ? 1 : 0; i < p->c->n; i++) { /* f32's own KL is 0 */
    const compare_result *r = &p->c->results[i];
    p->bars[n++] = (html_bar){r->scheme.title, value(r), is_default(r)};
  }
  html_section(p->out, heading, note);
  html_bars(p->out, p->bars, n, format, logarithmic, heading);
  html_section_end(p->out);
}

static double megabytes(const compare_result *r) {
  return (double)r->bytes / 1e6;
}

static void cell(FILE *out, const char *unit, int digits, double value) {
  if (isfinite(value))
    html_cell(out, "%.*f%s", digits, value, unit);
  else
    html_cell(out, "\xe2\x80\x93");
}

static void table_row(FILE *out, const compare_result *r) {
  const tool_tally *t = &r->tally;
  const double ppl = compare_ppl(r), ratio = compare_ratio(r);
  html_row(out);
  html_cell(out, "%s", r->scheme.name);
  html_cell(out, "%.3f \xc2\xb1 %.3f", ppl, ppl * tool_mean_error(t->nll, t->nll_squares, t->tokens));
  html_cell(out, "%.4f \xc2\xb1 %.4f", ratio, ratio * tool_mean_error(t->more, t->more_squares, t->tokens));
  html_cell(out, "%.5f", compare_kl(r));
  cell(out, " %", 2, 100.0 * compare_same(r));
  cell(out, " %", 3, 100.0 * compare_outlier_share(r));
  html_cell(out, "%.1f", megabytes(r));
  cell(out, "", 0, r->prefill);
  cell(out, "", 0, r->decode);
}

static void write_table(const page *p) {
  static const char *const headers[] = {"scheme",        "perplexity", "ratio to f32", "KL",        "top-1 same",
                                        "outlier share", "MB",         "prefill t/s",  "decode t/s"};
  html_section(
      p->out, "All figures",
      "\xc2\xb1 is a standard error; the ratio's is of the paired difference. Tokens/s are the library's, where "
      "it runs the scheme.");
  html_table(p->out, headers, sizeof headers / sizeof *headers);
  for (int32_t i = 0; i < p->c->n; i++) table_row(p->out, &p->c->results[i]);
  html_table_end(p->out);
  html_section_end(p->out);
}

/* ---- errors by layer --------------------------------------------------------------------------------------------- */

static double shade(void *user, int32_t row, int32_t column) {
  const page *p = user;
  double error = p->c->results[row + 1].layer_error[column];
  if (!(error > 0.0)) return NAN;
  return 0.06 + 0.94 * (log10(error) - p->least) / (p->most > p->least ? p->most - p->least : 1.0);
}

static void tip(void *user, int32_t row, int32_t column, char text[128]) {
  const page *p = user;
  const compare_result *r = &p->c->results[row + 1];
  snprintf(text, 128, "%s, layer %d: %.3g %%", r->scheme.title, (int)column, 100.0 * r->layer_error[column]);
}

static void column_label(void *user, int32_t column, char text[32]) {
  (void)user;
  snprintf(text, 32, "%d", (int)column);
}

static void find_range(page *p) {
  p->least = INFINITY;
  p->most = -INFINITY;
  for (int32_t i = 1; i < p->c->n; i++) {
    for (int32_t j = 0; j < p->c->n_layers; j++) {
      double error = p->c->results[i].layer_error[j];
      if (!(error > 0.0) || !isfinite(error)) continue;
      p->least = fmin(p->least, log10(error));
      p->most = fmax(p->most, log10(error));
    }
  }
}

static void draw_layers(page *p) {
  char low[32], high[32];
  find_range(p);
  if (!isfinite(p->least)) return;
  snprintf(low, sizeof low, "%.3g %%", 100.0 * pow(10.0, p->least));
  snprintf(high, sizeof high, "%.3g %% (logarithmic)", 100.0 * pow(10.0, p->most));
  for (int32_t i = 1; i < p->c->n; i++) p->names[i - 1] = p->c->results[i].scheme.title;
  const html_map map = {.rows = p->c->n - 1,
                        .columns = p->c->n_layers,
                        .row_labels = p->names,
                        .column_label = column_label,
                        .shade = shade,
                        .tip = tip,
                        .user = p,
                        .low = low,
                        .high = high,
                        .rows_name = "scheme",
                        .columns_name = "layer"};
  html_section(p->out, "Error by layer",
               "How far the residual stream behind each layer is from that of f32: |x - x(f32)| / |x(f32)| over the "
               "first window.");
  html_heat_map(p->out, &map, "Relative error of the residual stream, schemes by layers");
  html_section_end(p->out);
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static void draw_weights(page *p) {
  int32_t n = 0;
  char heading[OTR_NAME_BYTES + 32];
  for (int32_t i = 0; i < p->c->n; i++) {
    const compare_result *r = &p->c->results[i];
    if (i > 0 && r->weight_error == 0.0) continue;
    snprintf(p->notes[n], sizeof p->notes[n], "error %.3g %%", 100.0 * r->weight_error);
    p->drawn[n] = (html_histogram){.label = i > 0 ? r->scheme.name : "before",
                                   .note = i > 0 ? p->notes[n] : NULL,
                                   .before = i > 0 ? p->c->results[0].bins : NULL,
                                   .after = r->bins,
                                   .n = COMPARE_BINS,
                                   .first = -p->c->bin_end,
                                   .last = p->c->bin_end};
    n++;
  }
  snprintf(heading, sizeof heading, "Weights of %s", p->c->weight);
  html_section(p->out, heading,
               "Bars: under the scheme; line: as stored. To four standard deviations, what lies beyond in the end "
               "bins; heights are square roots of the counts.");
  html_histograms(p->out, p->drawn, n, "Histogram of weights before and after");
  html_section_end(p->out);
}

/* ---- the prompt -------------------------------------------------------------------------------------------------- */

static void write_texts(const page *p) {
  if (!p->c->params.prompt) return;
  html_section(p->out, "The same prompt under each scheme", p->c->params.prompt);
  for (int32_t i = 0; i < p->c->n; i++) {
    const compare_result *r = &p->c->results[i];
    if (!r->text) continue;
    html_paragraph(p->out, "%s", r->scheme.title);
    fputs("<pre>", p->out);
    html_text(p->out, r->text);
    fputs("</pre>\n", p->out);
  }
  html_section_end(p->out);
}

/* ---- the page ---------------------------------------------------------------------------------------------------- */

static void write_page(page *p) {
  const char *slash = strrchr(p->c->params.path, '/');
  char title[256], subtitle[256];
  snprintf(title, sizeof title, "Quantization schemes on %s", slash && slash[1] ? slash + 1 : p->c->params.path);
  snprintf(subtitle, sizeof subtitle,
           "%llu tokens of %zu windows; every scheme runs through the same forward pass, compared with f32.",
           (unsigned long long)p->c->results[0].tally.tokens, p->c->params.windows->n);
  html_begin(p->out, title, subtitle);
  draw_bars(p, "KL divergence from f32",
            "KL(f32 || scheme), nats a token: what is lost when the scheme speaks for f32. Logarithmic; shorter is "
            "better.",
            compare_kl, "%.5f", true);
  draw_bars(p, "Perplexity, ratio to f32", "1 is f32.", compare_ratio, "%.4f", false);
  draw_bars(p, "Size", "Megabytes of the whole model under the scheme, with its constants.", megabytes, "%.1f", false);
  write_table(p);
  draw_layers(p);
  draw_weights(p);
  write_texts(p);
  html_end(p->out);
}

otr_status compare_write_page(const comparison *c, const char *path) {
  const size_t n = (size_t)c->n;
  page p = {.c = c};
  otr_status status = tool_allocate(n, sizeof *p.bars, (void **)&p.bars);
  if (status == OTR_STATUS_OK) status = tool_allocate(n, sizeof *p.drawn, (void **)&p.drawn);
  if (status == OTR_STATUS_OK) status = tool_allocate(n, sizeof *p.notes, (void **)&p.notes);
  if (status == OTR_STATUS_OK) status = tool_allocate(n, sizeof *p.names, (void **)&p.names);
  if (status == OTR_STATUS_OK) status = tool_create(path, &p.out);
  if (status == OTR_STATUS_OK) {
    write_page(&p);
    status = tool_finish(p.out, path, status);
  }
  free(p.bars);
  free(p.drawn);
  free(p.notes);
  free(p.names);
  return status;
}
