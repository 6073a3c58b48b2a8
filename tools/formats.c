// SPDX-License-Identifier: Apache-2.0
/* outrider formats: one number in every format that models are stored and computed in. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "number_format.h"
#include "status.h"

typedef struct arguments {
  const char *text;
  double value;
  float absmax; /* 0: INT8 is not asked for */
  int32_t explain, json;
} arguments;

enum { KEY_ABSMAX = TOOL_KEY_OWN, KEY_EXPLAIN, LINE_BYTES = 200, MAX_LINES = 8 };
static const struct argp_option rows[] = {
    {"absmax", KEY_ABSMAX, "A", 0, "also INT8, in a row whose largest magnitude is A", 0},
    {"explain", KEY_EXPLAIN, NULL, 0, "the conversion step by step", 0},
    TOOL_JSON_OPTION,
    {0}};

static void take_value(const struct argp_state *state, arguments *a, const char *arg) {
  char *end;
  if (a->text) argp_error(state, "unexpected argument `%s'", arg);
  a->text = arg;
  a->value = strtod(arg, &end);
  if (end == arg || *end) argp_error(state, "`%s' is not a number, nan or inf", arg);
}

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  switch (key) {
    case KEY_ABSMAX:
      a->absmax = (float)tool_number(state, "--absmax", arg, 0x1p-33, 0x1p48);
      return 0;
    case KEY_EXPLAIN:
      a->explain = 1;
      return 0;
    case TOOL_KEY_JSON:
      a->json = 1;
      return 0;
    case ARGP_KEY_ARG:
      take_value(state, a, arg);
      return 0;
    case ARGP_KEY_END:
      if (!a->text) argp_error(state, "VALUE is missing");
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .options = rows,
    .parser = parse,
    .args_doc = "VALUE",
    .doc =
        "Shows what a number (decimal, hexadecimal 0x1.8p3, nan, inf) becomes in FP32, FP16, BF16, TF32, FP8 E4M3, FP8 "
        "E5M2 and INT8: its bits, the value held, the error, the neighbours, and each format's range. Rounding is to "
        "nearest, ties to even." TOOL_EXIT_DOC,
};

/* ---- what there is to say of one format ------------------------------------------------------------------------- */

typedef struct held {
  const number_format *format;
  number_rounding rounding;
  double value, error, below, above;
  bool has_below, has_above;
} held;

static held hold(const number_format *format, double value) {
  held h = {.format = format, .rounding = number_round(format, value)};
  h.value = number_value(format, h.rounding.code);
  h.error = h.value - value;
  h.has_below = number_next(format, h.rounding.code, false, &h.below);
  h.has_above = number_next(format, h.rounding.code, true, &h.above);
  return h;
}

static const char *kind_name(number_kind kind) {
  static const char *const names[] = {"zero", "subnormal", "normal", "infinite", "nan"};
  return names[kind];
}

/* "0 10000000 1001001": sign, exponent, mantissa. */
static void bits_text(const number_format *f, uint32_t code, char out[48]) {
  for (int32_t i = f->exponent_bits + f->mantissa_bits; i >= 0; i--) {
    *out++ = (code >> i & 1) ? '1' : '0';
    if (i == f->exponent_bits + f->mantissa_bits || i == f->mantissa_bits) *out++ = ' ';
  }
  *out = 0;
}

/* As it lies in memory, in as many digits. */
static void hex_text(const number_format *f, uint32_t code, char out[16]) {
  int32_t bits = 1 + f->exponent_bits + f->mantissa_bits + f->pad_bits;
  snprintf(out, 16, "0x%0*" PRIX32, (int)(bits / 4), code << f->pad_bits);
}

static void number_text(double value, char out[32]) {
  snprintf(out, 32, "%.9g", isnan(value) ? NAN : value); /* no "-nan": the sign stands among the bits */
}

/* ---- the steps -------------------------------------------------------------------------------------------------- */

/* Lines of --explain. */
typedef struct steps {
  char line[MAX_LINES][LINE_BYTES];
  int32_t n;
} steps;

