"""Which limits this host has: asked of a cgroup that is made for the question."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wherry.linux import cgroups


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """Which limits a container's cgroup has on this host."""

    version: int
    memory: bool = False
    swap: bool = False
    reservation: bool = False
    swappiness: bool = False
    oom_kill_disable: bool = False
    shares: bool = False
    cfs: bool = False
    realtime: bool = False
    cpuset: bool = False
    pids: bool = False
    weight: bool = False
    weight_device: bool = False
    read_bps: bool = False
    write_bps: bool = False
    read_iops: bool = False
    write_iops: bool = False

    def lacks(self) -> list[str]:
        """What there is not, in the words of `docker info`; without what this version of cgroups never has."""
        return [
            f"WARNING: No {words[self.version - 1]} support"
            for name, words in _LACKS.items()
            if words[self.version - 1] and not getattr(self, name)
        ]


_LACKS: Final[Mapping[str, tuple[str, str]]] = {
    "memory": ("memory limit", "memory limit"),
    "swap": ("swap limit", "swap limit"),
    "oom_kill_disable": ("oom kill disable", ""),
    "cfs": ("cpu cfs quota", "cpu cfs quota"),
    "shares": ("cpu shares", "cpu shares"),
    "cpuset": ("cpuset", "cpuset"),
    "pids": ("pids limit", "pids limit"),
    "weight": ("", "io.weight"),
    "weight_device": ("", "io.weight (per device)"),
    "read_bps": ("blkio throttle.read_bps_device", "io.max (rbps)"),
    "write_bps": ("blkio throttle.write_bps_device", "io.max (wbps)"),
    "read_iops": ("blkio throttle.read_iops_device", "io.max (riops)"),
    "write_iops": ("blkio throttle.write_iops_device", "io.max (wiops)"),
}
"""What it is called under version 1 and under version 2."""

_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "swap": ("memory.memsw.limit_in_bytes", "memory.swap.max"),
    "reservation": ("memory.soft_limit_in_bytes", "memory.low"),
    "swappiness": ("memory.swappiness",),
    "oom_kill_disable": ("memory.oom_control",),
    "shares": ("cpu.shares", "cpu.weight"),
    "cfs": ("cpu.cfs_quota_us", "cpu.max"),
    "realtime": ("cpu.rt_runtime_us",),
    "cpuset": ("cpuset.cpus",),
    "pids": ("pids.max",),
    "weight": ("blkio.weight", "blkio.bfq.weight", "io.weight", "io.bfq.weight"),
    "weight_device": ("blkio.weight_device", "blkio.bfq.weight_device", "io.weight", "io.bfq.weight"),
    "read_bps": ("blkio.throttle.read_bps_device", "io.max"),
    "write_bps": ("blkio.throttle.write_bps_device", "io.max"),
    "read_iops": ("blkio.throttle.read_iops_device", "io.max"),
    "write_iops": ("blkio.throttle.write_iops_device", "io.max"),
}
"""What a limit is called in version 1, and in version 2."""


def support(version: int, offered: Collection[str]) -> Support:
    """What the control files that a cgroup has (`wherry.linux.cgroups.offered`) allow."""
    found = {name: any(file in offered for file in files) for name, files in _FILES.items()}
    return Support(version=version, **found)


def find_support(parent: str) -> Support:
    """What this host has, tried out with a cgroup below `parent`. OSError: none can be made."""
    return support(cgroups.hierarchies().version, cgroups.offered(parent))


def disks_with_weights() -> bool:
    """Whether a disk is scheduled by BFQ now: of version 1 no other scheduler has weights, though the files are there."""
    return any("[bfq]" in path.read_text() for path in Path("/sys/block").glob("*/queue/scheduler"))
