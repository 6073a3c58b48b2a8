// SPDX-License-Identifier: Apache-2.0
/* outrider devices: every backend of this build, found or the reason why not. */
#include <inttypes.h>
#include <stdlib.h>

#include "commands.h"
#include "common.h"
#include "status.h"

typedef struct arguments {
  int32_t check, json;
} arguments;

enum { KEY_CHECK = TOOL_KEY_OWN, KEY_NO_CHECK };
static const struct argp_option rows[] = {
    {"no-check", KEY_NO_CHECK, NULL, 0, "list only: no self-check against the reference", 0},
    {"check", KEY_CHECK, NULL, OPTION_HIDDEN, "", 0},
    TOOL_JSON_OPTION,
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
  arguments *a = state->input;
  (void)arg;
  switch (key) {
    case KEY_NO_CHECK:
      a->check = 0;
      return 0;
    case KEY_CHECK:
      a->check = 1;
      return 0;
    case TOOL_KEY_JSON:
      a->json = 1;
      return 0;
    default:
      return ARGP_ERR_UNKNOWN;
  }
}

static const struct argp argp = {
    .options = rows,
    .parser = parse,
    .doc = "Lists every device of every backend: what it offers, or why it is missing." TOOL_EXIT_DOC,
};

static otr_status list(int32_t check, otr_device_info **infos, int32_t *n) {
  *infos = NULL;
  otr_status status = otr_devices(NULL, 0, n, 0);
  if (status != OTR_STATUS_OK && status != OTR_STATUS_BUFFER_TOO_SMALL) return status;
  OTR_TRY(tool_allocate((size_t)*n, sizeof **infos, (void **)infos));
  for (int32_t i = 0; i < *n; i++) (*infos)[i].struct_size = sizeof **infos;
  status = otr_devices(*infos, *n, n, check);
  if (status != OTR_STATUS_OK) {
    free(*infos);
    *infos = NULL;
  }
  return status;
}

static const char *check_text(otr_check_state state) {
  static const char *const names[] = {"passed", "skipped", "failed", "unavailable", "demoted"};
  return state >= 0 && state <= OTR_CHECK_DEMOTED ? names[state] : "?";
}

static json_t *to_json(const otr_device_info *info) {
  return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:b, s:b, s:b, s:I, s:s, s:f}", "name", info->name, "backend",
                   info->backend, "description", info->description, "isa", info->isa, "available", info->available != 0,
                   "reason", info->reason, "native_int8", info->native_int8 != 0, "native_f16", info->native_f16 != 0,
                   "native_dot", info->native_dot != 0, "memory_bytes", (json_int_t)info->memory_bytes, "check",
                   check_text(info->check), "check_seconds", info->check_seconds);
}

static otr_status print_json(const otr_device_info *infos, int32_t n) {
  json_t *devices = json_array();
  for (int32_t i = 0; i < n; i++) json_array_append_new(devices, to_json(&infos[i]));
  return tool_print_json(json_pack("{s:o}", "devices", devices));
}

static void print_text(const otr_device_info *info) {
  printf("%s%s\n", info->name, info->available ? "" : "  (not available)");
  if (info->description[0]) printf("  hardware    %s\n", info->description);
  if (info->isa[0]) printf("  isa         %s\n", info->isa);
  if (info->available) {
    printf("  native      int8 %s, f16 %s, dot product %s\n", info->native_int8 ? "yes" : "no",
           info->native_f16 ? "yes" : "no", info->native_dot ? "yes" : "no");
    if (info->memory_bytes) printf("  memory      %" PRIu64 " MiB\n", info->memory_bytes >> 20);
  }
  printf("  self-check  %s", check_text(info->check));
  if (info->check_seconds > 0.0) printf(" (%.1f ms)", 1e3 * info->check_seconds);
  printf("\n");
  if (info->reason[0]) printf("  reason      %s\n", info->reason);
}

int tool_devices(int argc, char **argv) {
  arguments a = {.check = 1};
  tool_parse(&argp, argc, argv, &a);
  otr_device_info *infos;
  int32_t n;
  otr_status status = list(a.check, &infos, &n);
  if (status != OTR_STATUS_OK) return tool_report(status);
  if (a.json) {
    status = print_json(infos, n);
  } else {
    for (int32_t i = 0; i < n; i++) print_text(&infos[i]);
  }
  free(infos);
  return tool_report(status);
}