static void __attribute__((format(printf, 2, 3))) say(steps *s, const char *format, ...) {
  va_list values;
  if (s->n == MAX_LINES) return;
  va_start(values, format);
  vsnprintf(s->line[s->n++], LINE_BYTES, format, values);
  va_end(values);
}

static void explain_special(steps *s, const held *h, double value) {
  if (value == 0.0) {
    say(s, "zero: exponent and mantissa 0, the sign is kept");
  } else if (h->rounding.kind == NUMBER_INFINITE) {
    say(s, "infinity: exponent all ones, mantissa 0");
  } else if (h->format->has_infinity) {
    say(s, "not a number: exponent all ones, the mantissa's highest bit set");
  } else {
    say(s, "%s: all ones, the only NaN there is; the format has no infinity",
        isnan(value) ? "not a number" : "infinity");
  }
}

static void explain_rounding(steps *s, const held *h) {
  const number_rounding *r = &h->rounding;
  const double one = (double)(1 << h->format->mantissa_bits), whole = floor(r->scaled), rest = r->scaled - whole;
  say(s, "the significand in units of 2^-%d: %.17g = %.0f + %.6g", (int)h->format->mantissa_bits, r->scaled, whole,
      rest);
  if (rest == 0.0) {
    say(s, "it is whole: nothing is rounded");
  } else {
    const char *why = rest == 0.5 ? "a tie: to the even one" : rest > 0.5 ? "nearer to the next" : "nearer to this";
    say(s, "%s: %.0f", why, r->rounded);
  }
  if (!r->overflow && whole < 2.0 * one && r->rounded == 2.0 * one) say(s, "the carry makes the exponent one larger");
  if (whole < one && r->rounded == one) say(s, "which is the smallest normal number");
}

static void explain_result(steps *s, const held *h) {
  const number_format *f = h->format;
  const uint32_t code = h->rounding.code, exponent = number_exponent(f, code), mantissa = number_mantissa(f, code);
  if (h->rounding.overflow) {
    say(s, "beyond the largest number, %.9g: %s (a converter that saturates gives %.9g)", number_max(f),
        f->has_infinity ? "infinity" : "NaN, since there is no infinity",
        number_sign(f, code) ? -number_max(f) : number_max(f));
  } else if (exponent == 0) {
    say(s, "field 0, mantissa %" PRIu32 ": %" PRIu32 "/%d · 2^%d = %.17g", mantissa, mantissa, 1 << f->mantissa_bits,
        (int)(1 - f->bias), h->value);
  } else {
    say(s, "field %" PRIu32 ", mantissa %" PRIu32 ": (1 + %" PRIu32 "/%d) · 2^(%" PRIu32 " - %d) = %.17g", exponent,
        mantissa, mantissa, 1 << f->mantissa_bits, exponent, (int)f->bias, h->value);
  }
}

static void explain(steps *s, const held *h, double value) {
  const number_format *f = h->format;
  *s = (steps){.n = 0};
  if (value == 0.0 || !isfinite(value)) {
    explain_special(s, h, value);
    return;
  }
  int exponent = ilogb(value);
  say(s, "%.17g = %c %.17g · 2^%d", value, value < 0.0 ? '-' : '+', ldexp(fabs(value), -exponent), exponent);
  if (exponent < h->rounding.exponent) {
    say(s, "2^%d is below the smallest normal exponent: subnormal, with 2^%d", exponent, (int)h->rounding.exponent);
  } else {
    say(s, "exponent field: %d + bias %d = %d of at most %d", exponent, (int)f->bias, exponent + (int)f->bias,
        (1 << f->exponent_bits) - (f->has_infinity ? 2 : 1));
  }
  explain_rounding(s, h);
  explain_result(s, h);
}

