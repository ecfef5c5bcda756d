/* Stands in for nginx and httpd: one process, one answer to every request. */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void quit(int sig) { (void)sig; _exit(0); }

int main(int argc, char **argv) {
  static char self[256], title[300], page[300], reply[600], buf[65536];
  const char *name = strrchr(argv[0], '/');
  int port = 80, one = 1, fd, i;
  struct sockaddr_in addr = {.sin_family = AF_INET};
  struct sigaction sa = {.sa_handler = quit};
  FILE *f;

  name = name ? name + 1 : argv[0];
  for (i = 1; i + 1 < argc; i++)
    if (!strcmp(argv[i], "-p")) port = atoi(argv[i + 1]);
  if (!getenv("WEB_TITLE")) { /* once more, under the title of a master */
    setenv("WEB_TITLE", name, 1);
    snprintf(title, sizeof title, "%.99s: master process %.99s", name, name);
    argv[0] = title;
    if (readlink("/proc/self/exe", self, sizeof self - 1) > 0) execv(self, argv);
    return 1;
  }
  name = getenv("WEB_TITLE");
  sigaction(SIGTERM, &sa, 0);
  sigaction(SIGINT, &sa, 0);
  sigaction(SIGQUIT, &sa, 0);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGWINCH, quit);

  fd = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  addr.sin_port = htons(port);
  if (bind(fd, (void *)&addr, sizeof addr) || listen(fd, 64)) {
    perror(name);
    return 1;
  }
  mkdir("/var/run", 0755);
  snprintf(buf, sizeof buf, "/var/run/%s.pid", name);
  if ((f = fopen(buf, "w"))) {
    fprintf(f, "%d\n", (int)getpid());
    fclose(f);
  }
  printf("%s: serving port %d\n", name, port);
  fflush(stdout);
  snprintf(page, sizeof page, "<html><body>%.99s works</body></html>\n", name);
  snprintf(reply, sizeof reply,
           "HTTP/1.1 200 OK\r\nServer: %.99s\r\nContent-Type: text/html\r\n"
           "Content-Length: %zu\r\nConnection: close\r\n\r\n%.200s",
           name, strlen(page), page);
  for (;;) {
    int c = accept(fd, 0, 0);
    struct pollfd p = {.fd = c, .events = POLLIN};
    if (c < 0) continue;
    if (poll(&p, 1, 2000) > 0 && read(c, buf, sizeof buf) > 0) {
      if (write(c, reply, strlen(reply)) < 0) perror("write");
      shutdown(c, SHUT_WR);
      while (poll(&p, 1, 1000) > 0 && read(c, buf, sizeof buf) > 0) {}
    }
    close(c);
  }
}
