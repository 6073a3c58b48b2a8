// SPDX-License-Identifier: Apache-2.0
#include "pages.h"

#include <string.h>

#include "status.h"

/** Pages made together: one session's reservation, in one buffer. */
typedef struct slab {
  otr_buffer *buffer; /* NULL: an empty entry */
  int32_t first, n;   /* its pages' numbers */
} slab;

typedef struct page {
  otr_page ref;
  int32_t references;
  int32_t next_free; /* while references is 0 */
  bool exists;
} page;

struct otr_page_pool {
  pthread_mutex_t lock;
  page *pages; /* [capacity]; numbers of released slabs are used again */
  int32_t capacity;
  int32_t free_head;
  int32_t n_exist, n_reserved;
  slab *slabs; /* [n_slabs] */
  int32_t n_slabs;
};

otr_kv_shape otr_kv_shape_of(const otr_config *c) {
  return (otr_kv_shape){c->n_layers, c->n_kv_heads, c->head_dim};
}

otr_status otr_pages_create(otr_model *m, otr_page_pool **out) {
  *out = otr_memory_take_array(&m->runtime->memory, 1, sizeof **out);
  if (!*out) return OTR_STATUS_NO_MEMORY;
  pthread_mutex_init(&(*out)->lock, NULL);
  (*out)->free_head = OTR_PAGE_NONE;
  return OTR_STATUS_OK;
}

void otr_pages_destroy(otr_model *m, otr_page_pool *p) {
  if (!p) return;
  otr_memory *memory = &m->runtime->memory;
  for (int32_t i = 0; i < p->n_slabs; i++)
    if (p->slabs[i].buffer) m->runtime->device->ops->buffer_destroy(m->runtime->device, p->slabs[i].buffer);
  if (p->slabs) otr_memory_give_array(memory, p->slabs, (size_t)p->n_slabs, sizeof *p->slabs);
  if (p->pages) otr_memory_give_array(memory, p->pages, (size_t)p->capacity, sizeof *p->pages);
  pthread_mutex_destroy(&p->lock);
  otr_memory_give_array(memory, p, 1, sizeof *p);
}

/** Makes *array one `grown` long, keeping what is in it. */
static otr_status grow(otr_memory *memory, void **array, int32_t n, int32_t grown, size_t size) {
  void *larger = otr_memory_take_array(memory, (size_t)grown, size);
  if (!larger) return OTR_STATUS_NO_MEMORY;
  if (*array) {
    memcpy(larger, *array, (size_t)n * size);
    otr_memory_give_array(memory, *array, (size_t)n, size);
  }
  *array = larger;
  return OTR_STATUS_OK;
}

/** First of n page numbers in a row that do not exist; grows the table where there are none. */
static otr_status find_numbers(otr_memory *memory, otr_page_pool *p, int32_t n, int32_t *first) {
  int32_t run = 0;
  for (int32_t i = 0; i < p->capacity; i++) {
    run = p->pages[i].exists ? 0 : run + 1;
    if (run == n) {
      *first = i - n + 1;
      return OTR_STATUS_OK;
    }
  }
  *first = p->capacity;
  if (n > INT32_MAX - p->capacity) return otr_fail(OTR_STATUS_NO_MEMORY, "too many KV pages");
  void *pages = p->pages;
  OTR_TRY(grow(memory, &pages, p->capacity, p->capacity + n, sizeof *p->pages));
  p->pages = pages;
  p->capacity += n;
  return OTR_STATUS_OK;
}

static otr_status find_slab(otr_memory *memory, otr_page_pool *p, slab **out) {
  for (int32_t i = 0; i < p->n_slabs; i++)
    if (!p->slabs[i].buffer) {
      *out = &p->slabs[i];
      return OTR_STATUS_OK;
    }
  void *slabs = p->slabs;
  OTR_TRY(grow(memory, &slabs, p->n_slabs, p->n_slabs + 4, sizeof *p->slabs));
  p->slabs = slabs;
  *out = &p->slabs[p->n_slabs];
  p->n_slabs += 4;
  return OTR_STATUS_OK;
}

static void push_free(otr_page_pool *p, int32_t number) {
  p->pages[number].next_free = p->free_head;
  p->free_head = number;
}

