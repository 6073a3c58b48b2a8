// SPDX-License-Identifier: Apache-2.0
#include "html.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* Bytes of the UTF-8 character at `text`; 0 where there is none. */
static int32_t character(const char *text) {
  const unsigned char first = (unsigned char)*text;
  const int32_t n = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  for (int32_t i = 1; i < n; i++)
    if (((unsigned char)text[i] & 0xc0) != 0x80) return 0;
  const unsigned char second = n > 1 ? (unsigned char)text[1] : 0;
  const bool overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool none =
      (first == 0xed && second > 0x9f) || (first == 0xf4 && second > 0x8f); /* surrogates, beyond the end */
  return overlong || none ? 0 : n;
}

void html_text(FILE *out, const char *text) {
  for (; *text; text++) {
    const int32_t n = character(text);
    if (n != 1) { /* a text cut inside a character, a file name in another encoding: U+FFFD */
      fputs(n == 0 ? "\xef\xbf\xbd" : "", out);
      fwrite(text, 1, (size_t)n, out);
      text += n > 1 ? n - 1 : 0;
      continue;
    }
    switch (*text) {
      case '&':
        fputs("&amp;", out);
        break;
      case '<':
        fputs("&lt;", out);
        break;
      case '>':
        fputs("&gt;", out);
        break;
      case '"':
        fputs("&quot;", out);
        break;
      default:
        if ((unsigned char)*text >= 0x20 || *text == '\n' || *text == '\t') fputc(*text, out);
    }
  }
}

static void put(FILE *out, const char *before, const char *text, const char *after) {
  fputs(before, out);
  html_text(out, text);
  fputs(after, out);
}

/* ---- page -------------------------------------------------------------------------------------------------------- */

static const char *const style =
    ":root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#14171c;--soft:#5b6370;--line:#dfe3e8;"
    "--bar:#3a6fb7;--strong:#c2571a;--track:#eef1f5}\n"
    "@media(prefers-color-scheme:dark){:root{--page:#101318;--card:#191d24;--ink:#e8ebf0;--soft:#9aa4b2;"
    "--line:#2c323c;--bar:#6fa3e8;--strong:#f0975a;--track:#232933}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',"
    "Roboto,'DejaVu Sans',sans-serif}\n"
    "main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}\n"
    "h1{font-size:26px;line-height:1.25;margin:0 0 4px}h2{font-size:17px;margin:0 0 2px}\n"
    "p{margin:0 0 10px}.soft{color:var(--soft)}\n"
    "section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:18px 0;"
    "overflow-x:auto}\n"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}\n"
    "th,td{padding:5px 10px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\n"
    "th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left;padding-left:0}\n"
    "tr:last-child td{border-bottom:0}\n"
    "svg{display:block;max-width:100%;height:auto}svg text{fill:var(--ink);font:13px system-ui,-apple-system,"
    "'Segoe UI',Roboto,'DejaVu Sans',sans-serif}svg .soft{fill:var(--soft)}svg .small{font-size:11px}\n"
    ".grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:14px}\n"
    ".bar{fill:var(--bar)}.strong{fill:var(--strong)}.track{fill:var(--track)}\n"
    ".before{fill:none;stroke:var(--strong);stroke-width:1.5}.axis{stroke:var(--line)}\n"
    "pre{white-space:pre-wrap;margin:0 0 6px;font:13px/1.5 ui-monospace,'DejaVu Sans Mono',monospace}\n";

void html_begin(FILE *out, const char *title, const char *subtitle) {
  fputs(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n",
      out);
  put(out, "<title>", title, "</title>\n<style>\n");
  fputs(style, out);
  put(out, "</style></head><body><main>\n<h1>", title, "</h1>\n");
  put(out, "<p class=\"soft\">", subtitle, "</p>\n");
}

void html_end(FILE *out) {
  fputs("</main></body></html>\n", out);
}

void html_section(FILE *out, const char *heading, const char *note) {
  put(out, "<section><h2>", heading, "</h2>\n");
  if (note) put(out, "<p class=\"soft\">", note, "</p>\n");
}

void html_section_end(FILE *out) {
  fputs("</section>\n", out);
}

static void print_text(FILE *out, const char *format, va_list arguments) {
  char text[1024];
  vsnprintf(text, sizeof text, format, arguments);
  html_text(out, text);
}

void html_paragraph(FILE *out, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("<p>", out);
  print_text(out, format, arguments);
  fputs("</p>\n", out);
  va_end(arguments);
}

/* ---- table ------------------------------------------------------------------------------------------------------- */

void html_table(FILE *out, const char *const *headers, int32_t n) {
  fputs("<table><thead><tr>", out);
  for (int32_t i = 0; i < n; i++) put(out, "<th>", headers[i], "</th>");
  fputs("</tr></thead><tbody>", out);
}

void html_row(FILE *out) {
  fputs("\n<tr>", out); /* its end tag may be left out */
}

void html_cell(FILE *out, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("<td>", out);
  print_text(out, format, arguments);
  fputs("</td>", out);
  va_end(arguments);
}

