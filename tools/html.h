// SPDX-License-Identifier: Apache-2.0
/* Pages of one file: HTML with inline SVG, light and dark by the reader's setting, no network and no script. Every
 * function writes to a stream whose errors the caller checks at the end (tool_finish). Texts are UTF-8 and are escaped
 * here. */
#ifndef TOOL_HTML_H
#define TOOL_HTML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/** Text, escaped. */
void html_text(FILE *out, const char *text);
/** The page's head, its title and a line below it. */
void html_begin(FILE *out, const char *title, const char *subtitle);
void html_end(FILE *out);
/** A card with a heading and, where not NULL, a line on what it shows. */
void html_section(FILE *out, const char *heading, const char *note);
void html_section_end(FILE *out);
/** A paragraph, printf form. */
void html_paragraph(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** A table: the header, then html_row and n html_cell a row, then the end. Columns but the first are numbers. */
void html_table(FILE *out, const char *const *headers, int32_t n);
void html_row(FILE *out);
/** printf form. */
void html_cell(FILE *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void html_table_end(FILE *out);

/** Horizontal bars, one a line. */
typedef struct html_bar {
  const char *label;
  double value; /**< not finite: no bar, "–" */
  bool strong;  /**< set off from the others */
} html_bar;
/** @param format of the value beside its bar, for a double: "%.4f"
 *  @param logarithmic bars are as long as the logarithm says; values that are not positive have none
 *  @param description what a screen reader is told */
void html_bars(FILE *out, const html_bar *bars, int32_t n, const char *format, bool logarithmic,
               const char *description);

/** A histogram before and after: `after` as bars, `before` as a line over them. */
typedef struct html_histogram {
  const char *label, *note;     /**< note: a line below, or NULL */
  const double *before, *after; /**< [n] counts; before may be NULL */
  int32_t n;
  double first, last; /**< what the axis begins and ends with */
} html_histogram;
/** Side by side, as many as fit a line; heights are square roots, so that tails are seen. */
void html_histograms(FILE *out, const html_histogram *histograms, int32_t n, const char *description);

/** A map of cells, rows × columns; 0 is empty, 1 full colour. */
typedef struct html_map {
  int32_t rows, columns;
  const char *const *row_labels; /**< [rows] */
  void (*column_label)(void *user, int32_t column, char text[32]);
  double (*shade)(void *user, int32_t row, int32_t column);             /**< 0 … 1; NaN: no value */
  void (*tip)(void *user, int32_t row, int32_t column, char text[128]); /**< what is shown on the cell; NULL: nothing */
  void *user;
  const char *low, *high; /**< what 0 and 1 mean, for the legend */
  const char *rows_name, *columns_name;
} html_map;
void html_heat_map(FILE *out, const html_map *map, const char *description);

#endif
