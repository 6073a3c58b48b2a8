// SPDX-License-Identifier: Apache-2.0
/* Memory comes in blocks, one VkDeviceMemory with one VkBuffer over all of it; buffers are ranges of blocks, so that
 * many small ones neither exhaust the number of allocations nor need a binding each. */
#include <string.h>

#include "status.h"
#include "vulkan_device.h"

#define SHARED_BLOCK_BYTES ((size_t)16 << 20) /* of a block for small buffers */
#define LARGE_BYTES ((size_t)4 << 20)         /* from here on a buffer has a block of its own */

#define ANY_BUFFER_USAGE                                                                                      \
  (VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT | \
   VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT)

/* ---- memory types ------------------------------------------------------------------------------------------------ */

/** The first type of `allowed` with all of `wanted`; -1: there is none. */
static int find_type(const vulkan_device *d, uint32_t allowed, VkMemoryPropertyFlags wanted) {
  for (uint32_t i = 0; i < d->memory.memoryTypeCount; i++)
    if ((allowed >> i & 1) && (d->memory.memoryTypes[i].propertyFlags & wanted) == wanted) return (int)i;
  return -1;
}

/** The best type for a use. Mapped memory is always coherent: Vulkan promises such a type. */
static int choose_type(const vulkan_device *d, uint32_t allowed, vulkan_use use) {
  const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, cached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
                              mapped = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  const VkMemoryPropertyFlags order[][4] = {
      [VULKAN_MEMORY_DEVICE] = {local, 0, 0, 0},
      [VULKAN_MEMORY_CONTROL] = {mapped | local, mapped, mapped, mapped},
      [VULKAN_MEMORY_READBACK] = {mapped | cached, mapped, mapped, mapped},
  };
  const VkMemoryPropertyFlags unified[4] = {mapped | local | cached, mapped | local, mapped | cached, mapped};
  const VkMemoryPropertyFlags *wanted = use == VULKAN_MEMORY_DEVICE && d->unified ? unified : order[use];
  for (int i = 0; i < 4; i++) {
    int type = find_type(d, allowed, wanted[i]);
    if (type >= 0) return type;
  }
  return -1;
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

static void free_block(vulkan_device *d, vulkan_block *b) {
  if (b->buffer) d->vk.DestroyBuffer(d->handle, b->buffer, NULL);
  if (b->memory) d->vk.FreeMemory(d->handle, b->memory, NULL);
  otr_memory_give_array(d->base.memory, b, 1, sizeof *b);
}

static otr_status create_buffer(vulkan_device *d, vulkan_block *b, const void *next, VkMemoryRequirements *needs) {
  VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                             .pNext = next,
                             .size = b->bytes,
                             .usage = ANY_BUFFER_USAGE,
                             .sharingMode = VK_SHARING_MODE_EXCLUSIVE};
  VULKAN_TRY(d->vk.CreateBuffer(d->handle, &info, NULL, &b->buffer), "vkCreateBuffer");
  d->vk.GetBufferMemoryRequirements(d->handle, b->buffer, needs);
  return OTR_STATUS_OK;
}

static otr_status allocate(vulkan_device *d, vulkan_block *b) {
  VkMemoryRequirements needs;
  OTR_TRY(create_buffer(d, b, NULL, &needs));
  int type = choose_type(d, needs.memoryTypeBits, b->use);
  if (type < 0) return otr_fail(OTR_STATUS_UNSUPPORTED, "the device has no memory type for buffers");
  VkMemoryAllocateInfo info = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = needs.size, .memoryTypeIndex = (uint32_t)type};
  VkResult result = d->vk.AllocateMemory(d->handle, &info, NULL, &b->memory);
  if (result != VK_SUCCESS) {
    otr_status status = vulkan_fail(result, "vkAllocateMemory");
    return otr_fail_in(status, "%zu bytes of device memory", b->bytes);
  }
  VULKAN_TRY(d->vk.BindBufferMemory(d->handle, b->buffer, b->memory, 0), "vkBindBufferMemory");
  void *host;
  if (b->use == VULKAN_MEMORY_DEVICE && !d->unified) return OTR_STATUS_OK;
  VULKAN_TRY(d->vk.MapMemory(d->handle, b->memory, 0, VK_WHOLE_SIZE, 0, &host), "vkMapMemory");
  b->host = host;
  return OTR_STATUS_OK;
}

