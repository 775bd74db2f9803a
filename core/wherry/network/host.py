"""The host as its networks meet it: which ranges it uses already, and the switches that they need."""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path
from typing import Final

from wherry.linux import links
from wherry.linux.netlink import Netlink
from wherry.network.addresses import IPNetwork
from wherry.network.firewall.model import Zone
from wherry.network.pools import in_use
from wherry.spec.network import Network

_IPV4: Final = Path("/proc/sys/net/ipv4")
_IPV6: Final = Path("/proc/sys/net/ipv6")
_USUAL_MTU: Final = 1500


def has_ipv6() -> bool:
    """Whether this kernel, in this network namespace, has IPv6."""
    return _IPV6.exists()


def ranges(but: str = "") -> dict[IPNetwork, str]:
    """Ranges that this host has an address in or a route to, except by the interface `but`; and what has them."""
    with Netlink() as nl:
        skipped = links.find(nl, but) if but else None
        index = skipped.index if skipped else -1
        routes = [
            r.destination for family in links.FAMILIES for r in links.routes(nl, family) if r.index != index
        ]
        on_links = [str(a.network) for a in links.addresses(nl) if a.index != index]
    return in_use(routes, on_links)


def way_out_mtu() -> int:
    """The smallest MTU of the interfaces that default routes leave by, at most 1500: a bigger one hangs TLS behind a VPN."""
    with Netlink() as nl:
        ways = {route.index for route in links.routes(nl) if route.destination == "0.0.0.0/0"}
        found = [link.mtu for link in links.every(nl) if link.index in ways] if ways else []
    return min(_USUAL_MTU, *found) if found else _USUAL_MTU


def interface_address(name: str) -> IPv4Interface | None:
    """The first IPv4 address of an interface; None if it has none, or is not there."""
    with Netlink() as nl:
        link = links.find(nl, name)
        if link is None:
            return None
        for address in links.addresses(nl):
            if address.index == link.index and ":" not in address.address:
                return IPv4Interface(f"{address.address}/{address.prefix}")
    return None


def forward() -> bool:
    """Let the host pass IPv4 packets on between interfaces; answers whether it did not before."""
    return _write(_IPV4 / "ip_forward", "1")


def forward_ipv6() -> bool:
    """The same for IPv6. Interfaces that take their way out from a router's word go on doing so.

    A host that forwards ignores router advertisements unless accept_ra is 2 (kernel: networking/ip-sysctl), and would
    lose its own default route some minutes later.
    """
    switch = _IPV6 / "conf/all/forwarding"
    if switch.read_text().strip() == "1":
        return False
    for accept in _IPV6.glob("conf/*/accept_ra"):
        if accept.parent.name != "all" and accept.read_text().strip() == "1":
            accept.write_text("2")
    switch.write_text("1")
    return True


def admit_loopback(interface: str) -> bool:
    """Let what comes from 127.0.0.1 out by this interface, for ports published there; the firewall guards the rest."""
    return _write(_IPV4 / "conf" / interface / "route_localnet", "1")


def zones(network: Network) -> list[Zone]:
    """What the firewall is told of a network: one zone for each range behind its interface."""
    if not network.interface:
        return []
    return [
        Zone(
            interface=network.interface,
            subnet=subnet.cidr,
            gateway=subnet.gateway,
            masquerade=network.masquerade,
            icc=network.icc,
            internal=network.internal,
        )
        for subnet in network.subnets
    ]


def _write(path: Path, value: str) -> bool:
    if path.read_text().strip() == value:
        return False
    path.write_text(value)
    return True
