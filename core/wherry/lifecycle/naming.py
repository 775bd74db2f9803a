"""/etc/hostname and /etc/hosts of containers.

They are bind-mounted into running containers, so they are rewritten in place and never renamed over.
Source: reference `buildHostnameAndHostsFiles`. For resolv.conf see `resolv_conf`, for what links are `links`.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from wherry.container.container import Container
from wherry.errors import Conflict, InvalidRequest
from wherry.house import House
from wherry.lifecycle import links
from wherry.lifecycle.files import read, write
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
    for alias, child in links.linked(house, container):
        aliases = dict.fromkeys([alias, child.record.config.hostname, child.name])
        found.append((" ".join(name for name in aliases if name), links.address(child)))
    for entry in container.host_config.extra_hosts or ():
        name, address = _extra_host(entry)
        if address == "host-gateway":
            found += [(name, gateway) for gateway in _host_gateways(house, connection)]
        else:
            found.append((name, address))
    return found


def _host_gateways(house: House, connection: Connection) -> list[str]:
    """What `host-gateway` stands for: as the daemon was told, or the host's address as this container sees it."""
    if house.settings.host_gateway_ips:
        return list(house.settings.host_gateway_ips)
    for _, endpoint in connection.endpoints:
        if endpoint.ipv4_gateway or endpoint.ipv6_gateway:
            return [endpoint.ipv4_gateway or endpoint.ipv6_gateway]
    if connection.plan.kind == "host":
        return ["127.0.0.1"]
    for network in house.networks.list():
        if network.name == "bridge" and network.subnets:
            return [network.subnets[0].gateway]
    raise Conflict(
        "unable to derive the IP value for host-gateway: the container has no network with a gateway, and the daemon was "
        "not told one with --host-gateway-ip"
    )


def files(house: House, container: Container) -> dict[str, Path]:
    """Target in the container → file on the host; those of its peer for `--network container:X`."""
    directory = container.directory
    mode = container.host_config.network_mode
    if mode.startswith("container:"):
        directory = house.containers.get(mode.partition(":")[2]).directory
    return {f"/etc/{name}": directory / name for name in ("resolv.conf", "hostname", "hosts")}