static otr_status add_block(vulkan_device *d, vulkan_use use, size_t bytes, vulkan_block **out) {
  vulkan_block *b = otr_memory_take_array(d->base.memory, 1, sizeof *b);
  if (!b) return OTR_STATUS_NO_MEMORY;
  b->bytes = bytes;
  b->use = use;
  otr_status status = allocate(d, b);
  if (status != OTR_STATUS_OK) {
    free_block(d, b);
    return status;
  }
  b->serial = ++d->next_serial;
  b->next = d->blocks;
  d->blocks = b;
  *out = b;
  return OTR_STATUS_OK;
}

/** Takes an empty block off the list; recordings of a pass in progress may still name it. */
static void drop_block(vulkan_device *d, vulkan_block *b) {
  vulkan_block **link = &d->blocks;
  while (*link != b) link = &(*link)->next;
  *link = b->next;
  d->block_epoch++;
  if (!d->in_pass) {
    free_block(d, b);
    return;
  }
  b->next = d->retired;
  d->retired = b;
}

void vulkan_memory_begin_pass(vulkan_device *d) {
  pthread_mutex_lock(&d->memory_lock);
  d->in_pass = true;
  pthread_mutex_unlock(&d->memory_lock);
}

void vulkan_memory_end_pass(vulkan_device *d) {
  pthread_mutex_lock(&d->memory_lock);
  d->in_pass = false;
  while (d->retired) {
    vulkan_block *b = d->retired;
    d->retired = b->next;
    free_block(d, b);
  }
  pthread_mutex_unlock(&d->memory_lock);
}

/* ---- buffers ----------------------------------------------------------------------------------------------------- */

/** Where `bytes` fit in a block, after which buffer; false: nowhere. */
static bool find_gap(vulkan_block *b, size_t bytes, otr_buffer ***link, size_t *offset) {
  size_t end = 0;
  for (*link = &b->first;; *link = &(**link)->next) {
    const otr_buffer *next = **link;
    size_t limit = next ? next->offset : b->bytes;
    if (end <= limit && limit - end >= bytes) {
      *offset = end;
      return true;
    }
    if (!next) return false;
    end = (next->offset + next->bytes + VULKAN_ALIGN - 1) / VULKAN_ALIGN * VULKAN_ALIGN;
  }
}

static otr_status place(vulkan_device *d, vulkan_use use, size_t bytes, otr_buffer *buffer) {
  vulkan_block *block = NULL;
  otr_buffer **link = NULL;
  size_t offset = 0;
  if (bytes < LARGE_BYTES)
    for (block = d->blocks; block; block = block->next)
      if (!block->imported && block->use == use && find_gap(block, bytes, &link, &offset)) break;
  if (!block) {
    OTR_TRY(add_block(d, use, bytes < LARGE_BYTES ? SHARED_BLOCK_BYTES : bytes, &block));
    find_gap(block, bytes, &link, &offset);
  }
  *buffer = (otr_buffer){.next = *link, .block = block, .offset = offset, .bytes = bytes};
  *link = buffer;
  return OTR_STATUS_OK;
}

otr_status vulkan_buffer_take(vulkan_device *d, vulkan_use use, size_t bytes, otr_buffer **out) {
  size_t rounded;
  *out = NULL;
  OTR_TRY(vulkan_check_lost(d));
  /* A descriptor's end is rounded up, and its beginning down, inside the block. */
  if (!otr_size_round(bytes > 0 ? bytes : 1, VULKAN_ALIGN, &rounded))
    return otr_fail(OTR_STATUS_NO_MEMORY, "%zu bytes are too many for a buffer", bytes);
  otr_buffer *buffer = otr_memory_take_array(d->base.memory, 1, sizeof *buffer);
  if (!buffer) return OTR_STATUS_NO_MEMORY;
  pthread_mutex_lock(&d->memory_lock);
  otr_status status = place(d, use, rounded, buffer);
  pthread_mutex_unlock(&d->memory_lock);
  if (status != OTR_STATUS_OK) {
    otr_memory_give_array(d->base.memory, buffer, 1, sizeof *buffer);
    return status;
  }
  status = use == VULKAN_MEMORY_READBACK ? OTR_STATUS_OK : vulkan_buffer_zero(d, buffer);
  if (status == OTR_STATUS_OK)
    *out = buffer;
  else
    vulkan_buffer_give(d, buffer);
  return status;
}

void vulkan_buffer_give(vulkan_device *d, otr_buffer *buffer) {
  if (!buffer) return;
  pthread_mutex_lock(&d->memory_lock);
  if (d->mirror.buffer == buffer) d->mirror.buffer = NULL;
  vulkan_block *block = buffer->block;
  otr_buffer **link = &block->first;
  while (*link != buffer) link = &(*link)->next;
  *link = buffer->next;
  if (!block->first) drop_block(d, block);
  pthread_mutex_unlock(&d->memory_lock);
  otr_memory_give_array(d->base.memory, buffer, 1, sizeof *buffer);
}

