#!/bin/bash
# Process 1 of hack/vm-cgroup2.sh: mounts what a machine has, runs the command, powers off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
d=$(sed -n 's/.*vmdir=\([^ ]*\).*/\1/p' /proc/cmdline)
# $d is below the host's /tmp, which is covered further down: keep what is needed of it open.
exec 5<"$d/cmd" 6<"$d/env" 7>>"$d/stdout" 8>>"$d/stderr" 9>"$d/rc"
cwd=$(cat "$d/cwd")

mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o ptmxmode=0666,gid=5,mode=620 devpts /dev/pts
ln -sf pts/ptmx /dev/ptmx
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /run/lock /run/vm/lib /run/vm/share
mount --bind "$(cat "$d/share-path")" /run/vm/share
# A checkout below /tmp is covered too: it comes back at its place once /tmp is ours.
case $cwd in /tmp/*) mkdir /run/vm/cwd && mount --bind "$cwd" /run/vm/cwd ;; esac

mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
# Nothing may live in a group that hands controllers down, except in the root of the machine, which this is not for whoever thinks so.
mkdir -p /sys/fs/cgroup/init
echo $$ >/sys/fs/cgroup/init/cgroup.procs

ln -s /usr/lib/uml/modules /run/vm/lib/modules
for module in overlay veth bridge dummy tun loop iptable_nat ip6table_nat iptable_filter ip6table_filter xt_MASQUERADE xt_comment xt_conntrack xt_addrtype \
  xt_multiport xt_mark xt_statistic br_netfilter; do
  modprobe -q -d /run/vm "$module"
done
[ ! -x /usr/sbin/xtables-legacy-multi ] || mount --bind /usr/sbin/xtables-legacy-multi /usr/sbin/xtables-nft-multi

ip link set lo up
ip link add eth0 type dummy && ip address add 192.0.2.2/24 dev eth0 && ip link set eth0 up && ip route add default via 192.0.2.1
hostname vm
echo 1 >/proc/sys/net/ipv4/ip_forward

cat <&6 >/run/vm/env
cat <&5 >/run/vm/cmd
mkfs.ext4 -q -F -E lazy_itable_init=1,nodiscard -m0 /dev/ubda 2>/dev/null && mount /dev/ubda /tmp && chmod 1777 /tmp
[ ! -d /run/vm/cwd ] || { mkdir -p "$cwd" && mount --bind /run/vm/cwd "$cwd"; }
(
  . /run/vm/env
  export VM_CGROUP2=1
  unset TMPDIR
  cd "$cwd" && exec bash /run/vm/cmd
) </dev/null >&7 2>&8 5<&- 6<&- 7>&- 8>&- 9>&- &
wait $!
echo $? >&9
exec 7>&- 8>&- 9>&-
sync
echo o >/proc/sysrq-trigger
sleep 9
