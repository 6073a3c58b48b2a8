// SPDX-License-Identifier: Apache-2.0
#ifndef OTR_SESSION_H
#define OTR_SESSION_H

#include "forward.h"
#include "pages.h"

#define OTR_MAX_PAGES (OTR_MAX_POSITION / OTR_CHUNK) /* entries of a page table */
#define OTR_MAX_SEQUENCES 64                         /* sessions of one pass */
#define OTR_MAX_LOGITS 32                            /* rows of logits made at a time */

struct otr_session {
  otr_model *model;
  otr_forward forward;
  int32_t n_pages; /* reserved */
  int32_t n_used;  /* referenced */
  int32_t n_batch;
  int32_t position;
  bool long_rope;                     /* its context is longer than config.rope_original */
  int32_t table_end;                  /* entries from here on hold no page */
  otr_page table[OTR_MAX_PAGES];      /* buffer NULL: none, or dropped */
  int32_t page[OTR_MAX_PAGES];        /* the page's number, or OTR_PAGE_NONE */
  int32_t dropped_begin, dropped_end; /* all pages that slides dropped lie in [begin, end) */

  int32_t *tokens; /* [tokens_capacity] ids of the first tokens_known positions, -1 for given rows */
  int32_t tokens_capacity;
  int32_t tokens_known; /* all of them when it equals position; a slide ends the record */

  /* The step block. */
  int32_t *step_token;        /* [n_batch] */
  otr_row *step_row;          /* [n_batch] */
  float *rope_cos, *rope_sin; /* [n_batch, n_rot / 2] */
  const otr_page *step_table[OTR_MAX_SEQUENCES];
  const atomic_int *step_cancel[OTR_MAX_SEQUENCES];
  int32_t logits_row[OTR_MAX_LOGITS];

  float *logits; /* [vocab] of the last row */
  bool has_logits;
  int32_t hidden_rows;
  float *hidden; /* [n_layers + 1, n_batch, dim] packed for the caller, or NULL */

  atomic_int cancel;
  otr_stats stats;
};

/** Makes sure that the pages of rows [position, position + n) are there and not shared with another session.
 *  Only with the runtime's turn held: between finding a page shared and taking its replacement no other session may
 * take the last free one. */
otr_status otr_session_prepare_rows(otr_session *session, int32_t n);

/** Drops the pages that lie wholly at `position` or beyond, and forgets the rows there. */
void otr_session_cut(otr_session *session, int32_t position);

#endif
