// SPDX-License-Identifier: Apache-2.0
/* Fibers: a stack each, switched by a few instructions, told to the address sanitizer where it is compiled in. */
#ifndef EMULATION_FIBER_H
#define EMULATION_FIBER_H

#include <stddef.h>

struct fiber {
  void *context; /* where it goes on: a stack pointer, or an ucontext_t */
  void *stack;   /* lowest usable address */
  size_t stack_bytes;
  void *fake_stack;
};

/** Gives `f` a stack with a guard page, once. @return false: no memory */
bool fiber_create(fiber *f);
/** Makes `f` stand for the calling host thread and its stack. */
bool fiber_adopt(fiber *f);
/** Makes `f` begin in `entry`, which never returns, at the next switch to it. */
void fiber_begin(fiber *f, void (*entry)());
/** Leaves `from`, to go on there when someone switches to it. */
void fiber_switch(fiber *from, fiber *to);
/** What a fiber does first in `entry`. */
void fiber_begun();

#endif
