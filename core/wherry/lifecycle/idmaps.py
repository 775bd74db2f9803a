"""`--userns-remap` for one container: its user namespace, and being its root where its files are made.

A container has a user namespace of its own, or that of a container whose namespaces it joins: what it may do there
depends on being of the same. Layers, volumes and the engine's own files lie on the disk with the ids that they have in
the container; each mount of them shows them mapped. Source: moby `verifyPlatformContainerSettings`, `WithNamespaces`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from wherry.container.container import Container, Run
from wherry.errors import InvalidRequest
from wherry.house import House
from wherry.lifecycle import peers
from wherry.linux import user_namespaces
from wherry.linux.credentials import making_files_as
from wherry.spec.command import IdMaps
from wherry.spec.container import HostConfig


@dataclass(slots=True, kw_only=True)
class Remapped:
    """The user namespace of a start: descriptors, closed by `close`."""

    maps: IdMaps
    user: int
    net: int | None = None
    """A bare network namespace that belongs to it, for a sandbox."""

    def close(self) -> None:
        """Idempotent."""
        for descriptor in (self.user, self.net):
            if descriptor is not None and descriptor != -1:
                os.close(descriptor)
        self.user, self.net = -1, None


def is_remapped(house: House, host: HostConfig) -> bool:
    """Whether a container with this configuration gets a user namespace."""
    return house.userns is not None and host.userns_mode != "host"


def check(house: House, host: HostConfig) -> None:
    """Refuse what a container in a user namespace cannot have. InvalidRequest, in Docker's words."""
    if not is_remapped(house, host):
        return
    if host.privileged:
        raise InvalidRequest(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace "
            "when running privileged mode"
        )
    for field, what in (
        ("network_mode", "host's network namespace"),
        ("pid_mode", "host PID namespace"),
        ("ipc_mode", "host IPC namespace"),
    ):
        # Nor by way of a container that does without a user namespace.
        if peers.end_of(house, host, field) == "host":
            raise InvalidRequest(f"cannot share the {what} when user namespaces are enabled")
    driver = house.driver("exec", host.runtime or house.settings.exec_driver)
    if not driver.call("capabilities").user_namespaces:
        raise InvalidRequest(
            f"the exec driver {driver.name} has no user namespaces; give the container --userns=host"
        )


def maps_of(house: House, container: Container) -> IdMaps | None:
    """As whom the files of a container are shown now, or would be if it were started."""
    if container.running and container.run is not None:
        return container.run.id_maps
    if house.userns is None or not is_remapped(house, container.host_config):
        return None
    return house.userns.maps


@contextmanager
def userns_of(house: House, container: Container) -> Iterator[int | None]:
    """A descriptor of a user namespace with the maps of `maps_of`, until the end of the `with`; None where it has none."""
    maps = maps_of(house, container)
    if maps is None:
        yield None
    elif house.userns is not None and maps == house.userns.maps:
        yield house.userns.sample
    else:  # it runs with those of an earlier daemon
        assert container.run is not None
        held = peers.open_namespace(container, container.run, "pid")
        try:
            user = user_namespaces.owner(held)
        finally:
            os.close(held)
        try:
            yield user
        finally:
            os.close(user)


def choose(house: House, container: Container) -> Remapped | None:
    """The user namespace for a start of the container. Conflict: a container whose namespaces it joins does not run."""
    check(house, container.host_config)
    if house.userns is None or not is_remapped(house, container.host_config):
        return None
    found = _inherited(house, container)
    if found is None:
        space = house.userns.take()
        return Remapped(maps=house.userns.maps, user=space.user, net=space.net)
    try:
        found.net = house.userns.network_within(found.user)
    except BaseException:
        found.close()
        raise
    return found


def _inherited(house: House, container: Container) -> Remapped | None:
    """That of a container whose namespaces this one joins: the last of net, ipc and pid counts, as with dockerd."""
    host = container.host_config
    names = [peers.of_mode(mode) for mode in (host.pid_mode, host.ipc_mode, host.network_mode)]
    for peer in (house.containers.get(name) for name in names if name):
        # One that does not run is refused where its namespace is to be joined, in the words for that.
        if peer.running and peer.run is not None and peer.run.id_maps is not None:
            return _of_run(peer, peer.run, peer.run.id_maps)
    if host.ipc_mode == "shareable":
        for sharer, run in peers.sharers(house, container, "ipc_mode"):
            if run.id_maps is not None:
                return _of_run(sharer, run, run.id_maps)
    return _of_lingering_sandbox(house, container)


def _of_run(peer: Container, run: Run, maps: IdMaps) -> Remapped:
    # Of its pid namespace, and not of its process: that may have gone on into a user namespace of its own making.
    held = peers.open_namespace(peer, run, "pid")
    try:
        return Remapped(maps=maps, user=user_namespaces.owner(held))
    finally:
        os.close(held)


def _of_lingering_sandbox(house: House, container: Container) -> Remapped | None:
    """That of the container's own last run, where others still share its network."""
    lingering = house.networks.lingering(container.id)
    if lingering is None or lingering.sandbox is None or lingering.id_maps is None:
        return None
    try:
        held = os.open(lingering.sandbox.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return Remapped(maps=lingering.id_maps, user=user_namespaces.owner(held))
    finally:
        os.close(held)


@contextmanager
def making(maps: IdMaps | None) -> Iterator[None]:
    """What this thread makes until the end of the `with`, in files that are shown mapped, belongs to the container's root."""
    if maps is None:
        yield
        return
    with making_files_as(*maps.root):
        yield
