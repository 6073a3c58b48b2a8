// SPDX-License-Identifier: Apache-2.0
#include "vulkan_prepare.h"

#include <string.h>

#include "float_mode.h"
#include "numerics.h"
#include "shaders/step.glsl"
#include "status.h"

/* ---- the program ------------------------------------------------------------------------------------------------- */

/** What the step block must have room for. */
static void look_through(otr_prepared *p) {
  for (int32_t i = 0; i < p->program.n_ops; i++) {
    const otr_op *op = &p->program.ops[i];
    if (op->code == OTR_OP_EMBED && op->u.embed.width > p->embed_width) p->embed_width = op->u.embed.width;
    if (op->code == OTR_OP_ROPE_KV && op->u.rope_kv.n_rot / 2 > p->half_rot) p->half_rot = op->u.rope_kv.n_rot / 2;
    if (op->code == OTR_OP_ROPE_KV || op->code == OTR_OP_ATTENTION) p->attends = true;
  }
}

/** Whether what the host will read is to be copied to mapped memory, in the same submission. */
static bool wants_mirror(const vulkan_device *d, const otr_program *program, bool fuse) {
  return !d->unified && fuse && program->result.buffer && program->result_row_bytes > 0;
}

static size_t mirror_bytes(const otr_program *program) {
  int32_t rows = otr_rows_of(program->result_rows, program->max_rows, program->max_logits);
  return program->result_row_bytes * (size_t)rows;
}

/** Operations to lower: the program's, then that copy. */
static otr_status take_ops(otr_prepared *p) {
  vulkan_device *d = p->device;
  const otr_program *g = &p->program;
  bool mirrors = wants_mirror(d, g, p->fuse);
  p->n_lowered = g->n_ops + mirrors;
  p->ops = otr_memory_take_array(d->base.memory, (size_t)p->n_lowered, sizeof *p->ops);
  if (!p->ops) return OTR_STATUS_NO_MEMORY;
  memcpy(p->ops, g->ops, (size_t)g->n_ops * sizeof *p->ops);
  if (!mirrors) return OTR_STATUS_OK;
  OTR_TRY(vulkan_buffer_take(d, VULKAN_MEMORY_READBACK, mirror_bytes(g), &p->mirror));
  otr_op *copy = &p->ops[g->n_ops];
  *copy = (otr_op){.code = OTR_OP_COPY, .rows = g->result_rows};
  copy->u.copy =
      (otr_op_copy){.out = {p->mirror, 0}, .x = g->result, .width = (int32_t)(g->result_row_bytes / sizeof(float))};
  return OTR_STATUS_OK;
}

/* ---- the control buffer ------------------------------------------------------------------------------------------ */

static uint32_t words(uint64_t *at, uint64_t n) {
  uint64_t begin = *at;
  *at += n;
  return (uint32_t)begin;
}

/** Lays out step block, found block and the dispatches' group counts. False: larger than a shader can see. */
static bool lay_out(otr_prepared *p, int32_t n_entries) {
  vulkan_places *a = &p->at;
  const otr_program *g = &p->program;
  uint64_t rows = (uint64_t)g->max_rows, at = STEP_HEAD_WORDS;
  uint64_t sequences = p->attends ? (uint64_t)g->max_sequences : 0;
  a->token = words(&at, rows);
  a->row = words(&at, 2 * rows);
  a->row_page = words(&at, p->attends ? 2 * rows : 0);
  a->logits_row = words(&at, (uint64_t)g->max_logits);
  a->n_pages = words(&at, sequences);
  a->page = words(&at, sequences * (uint64_t)g->max_pages * 4);
  a->rope_cos = words(&at, rows * (uint64_t)p->half_rot);
  a->rope_sin = words(&at, rows * (uint64_t)p->half_rot);
  a->embedding = words(&at, rows * (uint64_t)p->embed_width);
  uint64_t bytes = (at * 4 + VULKAN_ALIGN - 1) / VULKAN_ALIGN * VULKAN_ALIGN;
  if (bytes > p->device->caps.max_operand_bytes) return false;
  a->step_bytes = (size_t)bytes;
  a->found = a->step_bytes;
  a->arguments = a->found + VULKAN_ALIGN;
  a->bytes = a->arguments + (size_t)n_entries * sizeof(VkDispatchIndirectCommand);
  return true;
}

