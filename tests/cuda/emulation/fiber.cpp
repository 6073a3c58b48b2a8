// SPDX-License-Identifier: Apache-2.0
#include "fiber.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../with_asan.h"

#if WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
enum : size_t { STACK_BYTES = 256 << 10 };
#else
enum : size_t { STACK_BYTES = 64 << 10 };
#endif

/* emulation_swap(save, to): pushes what a callee keeps, stores the stack pointer in *save, goes on at `to`. */
extern "C" void emulation_swap(void **save, void *to);

#if defined(__x86_64__)
enum { KEPT_WORDS = 6 };
__asm__(
    ".text\n.globl emulation_swap\n.hidden emulation_swap\n.type emulation_swap, @function\nemulation_swap:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\nmov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size emulation_swap, . - emulation_swap\n");
#elif defined(__aarch64__)
enum { KEPT_WORDS = 20 };
__asm__(
    ".text\n.globl emulation_swap\n.hidden emulation_swap\n.type emulation_swap, %function\nemulation_swap:\n"
    "sub sp, sp, #160\nstp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
    "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\nstp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\n"
    "stp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\nmov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
    "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\n"
    "ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\nldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\n"
    "ldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\nadd sp, sp, #160\nret\n"
    ".size emulation_swap, . - emulation_swap\n");
#else
#include <ucontext.h>
#define WITH_UCONTEXT 1
#endif

bool fiber_create(fiber *f) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  memset(f, 0, sizeof *f);
  void *memory = mmap(nullptr, page + STACK_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return false;
  if (mprotect(memory, page, PROT_NONE)) return false;
  f->stack = static_cast<char *>(memory) + page;
  f->stack_bytes = STACK_BYTES;
#if WITH_UCONTEXT
  f->context = new ucontext_t;
#endif
  return true;
}

bool fiber_adopt(fiber *f) {
  memset(f, 0, sizeof *f);
#if WITH_UCONTEXT
  static ucontext_t host;
  f->context = &host;
#endif
#if WITH_ASAN
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes)) return false;
  bool known = !pthread_attr_getstack(&attributes, &f->stack, &f->stack_bytes);
  pthread_attr_destroy(&attributes);
  return known;
#else
  return true;
#endif
}

void fiber_begin(fiber *f, void (*entry)()) {
#if WITH_ASAN
  ASAN_UNPOISON_MEMORY_REGION(f->stack, f->stack_bytes); /* of an earlier life that was not ended */
  f->fake_stack = nullptr;
#endif
#if WITH_UCONTEXT
  ucontext_t *context = static_cast<ucontext_t *>(f->context);
  getcontext(context);
  context->uc_stack.ss_sp = f->stack;
  context->uc_stack.ss_size = f->stack_bytes;
  makecontext(context, entry, 0);
#else
  void **top = reinterpret_cast<void **>(static_cast<char *>(f->stack) + f->stack_bytes);
#if defined(__x86_64__)
  top -= 2; /* `ret` takes the entry, and leaves the stack as a call does */
  top[0] = reinterpret_cast<void *>(entry);
  top[1] = nullptr;
  top -= KEPT_WORDS;
  memset(top, 0, KEPT_WORDS * sizeof *top);
#else
  top -= KEPT_WORDS;
  memset(top, 0, KEPT_WORDS * sizeof *top);
  top[11] = reinterpret_cast<void *>(entry); /* x30 */
#endif
  f->context = top;
#endif
}

#if WITH_ASAN
static fiber *arriving;
#endif

void fiber_begun() {
#if WITH_ASAN
  const void *bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(arriving->fake_stack, &bottom, &bytes);
#endif
}

void fiber_switch(fiber *from, fiber *to) {
#if WITH_ASAN
  arriving = to;
  __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#if WITH_UCONTEXT
  swapcontext(static_cast<ucontext_t *>(from->context), static_cast<ucontext_t *>(to->context));
#else
  emulation_swap(&from->context, to->context);
#endif
  fiber_begun();
}
