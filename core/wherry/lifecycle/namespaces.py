"""Where a container lives: which modes there are, and what they come to at a start: own, the host's, another's.

Source: reference `populateCommand`, `getIpcContainer`; moby `WithNamespaces`; dockerd for the words.
"""

from __future__ import annotations

import os

from wherry.container.container import Container
from wherry.errors import InvalidRequest
from wherry.house import House
from wherry.lifecycle import idmaps, peers
from wherry.lifecycle.descriptors import Descriptors
from wherry.lifecycle.idmaps import Remapped
from wherry.lifecycle.shared_memory import Donor
from wherry.network.connection import Connection
from wherry.spec.command import Namespace, Namespaces
from wherry.spec.container import HostConfig

HOST = Namespace(kind="host")


def check(house: House, host: HostConfig) -> None:
    """InvalidRequest: there is no such mode, or two do not go together."""
    for value, words, what in (
        (host.ipc_mode, ("private", "host", "shareable", "none"), "IPC mode"),
        (host.pid_mode, ("", "host"), "PID mode"),
        (host.uts_mode, ("", "host"), "UTS mode"),
        (host.cgroupns_mode, ("private", "host"), "cgroup namespace mode"),
        (host.userns_mode, ("", "host"), "user namespace mode"),
    ):
        if value not in words and not (what in ("IPC mode", "PID mode") and peers.of_mode(value)):
            raise InvalidRequest(f"invalid {what}: {value}")
    if peers.of_mode(host.network_mode) and (host.port_bindings or host.publish_all_ports):
        raise InvalidRequest("conflicting options: port publishing and the container type network mode")
    if not peers.of_mode(host.network_mode):
        house.networks.get(host.network_mode)
    idmaps.check(house, host)


def chosen(
    house: House,
    container: Container,
    connection: Connection | None,
    remapped: Remapped | None,
    donor: Donor | None,
    descriptors: Descriptors,
) -> Namespaces:
    """The namespaces of a start. Conflict: a container whose namespaces it joins does not run, or shares none."""
    host = container.host_config
    net = HOST
    if connection is not None and connection.sandbox is not None:
        net = _joined(os.open(connection.sandbox.path, os.O_RDONLY | os.O_CLOEXEC), descriptors)
    user = HOST if remapped is None else _joined(os.dup(remapped.user), descriptors)
    return Namespaces(
        net=net,
        ipc=_ipc(container, donor, descriptors),
        pid=_of_peer(house, host.pid_mode, "pid", descriptors),
        uts=HOST if host.uts_mode == "host" else Namespace(),
        cgroup=HOST if host.cgroupns_mode == "host" else Namespace(),
        user=user,
        id_maps=remapped.maps if remapped is not None else None,
    )


def _ipc(container: Container, donor: Donor | None, descriptors: Descriptors) -> Namespace:
    if container.host_config.ipc_mode == "host":
        return HOST
    return Namespace() if donor is None else _joined(peers.open_namespace(*donor, "ipc"), descriptors)


def _of_peer(house: House, mode: str, kind: str, descriptors: Descriptors) -> Namespace:
    if mode == "host":
        return HOST
    if not peers.of_mode(mode):
        return Namespace()
    peer, run = peers.running(house, mode, kind.upper())
    return _joined(peers.open_namespace(peer, run, kind), descriptors)


def _joined(descriptor: int, descriptors: Descriptors) -> Namespace:
    return Namespace(kind="joined", descriptor=descriptors.add(descriptor))