/** What never changes in the step block. */
static void write_head(otr_prepared *p) {
  uint32_t *step = (uint32_t *)(void *)vulkan_buffer_host(p->control);
  const vulkan_places *a = &p->at;
  step[STEP_MAX_TABLE] = (uint32_t)p->program.max_pages;
  step[STEP_TOKEN] = a->token;
  step[STEP_ROW] = a->row;
  step[STEP_ROW_PAGE] = a->row_page;
  step[STEP_LOGITS_ROW] = a->logits_row;
  step[STEP_N_PAGES] = a->n_pages;
  step[STEP_PAGE] = a->page;
  step[STEP_ROPE_COS] = a->rope_cos;
  step[STEP_ROPE_SIN] = a->rope_sin;
  step[STEP_EMBEDDING] = a->embedding;
}

/* ---- lowering ---------------------------------------------------------------------------------------------------- */

static otr_status count_entry(void *user, const vulkan_dispatch *dispatch) {
  (void)dispatch;
  ++*(int32_t *)user;
  return OTR_STATUS_OK;
}

/** Lowers all operations; `at` (may be NULL) follows which one is being lowered. */
static otr_status lower_all(const otr_prepared *p, int32_t *at, vulkan_emit emit, void *user) {
  otr_program program = p->program;
  program.ops = p->ops;
  program.n_ops = p->n_lowered;
  vulkan_lowering l = {.caps = &p->device->caps, .program = &program, .scratch = {p->scratch, 0}, .fuse = p->fuse};
  for (int32_t i = 0, n; i < p->n_lowered; i += n) {
    n = 1;
    if (at) *at = i;
    otr_status status = vulkan_lower(&l, i, &n, emit, user);
    if (status != OTR_STATUS_OK) return otr_fail_in(status, "%s", otr_op_name(p->ops[i].code));
  }
  return OTR_STATUS_OK;
}

static VkDescriptorBufferInfo bind_operand(vulkan_entry *e, uint32_t index, const vulkan_operand *o) {
  const otr_buffer *buffer = o->ref.buffer;
  const vulkan_block *block = buffer->block;
  size_t at = buffer->offset + o->ref.offset;
  size_t begin = at / VULKAN_ALIGN * VULKAN_ALIGN, end = at + (size_t)o->bytes;
  /* Lowered for max_rows: a caller that never has so many may have less memory. */
  if (end > buffer->offset + buffer->bytes) end = buffer->offset + buffer->bytes;
  size_t whole = (end + 15) / 16 * 16; /* shaders read words and vectors of them */
  if (whole > block->bytes) whole = block->bytes;
  e->push[index] = (uint32_t)(at - begin);
  e->range[e->n_ranges++] = (vulkan_range){block->serial, at, end, o->writes};
  return (VkDescriptorBufferInfo){block->buffer, begin, whole - begin};
}

static void write_set(otr_prepared *p, vulkan_entry *e, const vulkan_dispatch *dispatch) {
  vulkan_device *d = p->device;
  const otr_buffer *c = p->control;
  VkDescriptorBufferInfo infos[VULKAN_OPERANDS + 2] = {
      {c->block->buffer, c->offset, p->at.step_bytes},
      {c->block->buffer, c->offset + p->at.found, FOUND_WORDS * sizeof(uint32_t)},
  };
  /* The first operand is always there. It stands in for those that are not, which a shader's text names but its
   * constants leave alone: what the text does to them is then no other dispatch's concern. */
  for (uint32_t i = 0; i < VULKAN_OPERANDS; i++) {
    bool is_there = i < dispatch->n_operands && dispatch->operand[i].ref.buffer;
    infos[2 + i] = is_there ? bind_operand(e, i, &dispatch->operand[i]) : infos[2];
  }
  VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                .dstSet = e->set,
                                .descriptorCount = VULKAN_OPERANDS + 2,
                                .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                .pBufferInfo = infos};
  d->vk.UpdateDescriptorSets(d->handle, 1, &write, 0, NULL);
}

