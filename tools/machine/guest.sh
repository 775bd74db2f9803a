#!/bin/sh
# The first process of the machine from when it has its root: makes it like a booted Debian, runs the one command, leaves its
# exit code where the host finds it, and switches the machine off.
set -u
. /run/machine/share/settings
share=/run/machine/share

mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o mode=620,gid=5,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
ln -sfn /proc/self/fd /dev/fd
mount --make-rshared /
ip link set lo up
hostname machine
ulimit -n 1048576

# As systemd would: the controllers are there for everyone, and the command is not in the root cgroup.
mkdir -p /sys/fs/cgroup/session
echo $$ >/sys/fs/cgroup/session/cgroup.procs
for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done
for module in $MACHINE_LOAD; do modprobe "$module" || echo "guest.sh: no module $module" >/dev/console; done

cut -d' ' -f1 /proc/uptime >$share/booted
setsid --ctty /bin/sh $share/command </dev/hvc0 >/dev/hvc0 2>&1 &
wait $!
echo $? >$share/exit.unfinished
mv $share/exit.unfinished $share/exit
# What is left is the machine's last process, and nobody needs its disk again.
echo o >/proc/sysrq-trigger
sleep 60
