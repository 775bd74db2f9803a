"""Trees of files that somebody else filled: walked and deleted without recursion, whatever their depth.

A container may nest directories deeper than a path can be long or descriptors can be open. So a walk opens each
directory by its path below the top (bounded by PATH_MAX: ENAMETOOLONG beyond), and a deletion flattens: what is not
empty is renamed into one directory and emptied there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from wherry.linux.calls import declare, last_error
from wherry.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_syncfs = declare("syncfs", ctypes.c_int)


def sync_file_system(descriptor: int) -> None:
    """Bring all that was written to the file system of `descriptor` to the disk: syncfs(2)."""
    if _syncfs(descriptor) == -1:
        raise last_error()


def open_below(top: int, place: str, *, one_mount: bool = False) -> int:
    """The directory `place` below the directory `top`, with no link on the way; "" is `top` itself, opened anew.

    EXDEV: with `one_mount`, something is mounted on the way.
    """
    inside = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | (RESOLVE_NO_XDEV if one_mount else 0)
    return openat2(top, place or ".", _DIRECTORY, resolve=inside)


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


def walk(top: int, *, skip_too_deep: bool = False, one_mount: bool = False) -> Iterator[Found]:
    """Every entry below the directory `top`, depth first, names of one directory sorted.

    A directory comes just before what is in it: tar(1) gives it its time when the archive has left it behind.

    What vanishes meanwhile is left out. Links are not followed. ENAMETOOLONG: a directory lies deeper than a path can
    be long; with `skip_too_deep` what is in it is left out. With `one_mount` so is what is mounted on a directory.
    """
    pending: list[tuple[str, list[str] | None]] = [("", None)]
    while pending:
        place, names = pending.pop()
        try:
            directory = open_below(top, place, one_mount=one_mount)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
                continue
            if error.errno == errno.ENAMETOOLONG and skip_too_deep:
                continue
            raise
        try:
            if names is None:
                names = sorted(os.listdir(directory), reverse=True)
            while names:
                name = names.pop()
                try:
                    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                path = f"{place}/{name}" if place else name
                yield Found(path, directory, name, found)
                if stat.S_ISDIR(found.st_mode):
                    pending += [(place, names), (path, None)]
                    break
        finally:
            os.close(directory)


def tree_size(top: int) -> int:
    """The sizes of all regular files and links below `top` in bytes, each inode once; what is too deep not at all."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for found in walk(top, skip_too_deep=True):
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


def hold(directory: int, name: str) -> int:
    """An O_PATH descriptor of the entry itself. EXDEV: something is mounted on it. FileNotFoundError: it is not there."""
    return openat2(directory, name, os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_NO_XDEV)


def remove(directory: int, name: str, *, spare_mounts: bool = False) -> None:
    """Delete an entry of a directory with all below it; already gone is success. Nothing is followed out of the tree.

    Two may delete the same tree at once. A file that the kernel will not delete (immutable) raises its OSError. With
    `spare_mounts`, EXDEV says that something is mounted there: deleting what it is mounted on would end it, wherever
    else the tree is seen.
    """
    if _gone(directory, name, spare_mounts):
        return
    try:
        top = open_below(directory, name, one_mount=True)
    except FileNotFoundError:
        return
    try:
        _empty(top, spare_mounts)
        while not _gone(directory, name, spare_mounts):
            _empty(top, spare_mounts)
    finally:
        os.close(top)


def _empty(top: int, spare_mounts: bool) -> None:
    """Flatten and delete what is in the directory `top`."""
    number = 0
    while names := os.listdir(top):
        for name in names:
            if _gone(top, name, spare_mounts):
                continue
            try:
                inner = open_below(top, name, one_mount=True)
            except FileNotFoundError:
                continue
            try:
                for below in os.listdir(inner):
                    while not _gone(inner, below, spare_mounts):
                        number += 1
                        if _move(inner, below, top, f".{number}"):
                            break
            finally:
                os.close(inner)
            _gone(top, name, spare_mounts)


def _move(source: int, name: str, target: int, new_name: str) -> bool:
    """Rename a directory; False if the new name is taken by something that a directory does not replace."""
    try:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise


def _gone(directory: int, name: str, spare_mounts: bool) -> bool:
    """Delete one entry if one call can; False: a directory that is not empty."""
    if spare_mounts:
        try:
            os.close(hold(directory, name))
        except FileNotFoundError:
            return True
    try:
        os.unlink(name, dir_fd=directory)
        return True
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        pass
    try:
        os.rmdir(name, dir_fd=directory)
        return True
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