static otr_status check_operands(const vulkan_device *d, const vulkan_dispatch *dispatch) {
  for (uint32_t i = 0; i < dispatch->n_operands; i++) {
    const vulkan_operand *o = &dispatch->operand[i];
    if (!o->ref.buffer) continue;
    if (o->bytes > d->caps.max_operand_bytes)
      return otr_fail(OTR_STATUS_UNSUPPORTED, "%llu bytes are more than a shader of this device sees at once",
                      (unsigned long long)o->bytes);
    if (o->ref.offset >= o->ref.buffer->bytes)
      return otr_fail(OTR_STATUS_INTERNAL, "an operand lies beyond its buffer");
  }
  return OTR_STATUS_OK;
}

typedef struct filler {
  otr_prepared *p;
  int32_t op;
} filler;

static otr_status fill_entry(void *user, const vulkan_dispatch *dispatch) {
  filler *f = user;
  otr_prepared *p = f->p;
  if (p->n_entries == p->n_counted) return otr_fail(OTR_STATUS_INTERNAL, "a program was lowered in two ways");
  vulkan_entry *e = &p->entries[p->n_entries];
  OTR_TRY(check_operands(p->device, dispatch));
  OTR_TRY(vulkan_pipeline_get(p->device, dispatch, &e->pipeline));
  memcpy(e->push, dispatch->push, sizeof e->push);
  memcpy(e->groups, dispatch->groups, sizeof e->groups);
  e->phases = dispatch->phases;
  e->kv = dispatch->kv;
  e->rows = p->ops[f->op].rows;
  write_set(p, e, dispatch);
  p->n_entries++;
  return OTR_STATUS_OK;
}

/* ---- Vulkan's objects -------------------------------------------------------------------------------------------- */

static otr_status create_sets(otr_prepared *p) {
  vulkan_device *d = p->device;
  uint32_t n = (uint32_t)p->n_counted;
  VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, n * (VULKAN_OPERANDS + 2) + VULKAN_KV_WINDOWS};
  VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                     .maxSets = n + 1,
                                     .poolSizeCount = 1,
                                     .pPoolSizes = &size};
  VULKAN_TRY(d->vk.CreateDescriptorPool(d->handle, &info, NULL, &p->pool), "vkCreateDescriptorPool");
  VkDescriptorSetAllocateInfo set = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                     .descriptorPool = p->pool,
                                     .descriptorSetCount = 1,
                                     .pSetLayouts = &d->set_layout};
  for (uint32_t i = 0; i < n; i++)
    VULKAN_TRY(d->vk.AllocateDescriptorSets(d->handle, &set, &p->entries[i].set), "vkAllocateDescriptorSets");
  set.pSetLayouts = &d->kv_layout;
  VULKAN_TRY(d->vk.AllocateDescriptorSets(d->handle, &set, &p->kv_set), "vkAllocateDescriptorSets");
  return OTR_STATUS_OK;
}

static otr_status create_commands(otr_prepared *p) {
  vulkan_device *d = p->device;
  VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                  .queueFamilyIndex = d->traits.queue_family};
  VULKAN_TRY(d->vk.CreateCommandPool(d->handle, &pool, NULL, &p->command_pool), "vkCreateCommandPool");
  VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                      .commandPool = p->command_pool,
                                      .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                      .commandBufferCount = 2 + (uint32_t)p->n_counted};
  VULKAN_TRY(d->vk.AllocateCommandBuffers(d->handle, &info, p->commands), "vkAllocateCommandBuffers");
  VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
  VULKAN_TRY(d->vk.CreateFence(d->handle, &fence, NULL, &p->fence), "vkCreateFence");
  return OTR_STATUS_OK;
}

/* ---- prepare ----------------------------------------------------------------------------------------------------- */

static otr_status take_arrays(otr_prepared *p) {
  otr_memory *m = p->device->base.memory;
  size_t n = (size_t)p->n_counted;
  p->entries = otr_memory_take_array(m, n, sizeof *p->entries);
  p->commands = otr_memory_take_array(m, n + 2, sizeof *p->commands);
  p->batch = otr_memory_take_array(m, n + 1, sizeof(VkCommandBuffer));
  return p->entries && p->commands && p->batch ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
}

