"""Detached mounts: copied, put together into one tree, and taken out of a mount namespace of somebody else's.

A copy shows the same superblock: a layer is mounted once, however many copies of that mount there are.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from ctypes import c_int
from dataclasses import dataclass
from typing import Final

from wherry.linux import mounts, paths
from wherry.linux.calls import declare, last_error

TMPFS_MAGIC: Final = 0x01021994
"""statfs(2)."""


def copied(seed: int) -> tuple[int, int]:
    """(a copy, the seed) of the detached mount `seed`, which is taken over: what is answered in its place is the caller's.

    Before Linux 6.15 a detached mount cannot be copied where it is, so it is spent on two that are like it. EINVAL: it
    is attached somewhere.
    """
    try:
        return mounts.clone_tree(seed), seed
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    copy, again = mounts.apart(lambda: _spent(seed))
    os.close(seed)
    return copy, again


def _spent(seed: int) -> tuple[int, int]:
    mounts.move_mount(seed, "/")
    return mounts.clone_tree(seed), mounts.clone_tree(seed)


def taken_from(namespace: int, target: str, *, kind: int | None = None) -> int | None:
    """A detached copy of the mount, or directory of a mount, at `target` in a mount namespace (a descriptor).

    None where there is none, or where the file system is not of the `kind` (statfs(2)) that is wanted. The kernel resolves
    `target` below that namespace's root; nothing else is opened there, and nothing read.
    """
    try:
        return mounts.apart(lambda: _at(target, kind), namespace=namespace)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise


_NOT_THERE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EINVAL, errno.EACCES}
)


def _at(target: str, kind: int | None) -> int | None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = paths.open_in_root(root, target, os.O_PATH | os.O_DIRECTORY)
    finally:
        os.close(root)
    try:
        return mounts.clone_tree(place) if kind is None or _type_of(place) == kind else None
    finally:
        os.close(place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A detached mount (a descriptor, the owner's to close) that belongs at `target` of a tree."""

    mount: int
    target: str
    is_directory: bool = True


def assembled(root: int, parts: Sequence[Part], *, read_only: bool = False) -> int:
    """One detached tree: the detached mount `root` with each part on it, in their order. All are spent by this.

    A target is resolved by the kernel inside the tree, and made where it is missing. With `read_only` the root, without
    its parts, is. Nothing in the tree can be executed there, or opened as a device; no mount event comes in or goes out.
    """
    if parts:
        root = mounts.apart(lambda: _put_together(root, parts))
    else:
        root = os.dup(root)
    try:
        safe = mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC
        mounts.mount_setattr(root, add=safe, propagation=mounts.MS_PRIVATE, recursive=True)
        if read_only:
            mounts.mount_setattr(root, add=mounts.MOUNT_ATTR_RDONLY)
    except BaseException:
        os.close(root)
        raise
    return root


def _put_together(root: int, parts: Sequence[Part]) -> int:
    mounts.move_mount(root, "/")
    for part in parts:
        make = paths.open_directory_in_root if part.is_directory else paths.make_file_in_root
        try:
            place = make(root, part.target)
            try:
                mounts.move_mount(part.mount, place)
            finally:
                os.close(place)
        except OSError as error:
            raise OSError(error.errno, error.strerror, part.target) from error
    return mounts.clone_tree(root, recursive=True)


# Of struct statfs, whose first word is the type and whose size differs by machine, only that word is looked at.
_fstatfs = declare("fstatfs", c_int, ctypes.c_void_p)


def _type_of(descriptor: int) -> int:
    room = (ctypes.c_long * 64)()
    if _fstatfs(descriptor, ctypes.addressof(room)) == -1:
        raise last_error()
    return int(room[0])
