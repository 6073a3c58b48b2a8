// SPDX-License-Identifier: Apache-2.0
/* What compare prints. */
#include <stdlib.h>

#include "compare.h"
#include "status.h"

/* A figure, or a dash. @param text [24] */
static const char *figure(char text[24], const char *unit, int digits, double value) {
  if (isfinite(value))
    snprintf(text, 24, "%.*f%s", digits, value, unit);
  else
    snprintf(text, 24, "-");
  return text;
}

static void print_row(const compare_result *r) {
  char share[24], prefill[24], decode[24];
  const tool_tally *t = &r->tally;
  const double ppl = compare_ppl(r), ratio = compare_ratio(r);
  printf("%-18s %9.4f %8.4f %7.4f %7.4f %9.6f %6.2f%% %9s %9.1f %8s %8s\n", r->scheme.name, ppl,
         ppl * tool_mean_error(t->nll, t->nll_squares, t->tokens), ratio,
         ratio * tool_mean_error(t->more, t->more_squares, t->tokens), compare_kl(r), 100.0 * compare_same(r),
         figure(share, "%", 3, 100.0 * compare_outlier_share(r)), (double)r->bytes / 1e6,
         figure(prefill, "", 1, r->prefill), figure(decode, "", 1, r->decode));
}

void compare_print(const comparison *c) {
  const tool_tally *t = &c->results[0].tally;
  printf("%llu tokens of %zu windows; KL is KL(f32 || scheme); +- are standard errors\n", (unsigned long long)t->tokens,
         c->params.windows->n);
  printf("%-18s %9s %8s %7s %7s %9s %7s %9s %9s %8s %8s\n", "scheme", "ppl", "+-", "ratio", "+-", "KL", "top-1",
         "outliers", "MB", "prefill", "decode");
  for (int32_t i = 0; i < c->n; i++) print_row(&c->results[i]);
  if (c->params.speed) printf("prefill and decode: tokens/s of the library, where it runs the scheme\n");
  for (int32_t i = 0; i < c->n; i++)
    if (c->results[i].text) printf("\n[%s]\n%s\n", c->results[i].scheme.name, c->results[i].text);
}

static json_t *number(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}

static json_t *numbers(const double *values, int32_t n) {
  json_t *array = json_array();
  for (int32_t i = 0; i < n; i++) json_array_append_new(array, number(values[i]));
  return array;
}

static json_t *result_json(const comparison *c, const compare_result *r) {
  const tool_tally *t = &r->tally;
  const double ppl = compare_ppl(r), ratio = compare_ratio(r);
  json_t *json = json_pack(
      "{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:I, s:f, s:o, s:o, s:o, s:f}", "scheme", r->scheme.name,
      "title", r->scheme.title, "ppl", ppl, "ppl_error", ppl * tool_mean_error(t->nll, t->nll_squares, t->tokens),
      "ppl_second_half", exp(tool_mean(t->nll_half, t->tokens_half)), "ratio", ratio, "ratio_error",
      ratio * tool_mean_error(t->more, t->more_squares, t->tokens), "kl", compare_kl(r), "top1_same", compare_same(r),
      "outlier_share", number(compare_outlier_share(r)), "bytes", (json_int_t)r->bytes, "seconds", r->seconds,
      "prefill_tokens_per_s", number(r->prefill), "decode_tokens_per_s", number(r->decode), "layer_error",
      numbers(r->layer_error, c->n_layers), "weight_error", r->weight_error);
  if (json && r->text) {
    json_t *text = json_string(r->text);
    json_object_set_new(json, "text", text ? text : json_null()); /* NULL: cut off inside a character */
  }
  return json;
}

otr_status compare_print_json(const comparison *c) {
  json_t *schemes = json_array();
  for (int32_t i = 0; i < c->n; i++) json_array_append_new(schemes, result_json(c, &c->results[i]));
  return tool_print_json(json_pack("{s:I, s:I, s:s, s:o}", "tokens", (json_int_t)c->results[0].tally.tokens, "windows",
                                   (json_int_t)c->params.windows->n, "weight", c->weight, "schemes", schemes));
}
