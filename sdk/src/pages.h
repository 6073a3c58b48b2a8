// SPDX-License-Identifier: Apache-2.0
/* A model's KV pages: counted references, so that sessions share prefixes. A session reserves its pages when it is
 * created; no session ever references more pages than it reserved, so a page that is asked for is always there and
 * nothing is allocated afterwards. Threads: any (a lock of its own). */
#ifndef OTR_PAGES_H
#define OTR_PAGES_H

#include "model.h"

#define OTR_PAGE_NONE (-1)

otr_status otr_pages_create(otr_model *model, otr_page_pool **out);
void otr_pages_destroy(otr_model *model, otr_page_pool *pool);
/** Adds room for n pages more. */
otr_status otr_pages_reserve(otr_model *model, int32_t n);
/** Takes back a reservation: memory that no session needs any more is released. */
void otr_pages_unreserve(otr_model *model, int32_t n);
/** A page with one reference; OTR_PAGE_NONE never happens within the reservations. */
int32_t otr_pages_take(otr_page_pool *pool);
void otr_pages_share(otr_page_pool *pool, int32_t page);
void otr_pages_give(otr_page_pool *pool, int32_t page);
bool otr_pages_is_shared(otr_page_pool *pool, int32_t page);
otr_page otr_pages_ref(otr_page_pool *pool, int32_t page);
otr_kv_shape otr_kv_shape_of(const otr_config *config);

#endif