static void explain_int8(steps *s, const number_int8 *r, float value, float absmax) {
  *s = (steps){.n = 0};
  say(s, "inv = 127 · (1 / %.9g) = %.9g, scale = %.9g · (1/127) = %.9g", (double)absmax, (double)r->inv, (double)absmax,
      (double)r->scale);
  say(s, "%.9g · %.9g = %.9g, to the nearest integer (ties to even): %d", (double)value, (double)r->inv,
      (double)r->scaled, (int)r->q);
  if (r->clamped) say(s, "beyond absmax: clamped to 127; in its own row this cannot happen");
  say(s, "%d · %.9g = %.9g", (int)r->q, (double)r->scale, r->held);
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

static void print_steps(const char *name, const steps *s) {
  printf("\n%s\n", name);
  for (int32_t i = 0; i < s->n; i++) printf("  %d. %s\n", (int)i + 1, s->line[i]);
}

static void print_held(const held *h, double value) {
  char bits[48], hex[16], text[32], error[32] = "-", relative[32] = "-", below[32] = "-", above[32] = "-";
  bits_text(h->format, h->rounding.code, bits);
  hex_text(h->format, h->rounding.code, hex);
  number_text(h->value, text);
  if (isfinite(h->error)) snprintf(error, sizeof error, "%.3g", h->error);
  if (isfinite(h->error) && value != 0.0) snprintf(relative, sizeof relative, "%.2g", fabs(h->error / value));
  if (h->has_below) number_text(h->below, below);
  if (h->has_above) number_text(h->above, above);
  printf("%-9s %-35s %-11s %-15s %-10s %-9s %-15s %s\n", h->format->name, bits, hex, text, error, relative, below,
         above);
}

static void print_int8(const number_int8 *r, double value) {
  char range[32], relative[32] = "-", below[32] = "-", above[32] = "-";
  const double error = r->held - value, scale = (double)r->scale;
  snprintf(range, sizeof range, "q = %d", (int)r->q);
  if (value != 0.0) snprintf(relative, sizeof relative, "%.2g", fabs(error / value));
  if (r->q > -127) number_text((r->q - 1) * scale, below);
  if (r->q < 127) number_text((r->q + 1) * scale, above);
  printf("%-9s %-35s 0x%02X        %-15.9g %-10.3g %-9s %-15s %s\n", "INT8", range, (unsigned)(uint8_t)r->q, r->held,
         error, relative, below, above);
}

static void print_ranges(float absmax) {
  printf("\n%-9s %4s %8s %8s %5s %15s %16s %19s %10s\n", "format", "bits", "exponent", "mantissa", "bias", "largest",
         "smallest normal", "smallest subnormal", "step at 1");
  for (int i = 0; i < NUMBER_FORMATS; i++) {
    const number_format *f = &number_formats[i];
    printf("%-9s %4d %8d %8d %5d %15.9g %16.9g %19.9g %10.3g%s\n", f->name,
           (int)(1 + f->exponent_bits + f->mantissa_bits), (int)f->exponent_bits, (int)f->mantissa_bits, (int)f->bias,
           number_max(f), number_min_normal(f), number_min_subnormal(f), ldexp(1.0, -f->mantissa_bits),
           f->has_infinity ? "" : "  no infinity");
  }
  if (absmax > 0.0f) {
    printf("%-9s %4d %8s %8s %5s %15.9g %16s %19s %10.3g  steps of absmax/127 everywhere\n", "INT8", 8, "-", "-", "-",
           (double)absmax, "-", "-", (double)absmax / 127.0);
  }
}

static void print_text(const arguments *a) {
  steps s;
  printf("%s = %.17g = %a\n\n", a->text, a->value, a->value);
  printf("%-9s %-35s %-11s %-15s %-10s %-9s %-15s %s\n", "format", "sign exponent mantissa", "hex", "value held",
         "error", "relative", "next below", "next above");
  for (int i = 0; i < NUMBER_FORMATS; i++) {
    held h = hold(&number_formats[i], a->value);
    print_held(&h, a->value);
  }
  number_int8 int8 = {0};
  if (a->absmax > 0.0f) {
    int8 = number_round_int8((float)a->value, a->absmax);
    print_int8(&int8, a->value);
  }
  print_ranges(a->absmax);
  for (int i = 0; a->explain && i < NUMBER_FORMATS; i++) {
    held h = hold(&number_formats[i], a->value);
    explain(&s, &h, a->value);
    print_steps(h.format->name, &s);
  }
  if (a->explain && a->absmax > 0.0f) {
    explain_int8(&s, &int8, (float)a->value, a->absmax);
    print_steps("INT8", &s);
  }
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */

/* null where JSON has no such number. */
static json_t *real(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}

static json_t *steps_json(const steps *s) {
  json_t *list = json_array();
  for (int32_t i = 0; i < s->n; i++) json_array_append_new(list, json_string(s->line[i]));
  return list;
}

static json_t *held_json(const arguments *a, const number_format *f) {
  char hex[16];
  held h = hold(f, a->value);
  const uint32_t code = h.rounding.code;
  hex_text(f, code, hex);
  json_t *json =
      json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:b, s:i, s:i, s:i, s:f, s:f, s:f}", "format",
                f->name, "hex", hex, "kind", kind_name(h.rounding.kind), "sign", (int)number_sign(f, code), "exponent",
                (int)number_exponent(f, code), "mantissa", (int)number_mantissa(f, code), "value", real(h.value),
                "error", real(h.error), "below", h.has_below ? real(h.below) : json_null(), "above",
                h.has_above ? real(h.above) : json_null(), "overflow", h.rounding.overflow, "exponent_bits",
                (int)f->exponent_bits, "mantissa_bits", (int)f->mantissa_bits, "bias", (int)f->bias, "max",
                number_max(f), "min_normal", number_min_normal(f), "min_subnormal", number_min_subnormal(f));
  if (json && a->explain) {
    steps s;
    explain(&s, &h, a->value);
    json_object_set_new(json, "steps", steps_json(&s));
  }
  return json;
}

