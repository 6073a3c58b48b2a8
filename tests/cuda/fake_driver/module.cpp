// SPDX-License-Identifier: Apache-2.0
/* Modules: an image is looked at as a driver would (which GPU, which ABI, which PTX), its kernels are the emulated ones
 * of the same names. "EMULATED" stands for an image where the build has no device code. */
#include <elf.h>
#include <stdio.h>

#include "driver.h"

enum { EM_GPU = 190, OSABI_NEW = 0x41, DRIVER_OF_NEW_ABI = 13000 };

/* The first PTX version that a driver refuses is the one after its own toolkit's. */
static bool driver_takes_ptx(int version) {
  static const struct {
    int driver, ptx;
  } newest[] = {{13000, 90}, {12060, 85}, {12040, 84}, {12020, 82}, {12000, 80}, {11080, 78}, {11040, 74}, {0, 70}};
  for (const auto &n : newest)
    if (settings.driver >= n.driver) return version <= n.ptx;
  return false;
}

static CUresult look_at_ptx(const char *text, std::string *kernels) {
  int major = 0, minor = 0, target = 0;
  const char *version = strstr(text, ".version"), *arch = strstr(text, ".target");
  if (!version || !arch || sscanf(version, ".version %d.%d", &major, &minor) != 2 ||
      sscanf(arch, ".target sm_%d", &target) != 1)
    return CUDA_ERROR_INVALID_PTX;
  if (!driver_takes_ptx(10 * major + minor)) return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
  if (target > settings.sm) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  for (const char *at = text; (at = strstr(at, ".entry ")) != nullptr;) {
    at += strlen(".entry ");
    *kernels += "\n" + std::string(at, strcspn(at, "( \n")) + "\n";
  }
  return CUDA_SUCCESS;
}

static CUresult look_at_cubin(const Elf64_Ehdr *elf, std::string *kernels) {
  bool is_new = elf->e_ident[EI_OSABI] == OSABI_NEW;
  unsigned sm = is_new ? elf->e_flags >> 8 & 0xff : elf->e_flags & 0xff;
  if (elf->e_machine != EM_GPU) return CUDA_ERROR_INVALID_IMAGE;
  if (is_new && settings.driver < DRIVER_OF_NEW_ABI) return CUDA_ERROR_INVALID_IMAGE;
  if (sm / 10 != (unsigned)settings.sm / 10 || sm > (unsigned)settings.sm) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  const char *base = reinterpret_cast<const char *>(elf);
  const Elf64_Shdr *sections = reinterpret_cast<const Elf64_Shdr *>(base + elf->e_shoff);
  const char *names = base + sections[elf->e_shstrndx].sh_offset;
  for (int i = 0; i < elf->e_shnum; i++) {
    const char *name = names + sections[i].sh_name;
    if (!strncmp(name, ".text.", 6)) *kernels += "\n" + std::string(name + 6) + "\n";
  }
  return CUDA_SUCCESS;
}

static CUresult look_at(const void *image, std::string *kernels) {
  if (!memcmp(image, ELFMAG, SELFMAG)) {
    /* an image in a table may lie at any address */
    const Elf64_Ehdr *elf = static_cast<const Elf64_Ehdr *>(image);
    if ((uintptr_t)image % alignof(Elf64_Ehdr)) return CUDA_ERROR_INVALID_IMAGE;
    return look_at_cubin(elf, kernels);
  }
  if (!strncmp(static_cast<const char *>(image), "EMULATED", 8)) return CUDA_SUCCESS;
  return look_at_ptx(static_cast<const char *>(image), kernels);
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  FAKE_ENTER(cuModuleLoadData, FAKE_CONTEXT);
  *module = nullptr;
  if (fake_forbidden_in_capture()) return FAKE_CAPTURE_UNSUPPORTED;
  std::string kernels;
  CUresult result = look_at(image, &kernels);
  if (result) return result;
  *module = new CUmod_st{fake_current(), {}, kernels};
  counts.modules++;
  return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module) {
  FAKE_ENTER_RELEASE(cuModuleUnload, FAKE_CONTEXT);
  return fake_delete(fake_result, module, counts.modules);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  FAKE_ENTER(cuModuleGetFunction, FAKE_CONTEXT);
  *function = nullptr;
  const emulation_kernel *kernel = emulation_find(name);
  bool in_image =
      module->image_kernels.empty() || module->image_kernels.find("\n" + std::string(name) + "\n") != std::string::npos;
  if (!kernel || !in_image) return CUDA_ERROR_NOT_FOUND;
  *function = &module->functions.insert({name, CUfunc_st{kernel, 0}}).first->second;
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  FAKE_ENTER(cuFuncSetAttribute, FAKE_CONTEXT);
  if (!function || attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
      value > FAKE_SHARED_LIMIT)
    return CUDA_ERROR_INVALID_VALUE;
  function->dynamic_limit = value;
  return CUDA_SUCCESS;
}
