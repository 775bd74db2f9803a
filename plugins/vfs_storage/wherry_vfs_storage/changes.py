"""What a copy changes against the tree that it was copied from: two trees walked side by side.

What nobody touched since the copy was made has an older time of change (ctime, which no program can set) than the mark
that was left then; only what is younger is compared, and a file that has the same size is compared byte by byte.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from wherry.linux import tree, xattrs
from wherry.linux.archive import kept_attribute

_CHUNK = 1024 * 1024


Kind = Literal["added", "modified", "deleted"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that differs. `found`, of what is added or modified, is open until the next difference is asked for."""

    path: str
    kind: Kind
    found: tree.Found | None = None


def differences(top: int, parent: int | None, since_ns: int) -> Iterator[Difference]:
    """Every difference, a directory before what is in it; a directory in which something changed is there too.

    The tree is walked twice: only at the end of the first time it is known which directories changed inside.
    """
    kinds = _kinds(top, parent, since_ns)
    deleted: dict[str, list[str]] = {}
    for path, how in kinds.items():
        if how == "deleted":
            deleted.setdefault(path.rpartition("/")[0], []).append(path)
    for path in sorted(deleted.get("", ())):
        yield Difference(path, "deleted")
    for found in tree.walk(top):
        kind = kinds.get(found.path)
        if kind is not None:
            yield Difference(found.path, kind, found)
        for path in sorted(deleted.get(found.path, ())):
            yield Difference(path, "deleted")


def _kinds(top: int, parent: int | None, since_ns: int) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    beside = _Beside(parent)
    try:
        for name in beside.missing(top, ""):
            kinds[name] = "deleted"
        for found in tree.walk(top):
            place, _, name = found.path.rpartition("/")
            below = beside.look(place, name)
            if below is None:
                kinds[found.path] = "added"
            elif found.stat.st_ctime_ns >= since_ns and _differs(found, below, beside.directory):
                kinds[found.path] = "modified"
            elif not found.is_directory:
                continue
            if found.path in kinds:
                _mark_parents(kinds, found.path)
            if found.is_directory and below is not None and stat.S_ISDIR(below.st_mode):
                directory = tree.open_below(found.parent, found.name)
                try:
                    for missing in beside.missing(directory, found.path):
                        path = f"{found.path}/{missing}"
                        kinds[path] = "deleted"
                        _mark_parents(kinds, path)
                finally:
                    os.close(directory)
    finally:
        beside.close()
    return kinds


def _mark_parents(kinds: dict[str, Kind], path: str) -> None:
    while "/" in path:
        path = path.rpartition("/")[0]
        if path in kinds:
            return
        kinds[path] = "modified"


class _Beside:
    """The parent's tree, looked at directory by directory."""

    def __init__(self, parent: int | None) -> None:
        self._parent = parent
        self._place: str | None = None
        self.directory = -1

    def close(self) -> None:
        if self.directory >= 0:
            os.close(self.directory)
        self.directory, self._place = -1, None

    def look(self, place: str, name: str) -> os.stat_result | None:
        """What the parent has by this name; afterwards `directory` is open at `place`."""
        if self._place != place:
            self.close()
            self._place = place
            self.directory = self._open(place)
        if self.directory < 0:
            return None
        try:
            return os.stat(name, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def missing(self, directory: int, place: str) -> list[str]:
        """The names that the parent has at `place` and `directory` lacks."""
        beside = self._open(place)
        if beside < 0:
            return []
        try:
            return sorted(set(os.listdir(beside)) - set(os.listdir(directory)))
        finally:
            os.close(beside)

    def _open(self, place: str) -> int:
        if self._parent is None:
            return -1
        try:
            return tree.open_below(self._parent, place)
        except (FileNotFoundError, NotADirectoryError):
            return -1
        except OSError as error:
            if error.errno == errno.ELOOP:
                return -1
            raise


def _differs(found: tree.Found, below: os.stat_result, beside: int) -> bool:
    here, name = found.stat, found.name
    if (here.st_mode, here.st_uid, here.st_gid, here.st_rdev) != (
        below.st_mode, below.st_uid, below.st_gid, below.st_rdev,
    ):  # fmt: skip
        return True
    if not stat.S_ISLNK(here.st_mode) and here.st_mtime_ns != below.st_mtime_ns:
        return True
    if _attributes(found.parent, name) != _attributes(beside, name):
        return True
    if stat.S_ISLNK(here.st_mode):
        return os.readlink(name, dir_fd=found.parent) != os.readlink(name, dir_fd=beside)
    if stat.S_ISREG(here.st_mode):
        return here.st_size != below.st_size or not _same_content(found.parent, beside, name)
    return False


def _attributes(directory: int, name: str) -> dict[str, bytes]:
    return {key: value for key, value in xattrs.read(directory, name).items() if kept_attribute(key)}


def _same_content(one: int, other: int, name: str) -> bool:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with (
        open(os.open(name, flags, dir_fd=one), "rb", buffering=0) as left,
        open(os.open(name, flags, dir_fd=other), "rb", buffering=0) as right,
    ):
        while True:
            data = left.read(_CHUNK)
            if data != right.read(_CHUNK):
                return False
            if not data:
                return True