static json_t *int8_json(const arguments *a) {
  number_int8 r = number_round_int8((float)a->value, a->absmax);
  json_t *json =
      json_pack("{s:s, s:i, s:f, s:f, s:o, s:b, s:f}", "format", "INT8", "q", (int)r.q, "scale", (double)r.scale,
                "value", r.held, "error", real(r.held - a->value), "clamped", r.clamped, "max", (double)a->absmax);
  if (json && a->explain) {
    steps s;
    explain_int8(&s, &r, (float)a->value, a->absmax);
    json_object_set_new(json, "steps", steps_json(&s));
  }
  return json;
}

static otr_status print_json(const arguments *a) {
  json_t *list = json_array();
  for (int i = 0; i < NUMBER_FORMATS; i++) json_array_append_new(list, held_json(a, &number_formats[i]));
  if (a->absmax > 0.0f) json_array_append_new(list, int8_json(a));
  return tool_print_json(json_pack("{s:o, s:o}", "value", real(a->value), "formats", list));
}

/* ---- the part --------------------------------------------------------------------------------------------------- */

static otr_status formats(const arguments *a) {
  if (a->absmax > 0.0f && isnan(a->value)) return otr_fail(OTR_STATUS_INVALID_ARGUMENT, "INT8 has no nan");
  if (a->json) return print_json(a);
  print_text(a);
  return OTR_STATUS_OK;
}

/* argp would take "-1.5" for options: a negative number (or -inf, -nan) is set apart before it looks. */
static int take_negative(int argc, char **argv, arguments *a) {
  for (int i = 1; i < argc && !a->text; i++) {
    char *end;
    if (argv[i][0] != '-' || strcmp(argv[i], "--") == 0 || strcmp(argv[i - 1], "--absmax") == 0) continue;
    double value = strtod(argv[i], &end);
    if (end == argv[i] || *end) continue;
    a->text = argv[i];
    a->value = value;
    memmove(&argv[i], &argv[i + 1], (size_t)(argc - i) * sizeof *argv);
    argc--;
  }
  return argc;
}

int tool_formats(int argc, char **argv) {
  arguments a = {0};
  argc = take_negative(argc, argv, &a);
  tool_parse(&argp, argc, argv, &a);
  return tool_report(formats(&a));
}
