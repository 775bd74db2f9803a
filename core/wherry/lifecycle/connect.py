"""network connect and disconnect: a container in one network more, or less, running or not. Promised when they return."""

from __future__ import annotations

import msgspec

from wherry.container.container import Container
from wherry.errors import Conflict, Forbidden, InvalidRequest, NotFound
from wherry.house import House
from wherry.lifecycle import naming, networking, publishing, resolv_conf, resolving
from wherry.lifecycle.runs import write_run
from wherry.network.connection import Connection
from wherry.spec.container import EndpointRequest
from wherry.spec.network import Network
from wherry.undo import Undo


def connect(house: House, network_name: str, name: str, asked: EndpointRequest) -> None:
    """Connect a container to a network, as `asked`.

    NotFound; Forbidden if it is connected; InvalidRequest for what it cannot have; Conflict for an address that is
    taken. Source: API 1.51 NetworkConnect.
    """
    network = house.networks.get(network_name)
    container = house.containers.get(name)
    house.admit("network.connect", network.id, {"container": container.id, "endpoint": asked})
    _refuse_modes(container, network)
    networking.check(network, asked)
    with container.operation("connect"):
        if container.view.status in ("removing", "dead"):
            raise Conflict(f"container {container.id} is marked for removal and cannot be connected")
        if _is_in(container, network):
            raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")
        changed = {**container.record.networks, network.name: asked}
        with Undo() as undo:
            if _connection(container) is not None:
                _enter(house, container, network, asked, undo)
            _record(house, container, changed, undo)
            if _connection(container) is not None:
                resolv_conf.refresh(house, container)
            undo.keep()
        container.publish()
        if _connection(container) is not None:
            networking.tell(house, "connect", network, container.id)


def disconnect(house: House, network_name: str, name: str, force: bool = False) -> None:
    """Take a container out of a network. With `force` also if its record says that it is not in it.

    NotFound, InvalidRequest, Forbidden. Source: API 1.51 NetworkDisconnect.
    """
    container = house.containers.get(name)
    try:
        network = house.networks.get(network_name)
    except NotFound:
        _forget(house, container, network_name)
        return
    house.admit("network.disconnect", network.id, {"container": container.id, "force": force})
    if "host" in (container.host_config.network_mode, network.name):
        raise InvalidRequest(
            "container cannot be disconnected from host network or connected to host network"
        )
    with container.operation("disconnect"):
        inside = _is_in(container, network)
        if network.name not in container.record.networks and not inside and not force:
            raise Forbidden(f"container {container.id} is not connected to network {network.name}")
        changed = {n: r for n, r in container.record.networks.items() if n != network.name}
        with Undo() as undo:
            _record(house, container, changed, undo)
            if inside:
                _leave(house, container, network)
            undo.keep()
        container.publish()
        if inside:
            networking.tell(house, "disconnect", network, container.id)


def _refuse_modes(container: Container, network: Network) -> None:
    mode = container.host_config.network_mode
    if mode.startswith("container:"):
        raise InvalidRequest(
            "container sharing network namespace with another container or host cannot be connected to any other network"
        )
    if "host" in (mode, network.name):
        raise InvalidRequest(
            "container cannot be disconnected from host network or connected to host network"
        )
    if "none" in (network.name, *container.record.networks):
        raise InvalidRequest(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )


def _forget(house: House, container: Container, network_name: str) -> None:
    """Take a network that is gone out of a record that still names it."""
    with container.operation("disconnect"):
        if network_name not in container.record.networks:
            raise NotFound("network", network_name, f"network {network_name} not found")
        with Undo() as undo:
            kept = {n: r for n, r in container.record.networks.items() if n != network_name}
            _record(house, container, kept, undo)
            undo.keep()
        container.publish()


def _connection(container: Container) -> Connection | None:
    """What a running container has."""
    return container.run.connection if container.run is not None and container.running else None


def _is_in(container: Container, network: Network) -> bool:
    connection = _connection(container)
    return connection is not None and connection.place(network.id) is not None


def _enter(house: House, container: Container, network: Network, asked: EndpointRequest, undo: Undo) -> None:
    run = container.run
    assert run is not None and run.connection is not None
    old = run.connection
    new = house.networks.enter(old, network, asked, networking.request(house, container))
    undo.add(_take_back, house, container, network)
    _change(house, container, new)
    naming.add_own_names(house, container, new.endpoints[-1][1])


def _take_back(house: House, container: Container, network: Network) -> None:
    if _is_in(container, network):
        _leave(house, container, network)


def _leave(house: House, container: Container, network: Network) -> None:
    run = container.run
    assert run is not None and run.connection is not None
    place = run.connection.place(network.id)
    _change(house, container, house.networks.leave(run.connection, network))
    if place is not None:
        naming.drop_own_names(house, container, place[1])


def _change(house: House, container: Container, new: Connection) -> None:
    """A running container is connected otherwise now: for the next daemon too."""
    assert container.run is not None
    container.run = msgspec.structs.replace(container.run, connection=new)
    try:
        publishing.hand_over(house, container.keeper, new)
    finally:
        try:
            resolving.hand_over(house, container, new)
        finally:
            write_run(house, container, container.run)


def _record(house: House, container: Container, networks: dict[str, EndpointRequest], undo: Undo) -> None:
    before = container.record
    undo.add(_put_back, house, container, before.networks)
    container.record = msgspec.structs.replace(before, networks=networks)
    house.networks.promises.keep(container.id, networks)
    container.save(synced=True)


def _put_back(house: House, container: Container, networks: dict[str, EndpointRequest]) -> None:
    if container.record.networks is networks:
        return
    container.record = msgspec.structs.replace(container.record, networks=networks)
    house.networks.promises.keep(container.id, networks)
    container.save(synced=True)