void vulkan_memory_close(vulkan_device *d) {
  vulkan_memory_end_pass(d);
  while (d->blocks) {
    vulkan_block *b = d->blocks;
    d->blocks = b->next;
    while (b->first) {
      otr_buffer *buffer = b->first;
      b->first = buffer->next;
      otr_memory_give_array(d->base.memory, buffer, 1, sizeof *buffer);
    }
    free_block(d, b);
  }
}

/* ---- memory of the host ------------------------------------------------------------------------------------------ */

/** The memory types that a driver takes host memory as, or an error. */
static otr_status import_types(vulkan_device *d, void *host, uint32_t *types) {
  VkMemoryHostPointerPropertiesEXT p = {.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
  VULKAN_TRY(d->vk.GetMemoryHostPointerPropertiesEXT(d->handle, VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
                                                     host, &p),
             "vkGetMemoryHostPointerPropertiesEXT");
  *types = p.memoryTypeBits;
  return OTR_STATUS_OK;
}

static otr_status import_memory(vulkan_device *d, vulkan_block *b) {
  const VkExternalMemoryHandleTypeFlagBits host_memory = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
  VkExternalMemoryBufferCreateInfo external = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
                                               .handleTypes = host_memory};
  VkMemoryRequirements needs = {0};
  uint32_t types = 0;
  OTR_TRY(create_buffer(d, b, &external, &needs));
  OTR_TRY(import_types(d, b->host, &types));
  int type = find_type(d, needs.memoryTypeBits & types, 0);
  if (type < 0) return otr_fail(OTR_STATUS_UNSUPPORTED, "no memory type takes host memory");
  VkImportMemoryHostPointerInfoEXT import = {.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
                                             .handleType = host_memory,
                                             .pHostPointer = b->host};
  VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                               .pNext = &import,
                               .allocationSize = b->bytes,
                               .memoryTypeIndex = (uint32_t)type};
  VULKAN_TRY(d->vk.AllocateMemory(d->handle, &info, NULL, &b->memory), "vkAllocateMemory of host memory");
  VULKAN_TRY(d->vk.BindBufferMemory(d->handle, b->buffer, b->memory, 0), "vkBindBufferMemory");
  return OTR_STATUS_OK;
}

otr_status vulkan_buffer_import(vulkan_device *d, const void *host, size_t bytes, otr_buffer **out) {
  uint64_t align = d->traits.import_alignment;
  *out = NULL;
  if (!d->vk.GetMemoryHostPointerPropertiesEXT || align == 0)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "the driver takes no host memory");
  /* Whole pages around it: what is mapped at all is mapped as far as that. */
  uintptr_t begin = (uintptr_t)host / align * align, end = ((uintptr_t)host + bytes + align - 1) / align * align;
  if (bytes == 0 || end < begin || end - begin > d->traits.max_allocation)
    return otr_fail(OTR_STATUS_UNSUPPORTED, "%zu bytes are more than the driver takes at once", bytes);
  vulkan_block *block = otr_memory_take_array(d->base.memory, 1, sizeof *block);
  otr_buffer *buffer = otr_memory_take_array(d->base.memory, 1, sizeof *buffer);
  otr_status status = block && buffer ? OTR_STATUS_OK : OTR_STATUS_NO_MEMORY;
  if (status == OTR_STATUS_OK) {
    block->bytes = end - begin;
    block->host = (uint8_t *)begin;
    block->imported = true;
    status = import_memory(d, block);
  }
  if (status != OTR_STATUS_OK) {
    if (block) free_block(d, block);
    otr_memory_give_array(d->base.memory, buffer, 1, sizeof *buffer);
    /* Drivers differ in what they take (mappings of files, read-only ones): copying is the way that is left. */
    return status == OTR_STATUS_NO_MEMORY && !block ? status : otr_fail_in(OTR_STATUS_UNSUPPORTED, "host memory");
  }
  *buffer = (otr_buffer){.block = block, .offset = (uintptr_t)host - begin, .bytes = bytes};
  pthread_mutex_lock(&d->memory_lock);
  block->first = buffer;
  block->serial = ++d->next_serial;
  block->next = d->blocks;
  d->blocks = block;
  pthread_mutex_unlock(&d->memory_lock);
  *out = buffer;
  return OTR_STATUS_OK;
}
