// SPDX-License-Identifier: Apache-2.0
/* Choosing an id from logits: outrider/text.h lists the steps and their order. f32 additions, multiplications and the
 * contract's exp only, so that a seed gives the same ids on every machine. */
#include "sampler.h"

#include <math.h>
#include <string.h>

#include "numerics.h"
#include "support.h"

#define DEFAULT_LAST_N 64
#define MOST_LAST_N (1 << 20)
#define DIGIT_BITS 11 /* of a radix sort's pass; three of them hold a key */
#define DIGITS (1 << DIGIT_BITS)

typedef struct choice {
  uint32_t key; /* ascending keys are descending logits */
  int32_t id;
} choice;

struct otr_sampler {
  otr_sampler_params params;
  int32_t vocab;
  otr_logit_bias *bias; /* [params.n_bias] */
  float *logits;        /* [vocab] the copy that the steps change */
  choice *choices;      /* [2 * vocab] sorted, and room to sort in */
  float *p;             /* [vocab] of the sorted choices */
  int32_t *window;      /* [repeat_last_n] the last accepted ids, a ring */
  uint32_t *stamps;     /* [vocab] the sample in which an id was penalized last */
  uint32_t stamp;
  int32_t n_window, next; /* ids in the window; where the next one goes */
  uint64_t state[4];      /* xoshiro256++ */
  uint32_t counts[DIGITS];
  bool in_callback;
};

/* ---- generator --------------------------------------------------------------------------------------------------- */

static uint64_t splitmix64(uint64_t *x) {
  *x += UINT64_C(0x9e3779b97f4a7c15);
  uint64_t z = *x;
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int k) {
  return (x << k) | (x >> (64 - k));
}

static uint64_t xoshiro256pp(uint64_t s[4]) {
  uint64_t result = rotate(s[0] + s[3], 23) + s[0], t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotate(s[3], 45);
  return result;
}

static float draw(uint64_t s[4]) {
  return (float)(xoshiro256pp(s) >> 40) * 0x1p-24f;
}

/* ---- creation ---------------------------------------------------------------------------------------------------- */

static otr_status refuse(const char *what, double value) {
  return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "%s cannot be %g", what, value);
}

/* Comparisons are written so that a NaN fails them. */
static otr_status check_params(const otr_sampler_params *p, int32_t vocab) {
  if (vocab < 1) return refuse("vocab", vocab);
  if (!(p->temperature == 0.0f || (p->temperature >= 0x1p-20f && p->temperature <= 0x1p20f)))
    return refuse("temperature", (double)p->temperature);
  if (p->top_k < 0) return refuse("top_k", p->top_k);
  if (!(p->top_p >= 0.0f && p->top_p <= 1.0f)) return refuse("top_p", (double)p->top_p);
  if (!(p->min_p >= 0.0f && p->min_p <= 1.0f)) return refuse("min_p", (double)p->min_p);
  if (!(p->repeat_penalty >= 0.0f && p->repeat_penalty <= 0x1p20f))
    return refuse("repeat_penalty", (double)p->repeat_penalty);
  if (p->repeat_last_n < 0 || p->repeat_last_n > MOST_LAST_N) return refuse("repeat_last_n", p->repeat_last_n);
  if (p->n_bias < 0 || (p->bias == NULL && p->n_bias > 0)) return refuse("n_bias", p->n_bias);
  for (int32_t i = 0; i < p->n_bias; ++i) {
    if (p->bias[i].id < 0 || p->bias[i].id >= vocab) return refuse("the id of a bias", p->bias[i].id);
    if (!(p->bias[i].bias < INFINITY)) return refuse("a bias", (double)p->bias[i].bias);
  }
  return otr_text_check_allocator(&p->allocator);
}

static bool take_buffers(otr_sampler *s) {
  const otr_allocator *allocator = &s->params.allocator;
  size_t vocab = (size_t)s->vocab, n_bias = (size_t)s->params.n_bias;
  s->bias = otr_text_take(allocator, n_bias, sizeof *s->bias);
  s->logits = otr_text_take(allocator, vocab, sizeof *s->logits);
  s->choices = otr_text_take(allocator, 2 * vocab, sizeof *s->choices);
  s->p = otr_text_take(allocator, vocab, sizeof *s->p);
  s->window = otr_text_take(allocator, (size_t)s->params.repeat_last_n, sizeof *s->window);
  s->stamps = otr_text_take(allocator, vocab, sizeof *s->stamps);
  return s->bias != NULL && s->logits != NULL && s->choices != NULL && s->p != NULL && s->window != NULL &&
         s->stamps != NULL;
}

