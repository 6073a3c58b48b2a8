// SPDX-License-Identifier: Apache-2.0
/* WITH_ASAN: 1 where the address sanitizer is compiled in, by gcc's name for it or clang's. */
#ifndef WITH_ASAN_H
#define WITH_ASAN_H

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

#endif
