"""A container's root file system: from the storage driver's answer to a mounted descriptor, at most one at a time."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from wherry.house import House
from wherry.linux import mounts, paths
from wherry.spec.container import MountPoint
from wherry.spec.storage import Bind, Overlay, Rootfs


def attach(house: House, layer: str, *, writable: bool = True) -> int:
    """Mount a layer as a detached descriptor: the caller's to close. Never twice at a time for a writable layer."""
    return mounted(house.storage.call("rootfs", layer=layer, writable=writable))


def mounted(rootfs: Rootfs) -> int:
    """The detached mount of what a storage driver described."""
    if isinstance(rootfs, Overlay):
        return mounts.overlay(rootfs.lowers, rootfs.upper, rootfs.work, rootfs.options)
    descriptor = mounts.clone_tree(rootfs.path)
    if rootfs.read_only:
        mounts.mount_setattr(descriptor, add=mounts.attributes(["ro"])[0])
    return descriptor


def storage_data(house: House, layer: str) -> dict[str, str]:
    """What `inspect` shows under GraphDriver.Data."""
    rootfs = house.storage.call("rootfs", layer=layer, writable=True)
    if isinstance(rootfs, Bind):
        return {"MergedDir": str(rootfs.path)}
    assert isinstance(rootfs, Overlay)
    shown = {"LowerDir": ":".join(map(str, rootfs.lowers))}
    if rootfs.upper is not None:
        shown |= {"UpperDir": str(rootfs.upper), "WorkDir": str(rootfs.work)}
    return shown


def copy_up(
    house: House, layer: str, points: Sequence[MountPoint], uncopied: frozenset[str] = frozenset()
) -> None:
    """Fill each still empty volume with what the image has at its target: Docker's copy-up at first use."""
    empty = [
        point
        for point in points
        if point.type == "volume"
        and point.destination not in uncopied
        and not any(Path(point.source).iterdir())
    ]
    if not empty:
        return
    root = attach(house, layer, writable=False)
    try:
        for point in empty:
            _copy(root, point.destination, Path(point.source))
    finally:
        os.close(root)


def _copy(root: int, source: str, target: Path) -> None:
    try:
        directory = paths.open_in_root(root, source, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        inside = f"/proc/self/fd/{directory}"
        for name in os.listdir(directory):
            _copy_entry(f"{inside}/{name}", str(target / name))
        _own(os.fstat(directory), str(target))
    finally:
        os.close(directory)


def _copy_entry(source: str, target: str) -> None:
    found = os.lstat(source)
    if stat.S_ISDIR(found.st_mode):
        os.mkdir(target)
        for name in os.listdir(source):
            _copy_entry(f"{source}/{name}", f"{target}/{name}")
    elif stat.S_ISLNK(found.st_mode):
        Path(target).symlink_to(Path(source).readlink())
    elif stat.S_ISREG(found.st_mode):
        shutil.copyfile(source, target, follow_symlinks=False)
    else:
        os.mknod(target, found.st_mode, found.st_rdev)
    _own(found, target)


def _own(found: os.stat_result, target: str) -> None:
    os.lchown(target, found.st_uid, found.st_gid)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)
