"""A container's way out: by which of its networks what is for elsewhere leaves, also after that one is gone.

The network with the highest priority that has a gateway; among equals the first in the container's record. Never by
name: what a network is called says nothing about where it leads.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

from wherry.linux import links, netns
from wherry.linux.netlink import Netlink
from wherry.network.firewall.model import Version
from wherry.spec.network import Endpoint, Network, Sandbox

Place = tuple[Network, Endpoint]

_FAMILIES: Final[tuple[tuple[Version, socket.AddressFamily], ...]] = (
    (4, socket.AF_INET),
    (6, socket.AF_INET6),
)


def ranked(places: Sequence[Place]) -> list[Place]:
    """Those that come first in question first: this is the order in which they are joined."""
    return sorted(places, key=lambda place: -place[1].gateway_priority)


def gateway(endpoint: Endpoint, version: Version) -> str:
    return endpoint.ipv4_gateway if version == 4 else endpoint.ipv6_gateway


def address(endpoint: Endpoint, version: Version) -> str:
    return endpoint.ipv4 if version == 4 else endpoint.ipv6


def way_out(places: Sequence[Place], version: Version) -> Endpoint | None:
    """The endpoint that leads out; None: there is no way."""
    return next((endpoint for _, endpoint in ranked(places) if gateway(endpoint, version)), None)


def set_routes(sandbox: Sandbox, places: Sequence[Place]) -> None:
    """Make the default routes of a running container's sandbox lead where they should now."""
    with netns.inside(sandbox.path), Netlink() as nl:
        for version, family in _FAMILIES:
            leading = way_out(places, version)
            wanted = gateway(leading, version) if leading is not None else ""
            link = links.find(nl, leading.interface) if leading is not None else None
            default = "0.0.0.0/0" if version == 4 else "::/0"
            there = [
                (route.gateway, route.index)
                for route in links.routes(nl, family)
                if route.destination == default
            ]
            if link is None:
                if there:
                    links.delete_default_routes(nl, family)
            elif there != [(wanted, link.index)]:
                if len(there) > 1 or version == 6:
                    links.delete_default_routes(nl, family)
                links.replace_default_route(nl, wanted, link.index)
