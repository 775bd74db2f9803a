"""Which ports a container wants published: `-p`, `-P` and the image's exposed ports."""

from __future__ import annotations

import re
from typing import cast

from wherry.errors import InvalidRequest
from wherry.network.networks import PortWish
from wherry.spec.container import Config, HostConfig


def wished(config: Config, host: HostConfig) -> tuple[PortWish, ...]:
    """Every wish, in order: an empty host port is one of the ephemeral range, `8000-8010` the first free of a range."""
    wishes: list[PortWish] = []
    bound = host.port_bindings or {}
    for key, bindings in bound.items():
        protocol, container_port = parse(key)
        for binding in bindings or ():
            first, last = _range(binding.host_port)
            wishes.append(
                PortWish(
                    protocol=protocol,
                    container_port=container_port,
                    host_address=binding.host_ip,
                    first=first,
                    last=last,
                )
            )
    if host.publish_all_ports:
        for key in config.exposed_ports or {}:
            if not bound.get(key):
                protocol, container_port = parse(key)
                wishes.append(PortWish(protocol=protocol, container_port=container_port))
    return tuple(wishes)


def parse(key: str) -> tuple[str, int]:
    """`80/tcp` as ("tcp", 80)."""
    match = re.fullmatch(r"(\d{1,5})(?:/(tcp|udp|sctp))?", key)
    if match is None or not 0 < int(match[1]) < 65536:
        raise InvalidRequest(f"invalid port specification: {key!r}")
    return cast(str, match[2] or "tcp"), int(match[1])


def _range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{0,5})(?:-(\d{1,5}))?", text)
    if match is None or (match[2] and not match[1]):
        raise InvalidRequest(f"invalid port specification: {text!r}")
    first = int(match[1] or 0)
    last = int(match[2] or first)
    if last < first or last > 65535:
        raise InvalidRequest(f"invalid port range: {text!r}")
    return first, last
