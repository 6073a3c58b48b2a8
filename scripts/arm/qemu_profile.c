// SPDX-License-Identifier: Apache-2.0
/* A plugin of qemu-aarch64 (user mode): instructions that a program executed, function by function, to the file named
 * by the argument out=FILE. Built by scripts/arm-figures.sh. What it needs of QEMU's plugin interface, version 1, is
 * declared here, for the header is not packaged. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { QEMU_PLUGIN_INLINE_ADD_U64 = 0 };
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*callback)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *counter, uint64_t amount);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, void *), void *user);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

typedef struct function {
  struct function *next;
  uint64_t executed;
  char name[];
} function;

static function *functions;
static char *out_path;

static function *find(const char *name) {
  for (function *f = functions; f; f = f->next)
    if (strcmp(f->name, name) == 0) return f;
  function *f = calloc(1, sizeof *f + strlen(name) + 1);
  if (!f) exit(1);
  strcpy(f->name, name);
  f->next = functions;
  functions = f;
  return f;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    const char *symbol = qemu_plugin_insn_symbol(insn);
    function *f = find(symbol && *symbol ? symbol : "?");
    qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, &f->executed, 1);
  }
}

static void report(qemu_plugin_id_t id, void *user) {
  (void)id;
  (void)user;
  FILE *out = fopen(out_path, "w");
  if (!out) return;
  for (function *f = functions; f; f = f->next) fprintf(out, "%" PRIu64 " %s\n", f->executed, f->name);
  fclose(out);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc,
                                                               char **argv) {
  (void)info;
  if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
    fprintf(stderr, "qemu_profile: out=FILE is missing\n");
    return 1;
  }
  out_path = strdup(argv[0] + 4);
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, report, NULL);
  return 0;
}