static otr_status make(otr_prepared *p) {
  vulkan_device *d = p->device;
  look_through(p);
  OTR_TRY(take_ops(p));
  size_t scratch = vulkan_scratch_bytes(&d->caps, &p->program);
  if (scratch > 0) OTR_TRY(vulkan_buffer_take(d, VULKAN_MEMORY_DEVICE, scratch, &p->scratch));
  OTR_TRY(lower_all(p, NULL, count_entry, &p->n_counted));
  OTR_TRY(take_arrays(p));
  if (!lay_out(p, p->n_counted))
    return otr_fail(OTR_STATUS_UNSUPPORTED, "%d rows a pass are more than a shader of this device sees at once",
                    p->program.max_rows);
  if (p->attends && vulkan_kv_page_bytes(&p->program.kv) > d->caps.max_operand_bytes / 2)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "a KV page is larger than what a shader of this device sees at once");
  OTR_TRY(vulkan_buffer_take(d, VULKAN_MEMORY_CONTROL, p->at.bytes, &p->control));
  write_head(p);
  OTR_TRY(create_sets(p));
  OTR_TRY(create_commands(p));
  filler f = {p, 0};
  OTR_TRY(lower_all(p, &f.op, fill_entry, &f));
  vulkan_bind_windows(p);
  return vulkan_record(p);
}

otr_status vulkan_prepare_with(vulkan_device *d, const otr_program *program, bool fuse, otr_prepared **out) {
  *out = NULL;
  otr_prepared *p = otr_memory_take_array(d->base.memory, 1, sizeof *p);
  if (!p) return OTR_STATUS_NO_MEMORY;
  p->device = d;
  p->program = otr_program_filled(program);
  p->fuse = fuse;
  otr_float_mode mode = otr_float_mode_enter(); /* of what a driver computes here */
  otr_status status = make(p);
  otr_float_mode_leave(mode);
  if (status != OTR_STATUS_OK) {
    vulkan_prepared_destroy(&d->base, p);
    return status;
  }
  *out = p;
  return OTR_STATUS_OK;
}

otr_status vulkan_prepare(otr_device *device, const otr_program *program, otr_prepared **out) {
  return vulkan_prepare_with((vulkan_device *)device, program, true, out);
}

void vulkan_prepared_destroy(otr_device *device, otr_prepared *p) {
  if (!p) return;
  vulkan_device *d = p->device;
  otr_memory *m = device->memory;
  size_t n = (size_t)p->n_counted;
  if (p->fence) d->vk.DestroyFence(d->handle, p->fence, NULL);
  if (p->command_pool) d->vk.DestroyCommandPool(d->handle, p->command_pool, NULL);
  if (p->pool) d->vk.DestroyDescriptorPool(d->handle, p->pool, NULL);
  vulkan_buffer_give(d, p->control);
  vulkan_buffer_give(d, p->scratch);
  if (p->mirror) d->mirror.buffer = NULL;
  vulkan_buffer_give(d, p->mirror);
  otr_memory_give_array(m, p->batch, n + 1, sizeof(VkCommandBuffer));
  otr_memory_give_array(m, p->commands, n + 2, sizeof *p->commands);
  otr_memory_give_array(m, p->entries, n, sizeof *p->entries);
  otr_memory_give_array(m, p->ops, (size_t)p->n_lowered, sizeof *p->ops);
  otr_memory_give_array(m, p, 1, sizeof *p);
}

void vulkan_prepared_bytes(const otr_device *device, const otr_program *program, uint64_t *host, uint64_t *bytes) {
  vulkan_device *d = (vulkan_device *)(uintptr_t)device;
  otr_prepared p = {.device = d, .program = otr_program_filled(program), .fuse = true};
  int32_t n = 0;
  look_through(&p);
  p.ops = (otr_op *)(uintptr_t)program->ops; /* only read */
  p.n_lowered = program->n_ops;
  otr_status status = lower_all(&p, NULL, count_entry, &n);
  if (status != OTR_STATUS_OK || !lay_out(&p, n)) n = 0; /* prepare will say why */
  *host = sizeof p + (uint64_t)n * (sizeof(vulkan_entry) + 2 * sizeof(VkCommandBuffer)) +
          (uint64_t)program->n_ops * sizeof(otr_op);
  *bytes = p.at.bytes + vulkan_scratch_bytes(&d->caps, &p.program);
  if (wants_mirror(d, &p.program, true)) *bytes += mirror_bytes(&p.program);
}
