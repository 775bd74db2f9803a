"""What the kernel says of mounts that exist: statfs(2) types and /proc/self/mountinfo, proc_pid_mountinfo(5)."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wherry.linux.calls import declare, last_error

PROC_SUPER_MAGIC: Final = 0x9FA0
DEVPTS_SUPER_MAGIC: Final = 0x1CD1

StrPath = str | os.PathLike[str]
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """One line of mountinfo."""

    id: int
    target: str
    kind: str
    source: str
    optional: tuple[str, ...]


class _Statfs(ctypes.Structure):
    _fields_ = [("type", ctypes.c_long), ("rest", ctypes.c_byte * 248)]


_fstatfs = declare("fstatfs", ctypes.c_int, ctypes.c_void_p)


def file_system_of(fd: int) -> int:
    """The magic number of the file system that `fd` lies on, O_PATH or not: fstatfs(2)."""
    found = _Statfs()
    if _fstatfs(fd, ctypes.byref(found)) == -1:
        raise last_error()
    return int(found.type)


def mounted() -> Iterator[Mounted]:
    """Every mount of this process's namespace, oldest first."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            words, tail = before.split(" "), after.split(" ")
            yield Mounted(
                id=int(words[0]),
                target=_plain(words[4]),
                kind=tail[0],
                source=_plain(tail[1]),
                optional=tuple(words[6:]),
            )


def _plain(text: str) -> str:
    """A space, tab, newline and backslash are written as octal numbers there."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text) if "\\" in text else text


def of(path_or_fd: StrPath | int) -> Mounted | None:
    """The mount that a path or a descriptor lies on; None if it is detached or in another namespace, or nothing is there."""
    if not isinstance(path_or_fd, int):
        try:
            fd = os.open(path_or_fd, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return of(fd)
        finally:
            os.close(fd)
    with open(f"/proc/self/fdinfo/{path_or_fd}") as lines:
        number = next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))
    return next((mount for mount in mounted() if mount.id == number), None)


def is_mount_point(path: StrPath) -> bool:
    """Whether something is mounted exactly at `path`."""
    found = of(path)
    return found is not None and found.target == os.path.realpath(path)
