/* crun 1.8 (Debian 12) refuses the ociVersion 1.3.0 that containerd 2.4 writes: says 1.0.2 in config.json and then becomes CRUN. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef CRUN
#define CRUN "/usr/bin/crun"
#endif

static void lower_version(const char *bundle) {
  char path[4096], head[4096], *at;
  int fd;
  ssize_t n;
  snprintf(path, sizeof path, "%s/config.json", bundle);
  if ((fd = open(path, O_RDWR | O_CLOEXEC)) < 0) return;
  n = pread(fd, head, sizeof head - 1, 0); /* it is the first key */
  if (n > 0) {
    head[n] = 0;
    at = strstr(head, "\"ociVersion\":\"1.3.0\"");
    if (at && pwrite(fd, "1.0.2", 5, at - head + 14) != 5) perror(path);
  }
  close(fd);
}

int main(int argc, char **argv) {
  int i;
  for (i = 1; i < argc; i++) {
    if (!strncmp(argv[i], "--bundle=", 9)) lower_version(argv[i] + 9);
    else if ((!strcmp(argv[i], "--bundle") || !strcmp(argv[i], "-b")) && i + 1 < argc) lower_version(argv[i + 1]);
  }
  argv[0] = CRUN;
  execv(CRUN, argv);
  perror(CRUN);
  return 127;
}
