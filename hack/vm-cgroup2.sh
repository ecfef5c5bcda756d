#!/bin/bash
# Runs COMMAND as root in user-mode-linux, a Linux kernel that is a program, whose only cgroup hierarchy is v2: hack/vm-cgroup2.sh COMMAND [ARG…]
#
# Same working directory, same environment, same files (the host's / by hostfs: what is written there is written on the host), but its own
#   /tmp     ext4 on a sparse file: overlay upper directories, extended attributes, state of containers
#   /run, /dev/shm   tmpfs
#   network  lo and one dummy interface; bridge and veth work; iptables is the legacy one, since this kernel has no nf_tables ip family
# and no cpuset controller, no PSI, one processor, no way to the outside. $VM_SHARE, a directory of the host, is /run/vm/share inside.
# Output is streamed, the exit status returned; 124 after VM_TIMEOUT seconds (600), 125 when the kernel died (its messages follow).
# About six seconds to start and stop. System calls take 20 times as long as outside, plain computing as long as ever.
# Debian packages: user-mode-linux kmod e2fsprogs util-linux iproute2 iptables. VM_MEM (3G) and VM_DISK (8G) are upper limits, not reserved.
set -eu
[ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARG...]" >&2; exit 2; }
for program in linux.uml mkfs.ext4 modprobe ip setsid; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || { echo "$0: $program is not installed" >&2; exit 125; }
done
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d /tmp/vm-cgroup2.XXXXXX)
uml=
tails=
cleanup() {
  trap - EXIT
  [ -z "$uml" ] || kill -KILL -- -"$uml" 2>/dev/null || true
  # shellcheck disable=SC2086
  [ -z "$tails" ] || kill $tails 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$dir/top" "$dir/share"
printf '%q ' "$@" >"$dir/cmd"
pwd >"$dir/cwd"
export -p >"$dir/env"
: >"$dir/stdout"
: >"$dir/stderr"
echo "${VM_SHARE:-$dir/share}" >"$dir/share-path"
truncate -s "${VM_DISK:-8G}" "$dir/disk"
install -m 755 "$here/vm-cgroup2-init.sh" "$dir/init"

# Files instead of pipes: the kernel's own console is a file of the host too, and a reader that is slow must not stop the machine.
tail -q -c +1 -s 0.05 -f "$dir/stdout" &
tails=$!
tail -q -c +1 -s 0.05 -f "$dir/stderr" >&2 &
tails="$tails $!"
rc=0
setsid timeout -s KILL "${VM_TIMEOUT:-600}" linux.uml mem="${VM_MEM:-3G}" rootfstype=hostfs rootflags=/ rw init="$dir/init" vmdir="$dir" ubd0="$dir/disk" \
  cgroup_no_v1=all con=null con0=null,fd:1 loglevel="${VM_LOGLEVEL:-3}" umid="vm-$$" uml_dir="$dir/top" </dev/null >"$dir/kernel" 2>&1 &
uml=$!
wait "$uml" || rc=$?
uml=
sleep 0.2
if [ -s "$dir/rc" ]; then
  rc=$(cat "$dir/rc")
elif [ "$rc" = 137 ]; then
  rc=124
  echo "$0: not finished after ${VM_TIMEOUT:-600} s" >&2
else
  rc=125
  echo "$0: the kernel ended before the command did:" >&2
  tail -n 40 "$dir/kernel" >&2
fi
exit "$rc"