static otr_status add_slab(otr_model *m, otr_page_pool *p, int32_t n) {
  otr_device *device = m->runtime->device;
  otr_kv_shape shape = otr_kv_shape_of(&m->config);
  size_t page_bytes = device->ops->kv_page_bytes(&shape), bytes;
  if (page_bytes == 0 || !otr_size_mul(page_bytes, (size_t)n, &bytes))
    return otr_fail(OTR_STATUS_NO_MEMORY, "a KV cache of %d pages is too large for this machine's addresses", n);
  int32_t first;
  slab *s;
  OTR_TRY(find_numbers(&m->runtime->memory, p, n, &first));
  OTR_TRY(find_slab(&m->runtime->memory, p, &s));
  OTR_TRY(device->ops->buffer_create(device, bytes, &s->buffer));
  s->first = first;
  s->n = n;
  for (int32_t i = n - 1; i >= 0; i--) {
    p->pages[first + i] = (page){.ref = {s->buffer, (size_t)i * page_bytes}, .exists = true};
    push_free(p, first + i);
  }
  p->n_exist += n;
  return OTR_STATUS_OK;
}

/** Most pages of a slab. */
static int32_t slab_pages(const otr_model *m) {
  otr_device *device = m->runtime->device;
  otr_kv_shape shape = otr_kv_shape_of(&m->config);
  size_t most = otr_device_placement(device, OTR_WEIGHTS_AUTO).max_buffer;
  size_t page_bytes = device->ops->kv_page_bytes(&shape);
  if (most == 0 || page_bytes == 0 || most / page_bytes > INT32_MAX) return INT32_MAX;
  return most < page_bytes ? 1 : (int32_t)(most / page_bytes);
}

otr_status otr_pages_reserve(otr_model *m, int32_t n) {
  otr_page_pool *p = m->pool;
  int32_t most = slab_pages(m);
  otr_status status = OTR_STATUS_OK;
  pthread_mutex_lock(&p->lock);
  for (int32_t missing; (missing = n - (p->n_exist - p->n_reserved)) > 0 && status == OTR_STATUS_OK;)
    status = add_slab(m, p, missing < most ? missing : most);
  if (status == OTR_STATUS_OK) p->n_reserved += n;
  pthread_mutex_unlock(&p->lock);
  if (status != OTR_STATUS_OK) otr_pages_unreserve(m, 0); /* the slabs that were made are of no use */
  return status;
}

static void unlink_slab(otr_page_pool *p, const slab *s) {
  int32_t *link = &p->free_head;
  while (*link != OTR_PAGE_NONE) {
    if (*link >= s->first && *link < s->first + s->n)
      *link = p->pages[*link].next_free;
    else
      link = &p->pages[*link].next_free;
  }
  for (int32_t i = s->first; i < s->first + s->n; i++) p->pages[i] = (page){0};
}

void otr_pages_unreserve(otr_model *m, int32_t n) {
  otr_page_pool *p = m->pool;
  pthread_mutex_lock(&p->lock);
  p->n_reserved -= n;
  for (int32_t i = 0; i < p->n_slabs; i++) {
    slab *s = &p->slabs[i];
    bool in_use = !s->buffer || p->n_exist - s->n < p->n_reserved;
    for (int32_t j = s->first; !in_use && j < s->first + s->n; j++) in_use = p->pages[j].references > 0;
    if (in_use) continue;
    unlink_slab(p, s);
    p->n_exist -= s->n;
    m->runtime->device->ops->buffer_destroy(m->runtime->device, s->buffer);
    *s = (slab){0};
  }
  pthread_mutex_unlock(&p->lock);
}

int32_t otr_pages_take(otr_page_pool *p) {
  pthread_mutex_lock(&p->lock);
  int32_t number = p->free_head;
  if (number != OTR_PAGE_NONE) {
    p->free_head = p->pages[number].next_free;
    p->pages[number].references = 1;
  }
  pthread_mutex_unlock(&p->lock);
  return number;
}

void otr_pages_share(otr_page_pool *p, int32_t number) {
  pthread_mutex_lock(&p->lock);
  p->pages[number].references++;
  pthread_mutex_unlock(&p->lock);
}

void otr_pages_give(otr_page_pool *p, int32_t number) {
  pthread_mutex_lock(&p->lock);
  if (--p->pages[number].references == 0) push_free(p, number);
  pthread_mutex_unlock(&p->lock);
}

bool otr_pages_is_shared(otr_page_pool *p, int32_t number) {
  pthread_mutex_lock(&p->lock);
  bool shared = p->pages[number].references > 1;
  pthread_mutex_unlock(&p->lock);
  return shared;
}

otr_page otr_pages_ref(otr_page_pool *p, int32_t number) {
  pthread_mutex_lock(&p->lock);
  otr_page ref = p->pages[number].ref;
  pthread_mutex_unlock(&p->lock);
  return ref;
}
