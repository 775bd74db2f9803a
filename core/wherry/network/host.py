"""The switches of the host that its networks need."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from wherry.network.firewall.model import Zone
from wherry.spec.network import Network

_IPV4: Final = Path("/proc/sys/net/ipv4")


def forward() -> bool:
    """Let the host pass packets on between interfaces; answers whether it did not before."""
    return _write(_IPV4 / "ip_forward", "1")


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
