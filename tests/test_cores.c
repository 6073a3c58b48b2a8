// SPDX-License-Identifier: Apache-2.0
/* Fast cores, from folders made up after chips that have several kinds. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cores.h"
#include "suite.h"

#define CORES 8

static char folder[] = "/tmp/outrider-cores-XXXXXX";
static const bool everyone[CORES] = {true, true, true, true, true, true, true, true};

static void put(int core, const char *file, int value) {
  char path[256];
  snprintf(path, sizeof path, "%s/cpu%d", folder, core);
  mkdir(path, 0700);
  snprintf(path, sizeof path, "%s/cpu%d/cpufreq", folder, core);
  mkdir(path, 0700);
  snprintf(path, sizeof path, "%s/cpu%d/%s", folder, core, file);
  FILE *to = fopen(path, "w");
  ck_assert_ptr_nonnull(to);
  fprintf(to, "%d\n", value);
  fclose(to);
}

static void set_up(void) {
  strcpy(folder + sizeof folder - 7, "XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void tear_down(void) {
  char command[300];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  ck_assert_int_eq(system(command), 0);
}

START_TEST(capacity_tells_big_from_little) {
  static const int capacity[CORES] = {325, 325, 325, 325, 820, 820, 820, 1024};
  for (int i = 0; i < CORES; i++) put(i, "cpu_capacity", capacity[i]);
  ck_assert_int_eq(otr_fast_cores(folder, everyone, CORES), 4);
}
END_TEST

START_TEST(only_allowed_cores_count) {
  static const int capacity[CORES] = {325, 325, 325, 325, 820, 820, 820, 1024};
  static const bool little[CORES] = {true, true, true, false, false, false, false, false};
  for (int i = 0; i < CORES; i++) put(i, "cpu_capacity", capacity[i]);
  ck_assert_int_eq(otr_fast_cores(folder, little, CORES), 3);
}
END_TEST

START_TEST(the_clock_tells_where_there_is_no_capacity) {
  for (int i = 0; i < CORES; i++) put(i, "cpufreq/cpuinfo_max_freq", i < 4 ? 1800000 : 2800000);
  ck_assert_int_eq(otr_fast_cores(folder, everyone, CORES), 4);
}
END_TEST

START_TEST(all_cores_where_nothing_is_known) {
  ck_assert_int_eq(otr_fast_cores(folder, everyone, CORES), CORES);
  put(3, "cpu_capacity", 1024);
  ck_assert_int_eq(otr_fast_cores(folder, everyone, CORES), CORES);
}
END_TEST

static void add(TCase *tests) {
  tcase_add_checked_fixture(tests, set_up, tear_down);
  tcase_add_test(tests, capacity_tells_big_from_little);
  tcase_add_test(tests, only_allowed_cores_count);
  tcase_add_test(tests, the_clock_tells_where_there_is_no_capacity);
  tcase_add_test(tests, all_cores_where_nothing_is_known);
}

int main(void) {
  return suite_run("cores", add);
}
