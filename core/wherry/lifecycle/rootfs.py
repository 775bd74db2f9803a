"""A container's root file system: from the storage driver's answer to a mounted descriptor, at most one at a time."""

from __future__ import annotations

import dataclasses
import errno

from wherry.errors import StartFailed
from wherry.house import House
from wherry.linux import mapped, mounts
from wherry.spec.command import IdMaps
from wherry.spec.storage import Bind, Overlay, Rootfs


def attach(
    house: House, layer: str, *, writable: bool = True, maps: IdMaps | None = None, userns: int = -1
) -> int:
    """Mount a layer as a detached descriptor: the caller's to close. Never twice at a time for a writable layer.

    With `maps` its owners are shown mapped, as in the user namespace `userns` (a descriptor).
    """
    found: Rootfs = house.storage.call("rootfs", layer=layer, writable=writable)
    try:
        return mounted(dataclasses.replace(found, idmap=maps), userns)
    except OSError as error:
        if maps is None or error.errno != errno.EINVAL:
            raise
        raise StartFailed(
            f"the file system of layer {layer[:12]} cannot show files with other owners, which userns-remap needs"
        ) from error


def mounted(rootfs: Rootfs, userns: int = -1) -> int:
    """The detached mount of what a storage driver described. `userns`: for its `idmap`."""
    if isinstance(rootfs, Overlay):
        layers = (rootfs.lowers, rootfs.upper, rootfs.work, rootfs.options)
        if rootfs.idmap is None:
            return mounts.overlay(*layers)
        return mapped.overlay(*layers, userns=userns, owner=rootfs.idmap.root)
    descriptor = mounts.clone_tree(rootfs.path) if rootfs.idmap is None else mapped.bind(rootfs.path, userns)
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
