"""Cgroups behind one small interface, whichever version the host has: 1, 2, or hybrid (1 with an empty 2 beside it).

    group = cgroups.at("/wherry-0a1b2c3d/containers/<id>")
    group.create(); group.limit(limits); group.allow_devices(rules)
    entrance = group.entrance()              descriptors by which process 1 comes in, before it is executed
    group.pids(), group.freeze(), group.thaw(), group.counters(), group.kill(), group.remove()

A hybrid host is one of version 1: its unified hierarchy has no controllers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from wherry.linux import cgroups_v2
from wherry.linux.cgroup_counters import Counters
from wherry.linux.cgroup_files import Entrance, Limits, Rule, Throttle, below, read_or
from wherry.linux.cgroups_v1 import CONTROLLERS as _CONTROLLERS_V1
from wherry.linux.cgroups_v1 import CgroupV1
from wherry.linux.cgroups_v2 import CgroupV2

__all__ = [
    "Cgroup",
    "Counters",
    "Entrance",
    "Hierarchies",
    "Limits",
    "Rule",
    "Throttle",
    "at",
    "children",
    "hierarchies",
    "move_aside",
    "offered",
    "own",
    "pass_on",
    "processors",
    "remove_empty",
]


class Cgroup(Protocol):
    """A cgroup by its path below the hierarchies' roots; it need not exist. See `CgroupV1` for what each verb says."""

    path: str

    @property
    def version(self) -> int: ...
    def create(self) -> None: ...
    def exists(self) -> bool: ...
    def limit(self, limits: Limits, restore: bool = False) -> None: ...
    def allow_devices(self, rules: Sequence[Rule]) -> None: ...
    def entrance(self) -> Entrance: ...
    def entrance_of(self, pid: int) -> Entrance: ...
    def pids(self) -> list[int]: ...
    def freeze(self, timeout: float = 10.0) -> None: ...
    def thaw(self) -> None: ...
    def is_frozen(self) -> bool: ...
    def kill(self, timeout: float = 10.0) -> bool: ...
    def oom_kills(self) -> int: ...
    def oom_notice(self) -> int: ...
    def counters(self) -> Counters: ...
    def remove(self, timeout: float = 2.0) -> None: ...
    def views(self) -> list[tuple[str, str]]: ...
    def links(self) -> list[tuple[str, str]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchies:
    """Where this host has its cgroups: controllers of version 1 → mount point, and that of version 2 if there is one."""

    v1: Mapping[str, str] = field(default_factory=dict)
    unified: str = ""

    @property
    def version(self) -> int:
        return 1 if "memory" in self.v1 or "pids" in self.v1 or not self.unified else 2


@lru_cache(maxsize=1)
def hierarchies() -> Hierarchies:
    """What is mounted, looked up once. OSError where no cgroup file system is."""
    v1: dict[str, str] = {}
    unified = ""
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        target = _unescape(before.split(" ")[4])
        if kind == "cgroup2" and not unified:
            unified = target
        elif kind == "cgroup":
            for word in options.split(","):
                if word in _CONTROLLERS_V1:
                    v1.setdefault(word, target)
    if not v1 and not unified:
        raise FileNotFoundError("no cgroup file system is mounted")
    return Hierarchies(v1=v1, unified=unified)


def at(path: str) -> Cgroup:
    """The cgroup with this path. ValueError: the path is a root, or leads out."""
    found = hierarchies()
    return CgroupV1(path, found.v1) if found.version == 1 else CgroupV2(path, found.unified)


def offered(parent: str) -> frozenset[str]:
    """Names of the control files that a cgroup below `parent` has here; one is made, and removed, to know. OSError."""
    probe = at(f"{parent}/probe")
    try:
        probe.create()
    except FileExistsError:
        pass  # left by one that was killed just here
    try:
        return frozenset(name for _, directory in probe.views() for name in os.listdir(directory))
    finally:
        probe.remove()


def own() -> str:
    """The cgroup of version 2 in which this process is, below what it sees as the root; "/" where there is none."""
    for line in Path("/proc/self/cgroup").read_text("utf-8", "surrogateescape").splitlines():
        if line.startswith("0::/"):
            return line[3:]
    return "/"


def pass_on(path: str) -> set[str]:
    """See `cgroups_v2.pass_on`; of version 1, where all is passed on, nothing is lacking."""
    found = hierarchies()
    return set() if found.version == 1 else cgroups_v2.pass_on(found.unified, path)


def move_aside(path: str, leaf: str) -> None:
    """See `cgroups_v2.move_aside`."""
    cgroups_v2.move_aside(hierarchies().unified, path, leaf)


def processors() -> tuple[str, str]:
    """(processors, memory nodes) that a cpuset may have here, as `0-3,6`; empty where no cpuset hierarchy is."""
    found = hierarchies()
    if found.version == 2:
        files = (f"{found.unified}/cpuset.cpus.effective", f"{found.unified}/cpuset.mems.effective")
    else:
        files = (f"{found.v1.get('cpuset')}/cpuset.cpus", f"{found.v1.get('cpuset')}/cpuset.mems")
    return read_or(files[0]).strip(), read_or(files[1]).strip()


def children(path: str) -> list[str]:
    """Names of the cgroups directly below `path`, in any hierarchy, sorted."""
    return sorted(
        {
            each[len(root) + 1 :]
            for root in _roots(path)
            for each in below(root)
            if "/" not in each[len(root) + 1 :]
        }
    )


def remove_empty(path: str) -> None:
    """Remove a cgroup that holds nothing, in every hierarchy; in use or gone is no error."""
    for root in _roots(path):
        try:
            Path(root).rmdir()
        except OSError:
            pass


def _roots(path: str) -> Iterator[str]:
    found = hierarchies()
    for root in dict.fromkeys(found.v1.values()) if found.version == 1 else [found.unified]:
        yield root + "/" + path.strip("/")


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
