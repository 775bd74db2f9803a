"""The name server of a container's network on its way to keepers: to the container's own, and to those of its sharers."""

from __future__ import annotations

import dataclasses

from wherry.container.container import Container
from wherry.errors import NotFound, WherryError
from wherry.house import House
from wherry.keeper.protocol import NameServer
from wherry.network.connection import Connection, publishable
from wherry.network.endpoints import has_names


def name_server(house: House, container: Container, connection: Connection) -> NameServer | None:
    """What a container's keeper answers for, without its sockets; None if containers of its networks have no names."""
    whole = connection.shares or connection
    if not whole.resolver_port:
        return None
    owner = container if connection.shares is None else house.containers.get(whole.container_id)
    return NameServer(
        pages=tuple(house.networks.pages(whole)),
        links=links(house, owner),
        servers=tuple(container.host_config.dns or house.settings.dns),
        host_file=str(house.settings.resolv_conf),
        outward=any(not network.internal for network, _ in whole.endpoints if publishable(network)),
    )


def placed(wanted: NameServer, first: int) -> NameServer:
    """The same with its sockets from position `first` of a message on, as `Listener.descriptors` has them."""
    return dataclasses.replace(wanted, udp=first, tcp=first + 1, sandbox=first + 2)


def hand_over(house: House, container: Container, connection: Connection) -> None:
    """Have the keepers of a running container, and of those in its sandbox, answer for its networks as they are now.

    Sockets that the connection has just got are closed here, also on an error.
    """
    listener = connection.listener
    try:
        wanted = name_server(house, container, connection)
        if wanted is None or container.keeper is None:
            return
        if listener is None:
            container.keeper.resolve(wanted)
        else:
            container.keeper.resolve(placed(wanted, 0), listener.descriptors)
        for sharer in house.networks.sharers(container.id):
            _tell_sharer(house, sharer, connection, new=listener is not None)
    finally:
        if listener is not None:
            listener.close()


def _tell_sharer(house: House, sharer_id: str, owner: Connection, *, new: bool) -> None:
    """A sharer may be ending: then it needs no names."""
    try:
        sharer = house.containers.get(sharer_id)
        if sharer.keeper is None or sharer.run is None or sharer.run.connection is None:
            return
        seen = dataclasses.replace(sharer.run.connection, shares=owner, resolver_port=owner.resolver_port)
        wanted = name_server(house, sharer, seen)
        beside = house.networks.listen_beside(owner) if new else None
        if wanted is None:
            return
        try:
            if beside is None:
                sharer.keeper.resolve(wanted)
            else:
                sharer.keeper.resolve(placed(wanted, 0), beside.descriptors)
        finally:
            if beside is not None:
                beside.close()
    except WherryError:
        return


def links(house: House, container: Container) -> dict[str, str]:
    """What a container calls others in networks that have names: alias → container's id."""
    found: dict[str, str] = {}
    if _named(house, container):
        found |= container.record.links
    for link in (link for request in container.record.networks.values() for link in request.links or ()):
        name, _, alias = link.partition(":")
        try:
            child = house.containers.get(name)
        except WherryError:
            continue  # gone since: nobody is called so
        found[alias.rpartition("/")[2] or child.name] = child.id
    return found


def _named(house: House, container: Container) -> bool:
    """Whether the network of a container's mode has names."""
    try:
        return has_names(house.networks.get(container.host_config.network_mode))
    except NotFound:
        return False
