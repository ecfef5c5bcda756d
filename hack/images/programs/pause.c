/* First process of a pod: waits for SIGTERM or SIGINT and reaps orphans. */
#include <signal.h>
#include <sys/wait.h>
int main(void) {
  sigset_t set;
  int sig;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigprocmask(SIG_BLOCK, &set, 0);
  for (;;) {
    if (sigwait(&set, &sig)) continue;
    if (sig != SIGCHLD) return 0;
    while (waitpid(-1, 0, WNOHANG) > 0) {}
  }
}
