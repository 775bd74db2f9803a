"""Trees of files that somebody else filled: walked and deleted without recursion, whatever their depth.

A container may nest directories deeper than a path can be long or descriptors can be open. So a walk opens each
directory by its path below the top (bounded by PATH_MAX: ENAMETOOLONG beyond), and a deletion flattens: what is not
empty is renamed into one directory and emptied there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from wherry.linux.calls import declare, last_error
from wherry.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_syncfs = declare("syncfs", ctypes.c_int)


def sync_file_system(descriptor: int) -> None:
    """Bring all that was written to the file system of `descriptor` to the disk: syncfs(2)."""
    if _syncfs(descriptor) == -1:
        raise last_error()


def open_below(top: int, place: str) -> int:
    """The directory `place` below the directory `top`, with no link on the way; "" is `top` itself, opened anew."""
    return openat2(top, place or ".", _DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of a tree: `path` relative to the top, and `name` in the directory that `parent` is a descriptor of.

    `parent` is open only until the walk is asked for the next entry.
    """

    path: str
    parent: int
    name: str
    stat: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)


def walk(top: int) -> Iterator[Found]:
    """Every entry below the directory `top`, a directory before what is in it, names of one directory sorted.

    What vanishes meanwhile is left out. Links are not followed.
    """
    pending: list[str] = [""]
    while pending:
        place = pending.pop()
        try:
            directory = open_below(top, place)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                continue
            raise
        try:
            below = []
            for name in sorted(os.listdir(directory)):
                try:
                    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                path = f"{place}/{name}" if place else name
                if stat.S_ISDIR(found.st_mode):
                    below.append(path)
                yield Found(path, directory, name, found)
            pending.extend(reversed(below))
        finally:
            os.close(directory)


def tree_size(top: int) -> int:
    """The sizes of all regular files and links below `top` in bytes, each inode once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for found in walk(top):
        mode = found.stat.st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            continue
        if found.stat.st_nlink > 1:
            inode = (found.stat.st_dev, found.stat.st_ino)
            if inode in seen:
                continue
            seen.add(inode)
        total += found.stat.st_size
    return total


def remove(directory: int, name: str, budget: int | None = None) -> bool:
    """Delete an entry of a directory with all below it. True when it is gone; already gone is success.

    `budget`: stop, and answer False, after so many entries; call again to go on. Nothing is followed out of the tree.
    A file that the kernel will not delete (immutable) raises its OSError.
    """
    try:
        os.unlink(name, dir_fd=directory)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    try:
        top = os.open(name, _DIRECTORY, dir_fd=directory)
    except NotADirectoryError:
        os.unlink(name, dir_fd=directory)  # the first EPERM was meant: let it be heard
        return True
    try:
        spent = _Budget(budget)
        if not _empty(top, spent):
            return False
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=directory)
    return True


class _Budget:
    def __init__(self, limit: int | None) -> None:
        self._left = limit

    def spend(self) -> bool:
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0


def _empty(top: int, budget: _Budget) -> bool:
    """Flatten and delete what is in the directory `top`: False if the budget ended first."""
    number = 0
    while True:
        names = os.listdir(top)
        if not names:
            return True
        for name in names:
            if not budget.spend():
                return False
            if _gone(top, name):
                continue
            inner = os.open(name, _DIRECTORY, dir_fd=top)
            try:
                for below in os.listdir(inner):
                    if not budget.spend():
                        return False
                    if _gone(inner, below):
                        continue
                    while True:
                        number += 1
                        with contextlib.suppress(FileExistsError, NotADirectoryError):
                            _move_up(inner, below, top, f".{number}")
                            break
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _move_up(source: int, name: str, target: int, new_name: str) -> None:
    try:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            raise FileExistsError(error.errno, error.strerror, new_name) from error
        raise


def _gone(directory: int, name: str) -> bool:
    """Delete one entry if it can be done in one call; False: a directory that is not empty."""
    try:
        os.unlink(name, dir_fd=directory)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    try:
        os.rmdir(name, dir_fd=directory)
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        if error.errno == errno.ENOTDIR:
            os.unlink(name, dir_fd=directory)
            return True
        raise
