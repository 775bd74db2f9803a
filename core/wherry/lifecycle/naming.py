"""/etc/hostname and /etc/hosts of containers, and what links add.

They are bind-mounted into running containers, so they are rewritten in place and never renamed over.
Source: reference `buildHostnameAndHostsFiles`, `setupLinkedContainers`. For resolv.conf see `resolv_conf`.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from wherry.container.container import Container
from wherry.errors import Conflict, InvalidRequest
from wherry.house import House
from wherry.lifecycle.files import read, write
from wherry.lifecycle.ports import parse
from wherry.network import names
from wherry.network.connection import Connection
from wherry.spec.container import Config, HostConfig
from wherry.spec.network import Endpoint


def check(config: Config, host: HostConfig) -> None:
    """What goes into these files is a word of a line, and no line of its own. InvalidRequest."""
    for text in (config.domainname, *(host.dns_search or ()), *(host.dns_options or ())):
        if any(character.isspace() or not character.isprintable() for character in text):
            raise InvalidRequest(f"invalid domain name or resolver option: {text!r}")
    for server in host.dns or ():
        if not _is_address(server):
            raise InvalidRequest(f"invalid DNS server: {server!r} is not an IP address")
    for entry in host.extra_hosts or ():
        name, address = _extra_host(entry)
        if not re.fullmatch(r"[^\s\0]+", name):
            raise InvalidRequest(f"bad format for add-host: {entry!r}")
        if address != "host-gateway" and not _is_address(address):
            raise InvalidRequest(f"invalid IP address in add-host: {address!r}")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _extra_host(entry: str) -> tuple[str, str]:
    """(name, address) of `name:address` or `name=address`."""
    separator = "=" if "=" in entry.partition(":")[0] else ":"
    name, found, address = entry.partition(separator)
    if not found or not name:
        raise InvalidRequest(f'bad format for add-host: "{entry}"')
    return name, address.removeprefix("[").removesuffix("]") if separator == "=" else address


def write_names(house: House, container: Container, connection: Connection) -> None:
    """/etc/hostname and /etc/hosts for how the container is connected now."""
    config, host = container.record.config, container.host_config
    if host.network_mode.startswith("container:"):
        return
    full = f"{config.hostname}.{config.domainname}" if config.domainname else config.hostname
    write(container.directory / "hostname", full + "\n")
    path = container.directory / "hosts"
    if connection.plan.kind == "host" and Path("/etc/hosts").exists():
        write(path, Path("/etc/hosts").read_text() + _extra_lines(house, container, connection))
        return
    own = [line for _, endpoint in connection.endpoints for line in _own_lines(container, endpoint)]
    write(path, names.hosts_file(_extra(house, container, connection), own))


def add_own_names(house: House, container: Container, endpoint: Endpoint) -> None:
    """A running container has an address more: its hosts file says so."""
    path = container.directory / "hosts"
    write(path, names.add_lines(read(path) or "", _own_lines(container, endpoint)))


def drop_own_names(house: House, container: Container, endpoint: Endpoint) -> None:
    """A running container has an address less."""
    path = container.directory / "hosts"
    text = before = read(path) or ""
    for own, address in _own_lines(container, endpoint):
        text = names.drop_lines(text, address, own.split()[-1])
    if text != before:
        write(path, text)


def _own_lines(container: Container, endpoint: Endpoint) -> list[tuple[str, str]]:
    config = container.record.config
    if not config.hostname:
        return []
    own = names.own_names(config.hostname, config.domainname)
    return [(own, address) for address in (endpoint.ipv4, endpoint.ipv6) if address]


def _extra_lines(house: House, container: Container, connection: Connection) -> str:
    return "".join(f"{address}\t{name}\n" for name, address in _extra(house, container, connection))


def _extra(house: House, container: Container, connection: Connection) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for alias, child in linked(house, container):
        address = _address(child)
        aliases = dict.fromkeys([alias, child.record.config.hostname, child.name])
        found.append((" ".join(aliases), address))
    for entry in container.host_config.extra_hosts or ():
        name, address = _extra_host(entry)
        if address == "host-gateway":
            address = next((e.ipv4_gateway for _, e in connection.endpoints if e.ipv4_gateway), "127.0.0.1")
        found.append((name, address))
    return found


def files(house: House, container: Container) -> dict[str, Path]:
    """Target in the container → file on the host; those of its peer for `--network container:X`."""
    directory = container.directory
    mode = container.host_config.network_mode
    if mode.startswith("container:"):
        directory = house.containers.get(mode.partition(":")[2]).directory
    return {f"/etc/{name}": directory / name for name in ("resolv.conf", "hostname", "hosts")}


def linked(house: House, container: Container) -> list[tuple[str, Container]]:
    """(alias, container) of each `--link`."""
    found = []
    for link in container.host_config.links or ():
        name, _, alias = link.partition(":")
        child = house.containers.get(name)
        found.append((alias.rpartition("/")[2] or child.name, child))
    return found


def link_environment(house: House, container: Container) -> tuple[str, ...]:
    """The variables that links give: reference `links.ToEnv`."""
    variables: list[str] = []
    for alias, child in linked(house, container):
        if not child.running:
            raise Conflict(
                f"Cannot link to a non running container: /{child.name} AS /{container.name}/{alias}"
            )
        prefix, address = alias.replace("-", "_").upper(), _address(child)
        ports = sorted(_exposed(child))
        for index, (port, protocol) in enumerate(ports):
            url = f"{protocol}://{address}:{port}"
            if index == 0:
                variables.append(f"{prefix}_PORT={url}")
            name = f"{prefix}_PORT_{port}_{protocol.upper()}"
            variables += [
                f"{name}={url}",
                f"{name}_ADDR={address}",
                f"{name}_PORT={port}",
                f"{name}_PROTO={protocol}",
            ]
        variables.append(f"{prefix}_NAME=/{container.name}/{alias}")
        for entry in child.record.config.env or ():
            name, _, value = entry.partition("=")
            if name not in ("HOME", "PATH"):
                variables.append(f"{prefix}_ENV_{name}={value}")
    return tuple(variables)


def _exposed(child: Container) -> list[tuple[int, str]]:
    return [(port, protocol) for protocol, port in map(parse, child.record.config.exposed_ports or {})]


def _address(child: Container) -> str:
    connection = child.run.connection if child.run else None
    return next((e.ipv4 for _, e in connection.endpoints if e.ipv4), "") if connection else ""
