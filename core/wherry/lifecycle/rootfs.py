"""A container's root file system: from the storage driver's answer to a mounted descriptor, at most one at a time."""

from __future__ import annotations

from wherry.house import House
from wherry.linux import mounts
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
