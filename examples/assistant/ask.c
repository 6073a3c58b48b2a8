// SPDX-License-Identifier: Apache-2.0
/* ask SOCKET QUESTION: asks the assistant and prints the answer as it comes. Ctrl-C simply leaves: the service stops an
 * answer whose client is gone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static FILE *connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (strlen(path) >= sizeof address.sun_path || fd < 0) return NULL;
  strcpy(address.sun_path, path);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fdopen(fd, "r+");
  close(fd);
  return NULL;
}

static int copy_text(FILE *from, size_t n) {
  for (int byte; n > 0; n--) {
    if ((byte = getc(from)) == EOF) return 0;
    putchar(byte);
  }
  return fflush(stdout) == 0;
}

static int print_answer(FILE *service) {
  char line[600];
  while (fgets(line, sizeof line, service)) {
    if (strncmp(line, "text ", 5) == 0) {
      if (!copy_text(service, strtoul(line + 5, NULL, 10))) break;
    } else {
      if (strncmp(line, "done ", 5) == 0) {
        putchar('\n');
        return 0;
      }
      fprintf(stderr, "ask: %s", line);
      return 1;
    }
  }
  fprintf(stderr, "ask: the service has gone\n");
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: ask SOCKET QUESTION\n");
    return 2;
  }
  FILE *service = connect_to(argv[1]);
  if (!service) {
    perror("ask");
    return 1;
  }
  fprintf(service, "ask %zu\n%s", strlen(argv[2]), argv[2]);
  fflush(service);
  int code = print_answer(service);
  fclose(service);
  return code;
}