void html_table_end(FILE *out) {
  fputs("\n</tbody></table>\n", out);
}

/* ---- drawings ---------------------------------------------------------------------------------------------------- */

static void svg(FILE *out, int32_t width, int32_t height, const char *description) {
  fprintf(out, "<svg viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"", (int)width,
          (int)height, (int)width, (int)height);
  put(out, "", description, "\">\n");
}

static void svg_text(FILE *out, double x, double y, const char *attributes, const char *text) {
  fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
  put(out, "", text, "</text>\n");
}

enum { LABEL_WIDTH = 300, BAR_WIDTH = 600, LINE_HEIGHT = 26, VALUE_WIDTH = 110 };

typedef struct scale {
  double low, high;
  bool logarithmic;
} scale;

static bool has_bar(const html_bar *bar, bool logarithmic) {
  return isfinite(bar->value) && (!logarithmic || bar->value > 0.0);
}

/* From 0, or, logarithmic, from a power of ten below the least. */
static scale scale_of(const html_bar *bars, int32_t n, bool logarithmic) {
  scale s = {0.0, 0.0, logarithmic};
  double least = INFINITY;
  for (int32_t i = 0; i < n; i++) {
    if (!has_bar(&bars[i], logarithmic)) continue;
    s.high = fmax(s.high, bars[i].value);
    least = fmin(least, bars[i].value);
  }
  if (logarithmic && s.high > 0.0) {
    s.low = floor(log10(least) - 0.2);
    s.high = log10(s.high);
  }
  if (!(s.high > s.low)) s.high = s.low + 1.0;
  return s;
}

static double length_of(scale s, double value) {
  double at = ((s.logarithmic ? log10(value) : value) - s.low) / (s.high - s.low);
  return at < 0.0 ? 0.0 : at > 1.0 ? 1.0 : at;
}

/* Powers of ten, so that the lengths can be read. */
static void draw_decades(FILE *out, scale s, int32_t n) {
  for (double decade = s.low; s.logarithmic && decade <= s.high; decade += 1.0) {
    double x = LABEL_WIDTH + BAR_WIDTH * (decade - s.low) / (s.high - s.low);
    char label[32];
    snprintf(label, sizeof label, "%g", pow(10.0, decade));
    fprintf(out, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"0\" y2=\"%d\"/>\n", x, x, (int)(n * LINE_HEIGHT));
    svg_text(out, x, n * LINE_HEIGHT + 14, "class=\"soft small\" text-anchor=\"middle\"", label);
  }
}

void html_bars(FILE *out, const html_bar *bars, int32_t n, const char *format, bool logarithmic,
               const char *description) {
  const scale s = scale_of(bars, n, logarithmic);
  svg(out, LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH, n * LINE_HEIGHT + (logarithmic ? 20 : 2), description);
  draw_decades(out, s, n);
  for (int32_t i = 0; i < n; i++) {
    const double y = i * LINE_HEIGHT;
    const bool drawn = has_bar(&bars[i], logarithmic);
    const double width = drawn ? BAR_WIDTH * length_of(s, bars[i].value) : 0.0;
    char value[64] = "\xe2\x80\x93";
    if (isfinite(bars[i].value)) snprintf(value, sizeof value, format, bars[i].value);
    svg_text(out, 0, y + 17, bars[i].strong ? "font-weight=\"600\"" : "", bars[i].label);
    if (drawn)
      fprintf(out, "<rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n",
              bars[i].strong ? "strong" : "bar", LABEL_WIDTH, y + 5, fmax(width, 1.0), LINE_HEIGHT - 10);
    svg_text(out, LABEL_WIDTH + width + 8, y + 17, bars[i].strong ? "font-weight=\"600\"" : "class=\"soft\"", value);
  }
  fputs("</svg>\n", out);
}

enum { HISTOGRAM_WIDTH = 240, HISTOGRAM_HEIGHT = 110 };

static double most_of(const double *counts, int32_t n) {
  double most = 0.0;
  for (int32_t i = 0; counts && i < n; i++) most = fmax(most, counts[i]);
  return most;
}

static double height_of(double count, double most) {
  return most > 0.0 ? HISTOGRAM_HEIGHT * sqrt(count / most) : 0.0;
}