otr_status otr_sampler_create(int32_t vocab, const otr_sampler_params *params, otr_sampler **out) {
  if (out == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "out is NULL");
  *out = NULL;
  otr_sampler_params p;
  OTR_TEXT_TRY(otr_text_params(&p, sizeof p, params));
  OTR_TEXT_TRY(check_params(&p, vocab));
  otr_sampler *s = otr_text_take(&p.allocator, 1, sizeof *s);
  if (s == NULL) return OTR_STATUS_NO_MEMORY;
  s->params = p;
  s->vocab = vocab;
  if (p.top_k == 0 || p.top_k > vocab) s->params.top_k = vocab;
  if (p.top_p == 0.0f) s->params.top_p = 1.0f;
  if (p.repeat_penalty == 0.0f) s->params.repeat_penalty = 1.0f;
  if (p.repeat_last_n == 0) s->params.repeat_last_n = DEFAULT_LAST_N;
  if (!take_buffers(s)) {
    otr_sampler_destroy(s);
    return OTR_STATUS_NO_MEMORY;
  }
  if (p.n_bias > 0) memcpy(s->bias, p.bias, (size_t)p.n_bias * sizeof *s->bias);
  s->params.bias = s->bias;
  otr_sampler_reset(s);
  *out = s;
  return OTR_STATUS_OK;
}

void otr_sampler_destroy(otr_sampler *sampler) {
  if (sampler == NULL) return;
  otr_allocator allocator = sampler->params.allocator;
  size_t vocab = (size_t)sampler->vocab;
  otr_text_give(&allocator, sampler->bias, (size_t)sampler->params.n_bias, sizeof *sampler->bias);
  otr_text_give(&allocator, sampler->logits, vocab, sizeof *sampler->logits);
  otr_text_give(&allocator, sampler->choices, 2 * vocab, sizeof *sampler->choices);
  otr_text_give(&allocator, sampler->p, vocab, sizeof *sampler->p);
  otr_text_give(&allocator, sampler->window, (size_t)sampler->params.repeat_last_n, sizeof *sampler->window);
  otr_text_give(&allocator, sampler->stamps, vocab, sizeof *sampler->stamps);
  otr_text_give(&allocator, sampler, 1, sizeof *sampler);
}

int32_t otr_sampler_vocab(const otr_sampler *sampler) {
  return sampler->vocab;
}

void otr_sampler_reset(otr_sampler *sampler) {
  if (sampler == NULL) return;
  uint64_t seed = sampler->params.seed;
  for (int i = 0; i < 4; ++i) sampler->state[i] = splitmix64(&seed);
  sampler->n_window = 0;
  sampler->next = 0;
}

otr_status otr_sampler_accept(otr_sampler *sampler, int32_t id) {
  if (sampler == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "sampler is NULL");
  if (id < 0 || id >= sampler->vocab) return refuse("an accepted id", id);
  int32_t last_n = sampler->params.repeat_last_n;
  sampler->window[sampler->next] = id;
  sampler->next = (sampler->next + 1) % last_n;
  if (sampler->n_window < last_n) ++sampler->n_window;
  return OTR_STATUS_OK;
}

/* ---- sampling ---------------------------------------------------------------------------------------------------- */

/* Step 3. An id that is in the window several times is penalized once. */
static void penalize(otr_sampler *s) {
  float penalty = s->params.repeat_penalty, inverse = otr_recip(penalty);
  if (penalty == 1.0f) return;
  ++s->stamp;
  for (int32_t i = 0; i < s->n_window; ++i) {
    int32_t id = s->window[i];
    if (s->stamps[id] == s->stamp) continue;
    s->stamps[id] = s->stamp;
    s->logits[id] *= s->logits[id] > 0.0f ? inverse : penalty;
  }
}

/* The highest logit, the lowest id on a tie; −1 when a logit is NaN or +Inf or none is above −Inf. */
static int32_t highest(const float *logits, int32_t n) {
  int32_t best = 0;
  for (int32_t i = 0; i < n; ++i) {
    if (!(logits[i] < INFINITY)) return -1;
    if (logits[i] > logits[best]) best = i;
  }
  return logits[best] > -INFINITY ? best : -1;
}

/* The choices that can matter, by ascending id: a p of 0 adds nothing to a sum and is never drawn, and of the others
 * those whose leading key bits are among the first top_k's. */
