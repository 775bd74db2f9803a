"""export: a container's whole root file system as a tar, read by descriptors while the container may change it."""

from __future__ import annotations

from typing import BinaryIO

from wherry.house import House
from wherry.lifecycle import idmaps, leases
from wherry.linux import tree
from wherry.linux.packing import Packing


def export(house: House, name: str, archive: BinaryIO) -> None:
    """Write everything in the container's root, nothing that is mounted on it. Reference Container.Export."""
    container = house.containers.get(name)
    house.admit("container.export", container.id)
    with leases.lent(house, container) as root:
        packing = Packing(archive, idmaps.maps_of(house, container))
        for found in tree.walk(root):
            packing.add(found.path, found)
        packing.finish()
    house.tell(container, "export")
