#!/bin/busybox sh
# The first process of the machine, in its initramfs: makes a root of the host's files (read-only, by 9p) with an overlay on
# top that is thrown away, and goes there.
set -eu
bb=/bin/busybox
trap '$bb echo "init.sh: the machine could not be set up" >/dev/console; $bb poweroff -f' EXIT

$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
while read -r module; do
  $bb insmod "/modules/$module" || $bb echo "init.sh: $module does not load" >/dev/console
done </modules/order

$bb mount -t 9p -o trans=virtio,version=9p2000.L,rw,msize=262144 share /share
. /share/settings
$bb mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 host /host
$bb mount -t ext4 /dev/vda /scratch
$bb mkdir -p /scratch/upper /scratch/work /scratch/tmp /scratch/var-tmp
$bb chmod 1777 /scratch/tmp /scratch/var-tmp
$bb mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work root /new

# What is the host's own stays the host's. The engine's roots need a file system that can be an overlay's upper one.
$bb mount -t tmpfs -o mode=755,nosuid,nodev run /new/run
$bb mkdir -p /new/run/machine/share /new/run/machine/checkout
$bb mount --bind "/new$MACHINE_CHECKOUT" /new/run/machine/checkout
$bb mount --bind /scratch/tmp /new/tmp
$bb mount --bind /scratch/var-tmp /new/var/tmp
$bb mkdir -p "/new$MACHINE_CHECKOUT"
$bb mount --bind /new/run/machine/checkout "/new$MACHINE_CHECKOUT"

$bb mkdir -p "/new/lib/modules/$MACHINE_RELEASE"
$bb mount --bind "/host$MACHINE_MODULES" "/new/lib/modules/$MACHINE_RELEASE"
for each in dev proc sys; do $bb mount --move /$each /new/$each; done
$bb mount --move /share /new/run/machine/share
trap - EXIT
exec $bb switch_root /new /bin/sh "$MACHINE_CHECKOUT/tools/machine/guest.sh"
