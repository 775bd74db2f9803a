"""What a container has if nobody says otherwise: Docker's own tables.

Source: reference `configs.DefaultAllowedDevices`, moby `oci.DefaultLinuxSpec`; API 1.51 HostConfig.
"""

from __future__ import annotations

from typing import Final

from wherry.spec.command import Device, DeviceRule, Mount

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_SIZE: Final = 64 * 1024 * 1024

MASKED_PATHS: Final = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip

READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

SYSCTLS: Final = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
"""In a network namespace of the container's own: its processes may ping and use low ports without a capability."""

DEVICES: Final = tuple(
    Device(path=f"/dev/{name}", kind="c", major=major, minor=minor)
    for name, major, minor in (
        ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
    )
)  # fmt: skip

DEVICE_RULES: Final = (
    DeviceRule(allow=True, kind="c", access="m"),
    DeviceRule(allow=True, kind="b", access="m"),
    *(DeviceRule(allow=True, kind="c", major=d.major, minor=d.minor) for d in DEVICES),
    DeviceRule(allow=True, kind="c", major=5, minor=1),
    DeviceRule(allow=True, kind="c", major=5, minor=2),
    DeviceRule(allow=True, kind="c", major=136),
)


def mounts(*, privileged: bool, writable_cgroups: bool, shm_size: int, own_shm: bool) -> tuple[Mount, ...]:
    """The file systems that every container has, as Docker mounts them; /dev/shm where it is its own."""
    safe = ("nosuid", "noexec", "nodev")
    table = [
        Mount(kind="proc", target="/proc", flags=safe),
        Mount(kind="tmpfs", target="/dev", flags=("nosuid", "strictatime"), data="mode=755,size=65536k"),
        Mount(
            kind="devpts",
            target="/dev/pts",
            flags=("nosuid", "noexec"),
            data="newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        Mount(kind="sysfs", target="/sys", flags=safe, read_only=not privileged),
        Mount(kind="mqueue", target="/dev/mqueue", flags=safe),
    ]
    if own_shm:
        table.append(
            Mount(
                kind="tmpfs", target="/dev/shm", flags=safe, data=f"mode=1777,size={shm_size}", source="shm"
            )
        )
    # Last of these: the cgroup itself is made while the others are mounted.
    sealed = not (privileged or writable_cgroups)
    table.append(Mount(kind="cgroup", target="/sys/fs/cgroup", flags=safe, read_only=sealed))
    return tuple(table)