static int32_t collect(otr_sampler *s, float top, float inverse) {
  int32_t n = 0, kept = 0;
  memset(s->counts, 0, sizeof s->counts);
  for (int32_t id = 0; id < s->vocab; ++id) {
    if (otr_exp((s->logits[id] - top) * inverse) == 0.0f) continue;
    s->choices[n] = (choice){otr_descending_key(s->logits[id]), id};
    ++s->counts[s->choices[n++].key >> (32 - DIGIT_BITS)];
  }
  uint32_t last = 0;
  for (uint32_t sum = s->counts[0]; sum < (uint32_t)s->params.top_k && last < DIGITS - 1;) sum += s->counts[++last];
  for (int32_t i = 0; i < n; ++i)
    if (s->choices[i].key >> (32 - DIGIT_BITS) <= last) s->choices[kept++] = s->choices[i];
  return kept;
}

/* One stable pass of a radix sort over the bits from `shift` on. */
static void sort_pass(uint32_t *counts, choice *to, const choice *from, int32_t n, int shift) {
  memset(counts, 0, DIGITS * sizeof *counts);
  for (int32_t i = 0; i < n; ++i) ++counts[(from[i].key >> shift) & (DIGITS - 1)];
  for (uint32_t i = 0, sum = 0, count; i < DIGITS; ++i, sum += count) {
    count = counts[i];
    counts[i] = sum;
  }
  for (int32_t i = 0; i < n; ++i) to[counts[(from[i].key >> shift) & (DIGITS - 1)]++] = from[i];
}

/* Steps 5 and 6: the sorted choices and their number. */
static const choice *sort_choices(otr_sampler *s, float top, float inverse, int32_t *n) {
  choice *a = s->choices, *b = s->choices + s->vocab;
  *n = collect(s, top, inverse);
  sort_pass(s->counts, b, a, *n, 0);
  sort_pass(s->counts, a, b, *n, DIGIT_BITS);
  sort_pass(s->counts, b, a, *n, 2 * DIGIT_BITS);
  if (*n > s->params.top_k) *n = s->params.top_k;
  return b;
}

/* Steps 5 to 9. */
static int32_t draw_choice(otr_sampler *s, float top) {
  int32_t n, i;
  float inverse = otr_recip(s->params.temperature), sum = 0.0f, rest = 0.0f, running = 0.0f;
  const choice *sorted = sort_choices(s, top, inverse, &n);
  for (i = 0; i < n; ++i) {
    s->p[i] = otr_exp((s->logits[sorted[i].id] - top) * inverse);
    sum += s->p[i];
  }
  float enough = s->params.top_p * sum;
  for (i = 0; i < n; ++i) {
    running += s->p[i];
    if (running >= enough) break;
  }
  if (i < n) n = i + 1;
  for (i = 0; i < n && s->p[i] >= s->params.min_p; ++i) rest += s->p[i];
  n = i;
  float target = draw(s->state) * rest;
  running = 0.0f;
  for (i = 0; i < n - 1; ++i) {
    running += s->p[i];
    if (running > target) break;
  }
  return sorted[i].id;
}

otr_status otr_sampler_sample(otr_sampler *sampler, const float *logits, int32_t vocab, int32_t *id) {
  if (id == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "id is NULL");
  *id = -1;
  if (sampler == NULL || logits == NULL) return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "NULL");
  if (vocab != sampler->vocab)
    return otr_text_fail(OTR_STATUS_INVALID_ARGUMENT, "%d logits, the sampler is for %d", vocab, sampler->vocab);
  if (sampler->in_callback) return otr_text_fail(OTR_STATUS_BUSY, "called from its own logits_fn");
  memcpy(sampler->logits, logits, (size_t)vocab * sizeof *logits);
  if (sampler->params.logits_fn != NULL) {
    sampler->in_callback = true;
    sampler->params.logits_fn(sampler->params.logits_user, sampler->logits, vocab);
    sampler->in_callback = false;
  }
  for (int32_t i = 0; i < sampler->params.n_bias; ++i) sampler->logits[sampler->bias[i].id] += sampler->bias[i].bias;
  penalize(sampler);
  int32_t best = highest(sampler->logits, vocab);
  if (best < 0) return otr_text_fail(OTR_STATUS_NONFINITE, "a logit is NaN or infinite, or every id is forbidden");
  *id = sampler->params.temperature == 0.0f ? best : draw_choice(sampler, sampler->logits[best]);
  return OTR_STATUS_OK;
}