static void draw_histogram(FILE *out, const html_histogram *h, double most, const char *description) {
  const double step = (double)HISTOGRAM_WIDTH / h->n;
  char label[32];
  fputs("<div>", out);
  svg(out, HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT + 40, description);
  svg_text(out, 0, 12, "font-weight=\"600\"", h->label);
  for (int32_t i = 0; i < h->n; i++) {
    double height = height_of(h->after[i], most);
    if (height > 0.0)
      fprintf(out, "<rect class=\"bar\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/>\n", i * step,
              20 + HISTOGRAM_HEIGHT - height, fmax(step - 0.4, 0.4), height);
  }
  if (h->before) fputs("<polyline class=\"before\" points=\"", out);
  for (int32_t i = 0; h->before && i < h->n; i++)
    fprintf(out, "%.2f,%.2f ", (i + 0.5) * step, 20 + HISTOGRAM_HEIGHT - height_of(h->before[i], most));
  if (h->before) fputs("\"/>\n", out);
  fprintf(out, "<line class=\"axis\" x1=\"0\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", HISTOGRAM_WIDTH,
          HISTOGRAM_HEIGHT + 20, HISTOGRAM_HEIGHT + 20);
  snprintf(label, sizeof label, "%.3g", h->first);
  svg_text(out, 0, HISTOGRAM_HEIGHT + 34, "class=\"soft small\"", label);
  snprintf(label, sizeof label, "%.3g", h->last);
  svg_text(out, HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT + 34, "class=\"soft small\" text-anchor=\"end\"", label);
  if (h->note)
    svg_text(out, HISTOGRAM_WIDTH / 2.0, HISTOGRAM_HEIGHT + 34, "class=\"soft small\" text-anchor=\"middle\"", h->note);
  fputs("</svg></div>\n", out);
}

void html_histograms(FILE *out, const html_histogram *histograms, int32_t n, const char *description) {
  fputs("<div class=\"grid\">\n", out);
  for (int32_t i = 0; i < n; i++) {
    const html_histogram *h = &histograms[i];
    /* Few levels make high bars: each drawing has its own scale, of what it shows before. */
    double most = h->before ? most_of(h->before, h->n) : 0.0, after = most_of(h->after, h->n);
    draw_histogram(out, h, fmax(most, after), description);
  }
  fputs("</div>\n", out);
}

/* ---- map --------------------------------------------------------------------------------------------------------- */

enum { MAP_WIDTH = 700, MAP_TOP = 22, MAP_LEGEND = 36 };

static void draw_cell(FILE *out, const html_map *map, int32_t row, int32_t column, double x, double y, double width,
                      double height) {
  const double shade = map->shade(map->user, row, column);
  char tip[128] = "";
  if (map->tip) map->tip(map->user, row, column, tip);
  fprintf(out, "<g><rect class=\"track\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/>", x, y, width, height);
  if (shade > 0.0)
    fprintf(out, "<rect class=\"bar\" fill-opacity=\"%.3f\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/>",
            shade < 1.0 ? shade : 1.0, x, y, width, height);
  if (*tip) put(out, "<title>", tip, "</title>");
  fputs("</g>\n", out);
}

static void draw_column_labels(FILE *out, const html_map *map, double step) {
  const int32_t every = (int32_t)ceil(34.0 / step);
  for (int32_t c = 0; c < map->columns; c += every) {
    char text[32] = "";
    map->column_label(map->user, c, text);
    svg_text(out, LABEL_WIDTH + (c + 0.5) * step, MAP_TOP - 8, "class=\"soft small\" text-anchor=\"middle\"", text);
  }
}

static void draw_legend(FILE *out, const html_map *map, double y) {
  enum { STEPS = 20, WIDTH = 8 };
  char low[96];
  snprintf(low, sizeof low, "%s", map->low);
  svg_text(out, LABEL_WIDTH - 8, y + 11, "class=\"soft small\" text-anchor=\"end\"", low);
  for (int32_t i = 0; i < STEPS; i++)
    fprintf(out,
            "<rect class=\"track\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"12\"/><rect class=\"bar\" "
            "fill-opacity=\"%.2f\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"12\"/>\n",
            LABEL_WIDTH + i * WIDTH, y, WIDTH, (i + 0.5) / STEPS, LABEL_WIDTH + i * WIDTH, y, WIDTH);
  svg_text(out, LABEL_WIDTH + STEPS * WIDTH + 8, y + 11, "class=\"soft small\"", map->high);
}

void html_heat_map(FILE *out, const html_map *map, const char *description) {
  if (map->rows < 1 || map->columns < 1) return;
  const double step = (double)MAP_WIDTH / map->columns, line = map->rows > 40 ? 16.0 : 24.0;
  const double bottom = MAP_TOP + map->rows * line;
  svg(out, LABEL_WIDTH + MAP_WIDTH + 10, (int32_t)bottom + MAP_LEGEND, description);
  svg_text(out, 0, MAP_TOP - 8, "class=\"soft small\"", map->rows_name);
  svg_text(out, LABEL_WIDTH - 8, MAP_TOP - 8, "class=\"soft small\" text-anchor=\"end\"", map->columns_name);
  draw_column_labels(out, map, step);
  for (int32_t row = 0; row < map->rows; row++) {
    const double y = MAP_TOP + row * line;
    svg_text(out, 0, y + 0.5 * line + 4.5, "", map->row_labels[row]);
    for (int32_t c = 0; c < map->columns; c++)
      draw_cell(out, map, row, c, LABEL_WIDTH + c * step, y + 1, step - (step > 6.0 ? 1.0 : 0.0), line - 2);
  }
  draw_legend(out, map, bottom + 14);
  fputs("</svg>\n", out);
}
