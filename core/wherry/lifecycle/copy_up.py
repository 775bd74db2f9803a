"""Copy-up: a volume that is empty begins as what the image has at its target. Source: moby `populateVolumes`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from wherry.errors import Conflict, InvalidRequest
from wherry.house import House
from wherry.lifecycle.rootfs import attach
from wherry.linux import paths, tree
from wherry.linux.copying import copy_tree
from wherry.spec.container import MountPoint, VolumeOptions


def copy_up(house: House, layer: str, points: Sequence[MountPoint]) -> None:
    """Fill each volume that is empty and may be filled from the new container's layer.

    Raises InvalidRequest where the image has a file at a volume's target; Conflict where another container changes the
    volume meanwhile.
    """
    root: int | None = None
    try:
        for point in points:
            if point.type != "volume" or _options(point).no_copy:
                continue
            target = _empty(house, point)
            if target is None:
                continue
            try:
                root = attach(house, layer, writable=False) if root is None else root
                _fill(root, point, target)
            finally:
                os.close(target)
    finally:
        if root is not None:
            os.close(root)


def _options(point: MountPoint) -> VolumeOptions:
    return (point.request.volume_options if point.request else None) or VolumeOptions()


def _empty(house: House, point: MountPoint) -> int | None:
    """The volume's directory, the caller's to close; None where it holds something, or its subpath is no directory."""
    try:
        place = house.volumes.open(point.name, _options(point).subpath)
    except InvalidRequest:
        return None  # the start says so, if it still is not there by then
    try:
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
    except NotADirectoryError:
        return None
    finally:
        os.close(place)
    if os.listdir(directory):
        os.close(directory)
        return None
    return directory


def _fill(root: int, point: MountPoint, target: int) -> None:
    try:
        source = paths.open_in_root(root, point.destination, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise InvalidRequest(
            f"cannot mount volume over existing file, file exists {point.destination}"
        ) from None
    try:
        copy_tree(source, target)
    except OSError as error:
        # Or the next container would take what is there for all of it.
        for name in os.listdir(source):
            tree.remove(target, name)
        raise Conflict(
            f"cannot copy what the image has at {point.destination} to volume {point.name}: {error.strerror}; is another "
            "container writing there?"
        ) from error
    finally:
        os.close(source)
