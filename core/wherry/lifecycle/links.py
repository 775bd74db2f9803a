"""`--link`: a container told about another one, by variables, in its hosts file, and past `--icc=false`.

Of the default network, where nobody is found by name otherwise; in networks of users a link is a name, see `resolving`.
A link is kept by the other's id, so it follows renames; it is there while both run, and when the other starts again
with another address those who link to it are told: the variables of a process that runs already stay what they were.
Source: reference `setupLinkedContainers`, `updateParentsHosts`, `DisableLink`.
"""

from __future__ import annotations

import logging
import re

import msgspec

from wherry.container.container import Container
from wherry.errors import Conflict, InvalidRequest, NotFound, WherryError
from wherry.house import House
from wherry.lifecycle.files import read, write
from wherry.lifecycle.ports import parse
from wherry.lifecycle.runs import write_run
from wherry.network import names
from wherry.network.connection import Connection
from wherry.network.endpoints import has_names
from wherry.network.firewall.model import Passage
from wherry.spec.container import HostConfig

log = logging.getLogger(__name__)

_ALIAS = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


def planned(house: House, host: HostConfig) -> dict[str, str]:
    """Alias → id of the container, of every link that is asked for. InvalidRequest, Conflict."""
    found: dict[str, str] = {}
    for text in host.links or ():
        name, separator, alias = text.partition(":")
        alias = alias.rpartition("/")[2]  # as inspect shows it: /child:/parent/alias
        if not name.strip("/") or (separator and not alias):
            raise InvalidRequest(f"bad format for links: {text}")
        try:
            child = house.containers.get(name)
        except NotFound as error:  # not the image: clients would go and pull one
            raise InvalidRequest(f"could not get container for {name}: {error}") from error
        alias = alias or child.name
        if not _ALIAS.fullmatch(alias):
            raise InvalidRequest(f"invalid alias of a link: {alias!r}")
        if found.setdefault(alias, child.id) != child.id:
            raise Conflict(f"the alias {alias} is that of two links")
    if found and host.network_mode.startswith("container:"):
        raise InvalidRequest(
            "conflicting options: container type network can't be used with links. This would result in undefined behavior"
        )
    if found and host.network_mode == "host":
        raise InvalidRequest(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
        )
    return found


def linked(house: House, container: Container) -> list[tuple[str, Container]]:
    """(alias, container) of each link of the default network; those that were removed since are left out."""
    if not _is_plain(house, container):
        return []
    found = []
    for alias, child_id in container.record.links.items():
        try:
            found.append((alias, house.containers.get(child_id)))
        except NotFound:
            continue
    return found


def address(child: Container) -> str:
    """Where a linked container is now; empty while it does not run."""
    connection = _connection(child)
    if connection is None:
        return ""
    return next((endpoint.ipv4 for network, endpoint in connection.endpoints if not has_names(network)), "")


def environment(house: House, container: Container, *, needed: bool = True) -> tuple[str, ...]:
    """The variables that links give: reference `links.ToEnv`.

    One that is linked to and does not run is a Conflict, or, if it is not `needed`, left out.
    """
    variables: list[str] = []
    for alias, child in linked(house, container):
        if not child.running and not needed:
            continue
        if not child.running:
            raise Conflict(
                f"Cannot link to a non running container: /{child.name} AS /{container.name}/{alias}"
            )
        prefix, where = re.sub(r"[^A-Za-z0-9_]", "_", alias).upper(), address(child)
        for index, (port, protocol) in enumerate(sorted(_exposed(child))):
            url = f"{protocol}://{where}:{port}"
            if index == 0:
                variables.append(f"{prefix}_PORT={url}")
            name = f"{prefix}_PORT_{port}_{protocol.upper()}"
            variables += [
                f"{name}={url}",
                f"{name}_ADDR={where}",
                f"{name}_PORT={port}",
                f"{name}_PROTO={protocol}",
            ]
        variables.append(f"{prefix}_NAME=/{container.name}/{alias}")
        for entry in child.record.config.env or ():
            name, _, value = entry.partition("=")
            if name not in ("HOME", "PATH"):
                variables.append(f"{prefix}_ENV_{name}={value}")
    return tuple(variables)


