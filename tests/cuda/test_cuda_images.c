// SPDX-License-Identifier: Apache-2.0
/* The device code that this build embeds: what each image says of itself, which drivers take it, its kernels.
 * Argument: "old" where images below sm_100 are to be those that CUDA 11 and 12 take, else "any"; or "shared": prints
 * the kernels' dynamic shared memory. */
#include <elf.h>
#include <string.h>

#include "cuda_images.h"
#include "cuda_lower.h"
#include "suite.h"

enum { MACHINE_CUDA = 190, OSABI_OLD = 0x33, ABI_OLD = 7, OSABI_NEW = 0x41, ABI_NEW = 8 };

static int expect_old;
static const char *const kernels[] = {
#define X(name, shared) "otr_" #name,
    CUDA_KERNEL_LIST(X)
#undef X
};

/* A copy whose alignment is right for its structures. */
static unsigned char *copy_of(const cuda_image *image) {
  unsigned char *copy = malloc(image->bytes + 1);
  ck_assert_ptr_nonnull(copy);
  memcpy(copy, image->data, image->bytes + 1); /* with the 0 that ends a text */
  return copy;
}

static int has_section(const Elf64_Ehdr *elf, const char *kernel) {
  const char *base = (const char *)elf;
  const Elf64_Shdr *sections = (const Elf64_Shdr *)(const void *)(base + elf->e_shoff);
  const char *names = base + sections[elf->e_shstrndx].sh_offset;
  for (int i = 0; i < elf->e_shnum; i++) {
    const char *name = names + sections[i].sh_name;
    if (strncmp(name, ".text.", 6) == 0 && strcmp(name + 6, kernel) == 0) return 1;
  }
  return 0;
}

static void check_cubin(const cuda_image *image, const void *bytes) {
  const Elf64_Ehdr *elf = bytes;
  ck_assert_uint_gt(image->bytes, sizeof *elf);
  ck_assert_int_eq(memcmp(elf->e_ident, ELFMAG, SELFMAG), 0);
  ck_assert_int_eq(elf->e_machine, MACHINE_CUDA);
  int is_new = elf->e_ident[EI_OSABI] == OSABI_NEW;
  ck_assert_int_eq(elf->e_ident[EI_OSABI], is_new ? OSABI_NEW : OSABI_OLD);
  ck_assert_int_eq(elf->e_ident[EI_ABIVERSION], is_new ? ABI_NEW : ABI_OLD);
  ck_assert_int_eq((int)(is_new ? elf->e_flags >> 8 & 0xff : elf->e_flags & 0xff), image->capability);
  if (expect_old && image->capability < 100) ck_assert_msg(!is_new, "%s: CUDA 12 does not take it", image->name);
  printf("%-12s %7zu bytes, ELF ABI %d: drivers of CUDA %s\n", image->name, image->bytes, elf->e_ident[EI_ABIVERSION],
         is_new ? "13" : "11.8, 12 and 13");
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
    ck_assert_msg(has_section(elf, kernels[i]), "%s lacks %s", image->name, kernels[i]);
}

static void check_ptx(const cuda_image *image, const char *text) {
  int major, minor, target;
  const char *version = strstr(text, ".version "), *arch = strstr(text, ".target sm_");
  ck_assert_uint_eq(strlen(text), image->bytes);
  ck_assert(version != NULL && arch != NULL);
  ck_assert_int_eq(sscanf(version, ".version %d.%d", &major, &minor), 2);
  ck_assert_int_eq(sscanf(arch, ".target sm_%d", &target), 1);
  ck_assert_int_eq(target, image->capability);
  ck_assert_int_le(10 * major + minor, 70); /* what every driver since CUDA 11.0 takes */
  printf("%-12s %7zu bytes, PTX %d.%d\n", image->name, image->bytes, major, minor);
  for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
    char entry[80];
    snprintf(entry, sizeof entry, ".entry %s(", kernels[i]);
    ck_assert_msg(strstr(text, entry) != NULL, "%s lacks %s", image->name, kernels[i]);
  }
}

START_TEST(images) {
  int n_ptx = 0;
  size_t total = 0;
  for (int32_t i = 0; i < cuda_n_images; i++) {
    const cuda_image *image = &cuda_images[i];
    unsigned char *copy = copy_of(image);
    if (image->is_ptx)
      check_ptx(image, (const char *)copy);
    else
      check_cubin(image, copy);
    free(copy);
    n_ptx += image->is_ptx != 0;
    total += image->bytes;
  }
  ck_assert_int_eq(n_ptx, 1);
  printf("%-12s %7zu bytes\n", "all", total);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_test(tests, images);
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "shared") == 0) {
#define X(name, shared) printf("%s %d\n", #name, (int)(shared));
    CUDA_KERNEL_LIST(X)
#undef X
    return EXIT_SUCCESS;
  }
  expect_old = argc == 2 && strcmp(argv[1], "old") == 0;
  return suite_run("cuda_images", add);
}
