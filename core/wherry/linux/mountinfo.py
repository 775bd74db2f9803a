"""What the kernel says of mounts that exist: statfs(2) types and /proc/self/mountinfo, proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """One line of mountinfo."""

    target: str
    kind: str
    source: str
    optional: tuple[str, ...]


def mounted() -> Iterator[Mounted]:
    """Every mount of this process's namespace, oldest first."""
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            words, tail = before.split(), after.split()
            yield Mounted(
                target=words[4].encode().decode("unicode_escape"),
                kind=tail[0],
                source=tail[1],
                optional=tuple(words[6:]),
            )


def of(path: StrPath) -> Mounted | None:
    """The mount that `path` (resolved) lies on."""
    wanted = os.path.realpath(path)
    best: Mounted | None = None
    for mount in mounted():
        inside = wanted == mount.target or wanted.startswith(mount.target.rstrip("/") + "/")
        if inside and (best is None or len(mount.target) >= len(best.target)):
            best = mount
    return best


def is_mount_point(path: StrPath) -> bool:
    """Whether something is mounted exactly at `path`."""
    found = of(path)
    return found is not None and found.target == os.path.realpath(path)


def is_shared(path: StrPath) -> bool:
    """Whether `path` lies on a mount with shared propagation: mount_namespaces(7)."""
    found = of(path)
    return found is not None and any(word.startswith("shared:") for word in found.optional)