def passages(house: House, container: Container, connection: Connection) -> tuple[Passage, ...]:
    """What must pass although containers of the network do not reach each other: the exposed ports of those linked to."""
    found = []
    for network, endpoint in connection.endpoints:
        if has_names(network) or network.icc or not endpoint.ipv4:
            continue
        for _, child in linked(house, container):
            where = address(child)
            found += [
                Passage(
                    interface=network.interface,
                    source=endpoint.ipv4,
                    address=where,
                    protocol=protocol,
                    port=port,
                )
                for port, protocol in _exposed(child)
                if where
            ]
    return tuple(sorted(set(found)))


def tell_parents(house: House, child: Container) -> None:
    """Have those who link to a container that started, or ended, know it: soon, one after the other."""
    if any(child.id in parent.record.links.values() for parent in house.containers.all()):
        house.workers.submit(_tell_parents, house, child)


def _tell_parents(house: House, child: Container) -> None:
    for parent in house.containers.all():
        if child.id in parent.record.links.values():
            try:
                with parent.operation("link"):
                    refresh(house, parent)
            except WherryError as error:
                log.warning("the links of %s: %s", parent.name, error)


def refresh(house: House, parent: Container) -> None:
    """Make a running container's hosts file and passages what its links are now; inside its operation."""
    run = parent.run
    if run is None or run.connection is None or not parent.running:
        return
    path = parent.directory / "hosts"
    text = before = read(path) or ""
    for alias, child in linked(house, parent):
        if where := address(child):
            text = names.point_lines(text, alias, where)
    if text != before:
        write(path, text)
    _allow(house, parent, passages(house, parent, run.connection))


def unlink(house: House, name: str) -> None:
    """Remove a link, named `parent/alias`; the container stays. NotFound. API 1.51 ContainerDelete with `link`."""
    parent_name, separator, alias = name.removeprefix("/").partition("/")
    if not separator:
        raise InvalidRequest(f"Conflict, cannot remove the default link name of the container: {name}")
    parent = house.containers.get(parent_name)
    house.admit("container.unlink", parent.id, {"alias": alias})
    with parent.operation("unlink"):
        if alias not in parent.record.links:
            raise NotFound("link", name, f"Could not get parent {parent_name} for link name {name}")
        before = parent.record
        kept = {key: child for key, child in before.links.items() if key != alias}
        parent.record = msgspec.structs.replace(before, links=kept)
        try:
            parent.save(synced=True)
        except BaseException:
            parent.record = before
            raise
        if parent.run is not None and parent.run.connection is not None and parent.running:
            path = parent.directory / "hosts"
            write(path, names.drop_name(read(path) or "", alias))
            _allow(house, parent, passages(house, parent, parent.run.connection))
        parent.publish()


def _allow(house: House, parent: Container, wanted: tuple[Passage, ...]) -> None:
    run = parent.run
    assert run is not None and run.connection is not None
    if run.connection.passages != wanted:
        connection = house.networks.allow(run.connection, wanted)
        parent.run = msgspec.structs.replace(run, connection=connection)
        write_run(house, parent, parent.run)


def _is_plain(house: House, container: Container) -> bool:
    """Whether the network of a container's mode is one in which nobody is found by name."""
    try:
        return not has_names(house.networks.get(container.host_config.network_mode))
    except NotFound:
        return False


def _connection(container: Container) -> Connection | None:
    return container.run.connection if container.run is not None and container.running else None


def _exposed(child: Container) -> list[tuple[int, str]]:
    return [(port, protocol) for protocol, port in map(parse, child.record.config.exposed_ports or {})]
