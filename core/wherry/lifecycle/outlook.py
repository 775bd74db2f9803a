"""A container's files as it sees them, put together outside of it: its root with its volumes, whatever its state.

Made of the record, in nobody's mount namespace, for one copy: what a process in the container mounts, unmounts or moves
meanwhile changes nothing in it, and what that would mount (a file system that never answers) is not in it. The
contents of a running container's tmpfs are taken out of its mount namespace, as nothing else has them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from wherry.container.container import Container
from wherry.errors import Conflict, InvalidRequest, NotFound
from wherry.house import House
from wherry.lifecycle import idmaps, leases, naming
from wherry.lifecycle.descriptors import Descriptors
from wherry.lifecycle.mounting import in_order, mount_of, tmpfs_mounts
from wherry.linux import detached, mapped, mounts
from wherry.linux.detached import Part
from wherry.spec.command import Mount


@contextlib.contextmanager
def seen(house: House, container: Container) -> Iterator[int]:
    """A descriptor of the root of that tree, closed at the end. What is read-only in the container is so in it.

    Busy, Conflict: the container is between two states. InvalidRequest, StartFailed: a volume cannot be mounted.
    """
    with leases.lent(house, container) as root:
        with (
            Descriptors() as descriptors,
            idmaps.userns_of(house, container) as userns,
            idmaps.making(idmaps.maps_of(house, container)),
        ):
            parts = _parts(house, container, descriptors, userns)
            try:
                tree = detached.assembled(root, parts, read_only=container.host_config.readonly_rootfs)
            except OSError as error:
                what = f"{error.filename} of " if error.filename else ""
                raise InvalidRequest(
                    f"cannot mount at {what}container {container.name}: {error.strerror}"
                ) from error
        try:
            yield tree
        finally:
            os.close(tree)


def _parts(house: House, container: Container, descriptors: Descriptors, userns: int | None) -> list[Part]:
    asked: list[Mount] = []
    for point in container.record.mounts:
        asked.append(mount_of(house, point, descriptors, userns))
    asked += tmpfs_mounts(container.host_config)
    taken = {mount.target for mount in asked}
    files = _files(house, container, descriptors, userns)
    asked += [file for file in files if file.target not in taken]
    in_memory = _in_memory(container, [m.target for m in asked if m.kind == "tmpfs"], descriptors)
    parts = []
    for mount in in_order((), asked):
        if mount.kind == "tmpfs":
            descriptor = in_memory.get(mount.target)
            if descriptor is None:
                continue
        else:
            assert mount.descriptor is not None
            descriptor = descriptors.numbers[mount.descriptor]
            if mount.read_only:
                mounts.mount_setattr(
                    descriptor, add=mounts.MOUNT_ATTR_RDONLY, recursive=mount.recursive_read_only
                )
        parts.append(Part(mount=descriptor, target=mount.target, is_directory=mount.is_directory))
    return parts


def _files(
    house: House, container: Container, descriptors: Descriptors, userns: int | None
) -> Iterator[Mount]:
    """/etc/hosts and its two siblings, as they are or were last: there are none before the first start."""
    try:
        files = naming.files(house, container)
    except NotFound:  # they were those of another container, which is gone
        return
    for target, path in files.items():
        with contextlib.suppress(FileNotFoundError):
            descriptor = mounts.clone_tree(path) if userns is None else mapped.bind(path, userns)
            yield Mount(
                kind="bind",
                target=target,
                source=str(path),
                descriptor=descriptors.add(descriptor),
                read_only=container.host_config.readonly_rootfs,
                is_directory=False,
            )


def _in_memory(container: Container, targets: list[str], descriptors: Descriptors) -> dict[str, int]:
    """Target → descriptor of each tmpfs that a running container has there."""
    found: dict[str, int] = {}
    if not targets or not container.running:
        return found
    with contextlib.suppress(Conflict), leases.mount_namespace(container) as namespace:
        for target in targets:
            descriptor = detached.taken_from(namespace, target, kind=detached.TMPFS_MAGIC)
            if descriptor is not None:
                descriptors.add(descriptor)
                found[target] = descriptor
    return found
