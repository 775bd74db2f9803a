"""A container's root file system lent to whoever looks into it: the same mount that its run has, whatever its state."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from wherry.container.container import Container, Run
from wherry.errors import Conflict, Unavailable
from wherry.house import House
from wherry.lifecycle import idmaps, rootfs
from wherry.lifecycle.start import KEEPER_LEAVES
from wherry.linux import detached, namespaces, processes
from wherry.spec.command import IdMaps


@contextlib.contextmanager
def lent(house: House, container: Container) -> Iterator[int]:
    """The root as a detached mount that is attached nowhere, with nothing mounted on it; closed at the end.

    Busy while another operation holds the container: this one ends when the root is there.
    """
    with container.operation("copy"):
        if container.view.status in ("removing", "dead"):
            raise Conflict(f"container {container.name} is being removed")
        maps = idmaps.maps_of(house, container)
        descriptor = container.root.borrow(lambda: _seed(house, container, maps), maps)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        container.root.give_back()


def _seed(house: House, container: Container, maps: IdMaps | None) -> int:
    if container.running and container.keeper is not None:
        return _kept(container)
    if not container.keeper_gone.wait(KEEPER_LEAVES):
        raise Unavailable(f"the keeper of the last run of {container.name} has not ended; try again")
    userns = -1 if house.userns is None or maps is None else house.userns.sample
    return rootfs.attach(house, container.id, maps=maps, userns=userns)


def _kept(container: Container) -> int:
    """What the keeper holds since an earlier daemon started the container."""
    assert container.keeper is not None
    seed, *others = container.keeper.held()
    for descriptor in others:
        os.close(descriptor)
    try:
        copy, seed = detached.copied(seed)
    except OSError as error:
        os.close(seed)
        if error.errno != errno.EINVAL:
            raise
        # Spent by the earlier daemon (before Linux 6.15): what the container itself has is the same mount.
        with mount_namespace(container) as namespace:
            taken = detached.taken_from(namespace, "/")
        if taken is None:
            raise Conflict(
                f"the root of container {container.name} cannot be reached while it runs"
            ) from None
        return taken
    os.close(copy)
    return seed


@contextlib.contextmanager
def mount_namespace(container: Container) -> Iterator[int]:
    """A descriptor of the mount namespace that a running container's process 1 is in. Conflict: it has ended."""
    run = container.run
    try:
        if run is None:
            raise ProcessLookupError
        descriptor = namespaces.open_namespace(run.pid, "mnt")
    except OSError:
        raise Conflict(f"container {container.name} is just ending; try again") from None
    try:
        _still(container, run)
        yield descriptor
    finally:
        os.close(descriptor)


def _still(container: Container, run: Run) -> None:
    """The number is not another process's by now."""
    try:
        if processes.start_time(run.pid) == run.start_time:
            return
    except OSError:
        pass
    raise Conflict(f"container {container.name} is just ending; try again")
