#!/bin/sh
# The tests that need cgroup v2, on any machine: cgroup files, pod groups, and the life of pods with crun and with runc (npm run test:cgroup2).
# On a machine whose own hierarchy is v2 the ordinary tests cover the same; here it is user-mode-linux, whatever the machine has.
set -eu
cd "$(dirname "$0")/.."
. hack/setup.sh
PATH="$PWD/node_modules/.bin:$PATH"

case $(uname -m) in
  x86_64) ;;
  *) give_up "user-mode-linux exists for x86_64 only, and this is $(uname -m)" ;;
esac
missing=
has_program linux.uml || missing="$missing user-mode-linux"
has_program modprobe || missing="$missing kmod"
has_program mkfs.ext4 || missing="$missing e2fsprogs"
has_program setsid || missing="$missing util-linux"
has_program ip || missing="$missing iproute2"
has_program iptables-legacy || missing="$missing iptables"
# shellcheck disable=SC2086
[ -z "$missing" ] || install_packages $missing
[ -f dist/nodelet.js ] || node hack/build.ts

share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
say 'starting user-mode-linux with cgroup v2 (processes are about 20 times slower in there)'
rc=0
NODELET_TEST_RESULTS=/run/vm/share/results.jsonl VM_SHARE="$share" VM_TIMEOUT="${VM_TIMEOUT:-1500}" bash hack/vm-cgroup2.sh bash -c '
  rc=0
  node hack/run-tests.ts root cgroup || rc=1
  node hack/run-tests.ts e2e e2e/cgroup2/ e2e/agent/standalone || rc=1
  exit $rc' || rc=$?
# The counts, for hack/test.ts.
if [ -n "${NODELET_TEST_RESULTS:-}" ] && [ -s "$share/results.jsonl" ]; then cat "$share/results.jsonl" >>"$NODELET_TEST_RESULTS"; fi
case $rc in
  0) say 'cgroup v2: passed' ;;
  124) say 'cgroup v2: FAILED, not finished in time' ;;
  *) say "cgroup v2: FAILED (status $rc)" ;;
esac
exit "$rc"
