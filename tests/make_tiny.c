// SPDX-License-Identifier: Apache-2.0
/* make_tiny OUT.gguf [own-head] [bias] [rope-freqs] [f16] [seed=N] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny_model.h"

static int set_option(llama_shape *shape, uint64_t *seed, const char *option) {
  if (strcmp(option, "own-head") == 0)
    shape->tied = false;
  else if (strcmp(option, "bias") == 0)
    shape->bias = true;
  else if (strcmp(option, "rope-freqs") == 0)
    shape->rope_freqs = true;
  else if (strcmp(option, "f16") == 0)
    shape->f16 = true;
  else if (strncmp(option, "seed=", 5) == 0)
    *seed = strtoull(option + 5, NULL, 10);
  else
    return 0;
  return 1;
}

int main(int argc, char **argv) {
  llama_shape shape = tiny_model_shape();
  uint64_t seed = 1;
  int good = argc >= 2;
  for (int i = 2; i < argc && good; ++i) good = set_option(&shape, &seed, argv[i]);
  if (!good) {
    fprintf(stderr, "make_tiny OUT.gguf [own-head] [bias] [rope-freqs] [f16] [seed=N]\n");
    return 2;
  }
  if (tiny_model_write(argv[1], &shape, seed) == OTR_STATUS_OK) return 0;
  fprintf(stderr, "%s\n", otr_error_detail());
  return 1;
}
