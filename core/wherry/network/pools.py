"""Pools: which range a network gets that names none.

Many and small ones, so that a host runs out of them late, and each is looked at before it is taken: what this host
has an address in or a route to, other than the default route, is somebody else's (a VPN's, the LAN's).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import Final

from wherry.errors import Conflict, InvalidRequest
from wherry.network.addresses import IPNetwork, parse_subnet
from wherry.spec.network import Subnet

Taken = Mapping[IPNetwork, str]
"""Range → what has it."""

_TOLD: Final = 12
"""Conflicts that an error lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A stock of ranges: all those with the prefix length `size` in `base`, in their order."""

    base: IPNetwork
    size: int


def pool(base: str, size: int) -> Pool:
    """InvalidRequest where there is no such range in `base`."""
    cidr = parse_subnet(base)
    if not cidr.prefixlen <= size <= cidr.max_prefixlen - 2:
        raise InvalidRequest(
            f"invalid pool: ranges of size {size} do not fit into {cidr}; "
            f"it must be from {cidr.prefixlen} to {cidr.max_prefixlen - 2}"
        )
    return Pool(base=cidr, size=size)


DEFAULT_BRIDGE: Final = (
    pool("172.17.0.0/16", 16),
    pool("172.18.0.0/15", 16),
    pool("172.20.0.0/14", 16),
    pool("172.24.0.0/13", 16),
    pool("192.168.0.0/16", 20),
)
"""For the default network: Docker's, one of which holds everything that one host can run."""

POOLS: Final = (
    pool("172.18.0.0/15", 24),
    pool("172.20.0.0/14", 24),
    pool("172.24.0.0/13", 24),
    pool("10.201.0.0/16", 24),
    pool("192.168.128.0/17", 24),
)
"""For networks that users make: nearly 4,000 of 253 endpoints each."""


def local_pool(engine_id: str) -> Pool:
    """An engine's own pool of IPv6 ranges: unique local addresses, RFC 4193, the same each time, another per engine."""
    identity = hashlib.sha256(b"wherry local addresses " + engine_id.encode()).digest()[:5]
    base = IPv6Network((b"\xfd" + identity + bytes(10), 48))
    return Pool(base=base, size=64)


def choose(taken: Taken, pools: Sequence[Pool], version: int) -> Subnet:
    """The first range of this IP version that overlaps nothing `taken`, its first address as gateway. Conflict."""
    blocked: dict[str, None] = {}
    for stock in pools:
        if stock.base.version != version:
            continue
        found = _first_free(stock, taken, blocked)
        if found is not None:
            return Subnet(cidr=str(found), gateway=str(found.network_address + 1))
    conflicts = [*list(blocked)[:_TOLD], *(["…"] if len(blocked) > _TOLD else [])]
    raise Conflict(
        f"could not find an available, non-overlapping IPv{version} address pool among the defaults to assign to the "
        f"network; taken: {', '.join(conflicts) or 'there is no pool'}; name a range with --subnet, or give the daemon "
        "more with --default-address-pool"
    )


def _first_free(stock: Pool, taken: Taken, blocked: dict[str, None]) -> IPNetwork | None:
    """From range to range, over all that a conflict covers at once."""
    base = stock.base
    step = 1 << (base.max_prefixlen - stock.size)
    here, end = int(base.network_address), int(base.broadcast_address)
    conflicts = [
        (int(other.network_address), int(other.broadcast_address), f"{other} ({why})")
        for other, why in taken.items()
        if other.version == base.version
    ]
    while here <= end:
        hits = [(last, words) for first, last, words in conflicts if first < here + step and last >= here]
        if not hits:
            return parse_subnet(f"{base.network_address + (here - int(base.network_address))}/{stock.size}")
        last, words = max(hits)
        blocked[words] = None
        here += ((last - here) // step + 1) * step
    return None


def refuse_overlaps(subnets: Sequence[Subnet], taken: Taken) -> None:
    """Conflict if ranges that somebody asked for overlap each other, or those `taken`."""
    known = dict(taken)
    for subnet in subnets:
        cidr = parse_subnet(subnet.cidr)
        for other, why in known.items():
            if overlap(cidr, other):
                raise Conflict(
                    f"Pool overlaps with other one on this address space: {cidr} with {other} ({why})"
                )
        known[cidr] = "of the same network"


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and (one.network_address in other or other.network_address in one)


def in_use(routes: Iterable[str], addresses: Iterable[str]) -> dict[IPNetwork, str]:
    """Ranges in use on this host, from its routes' destinations and its interfaces' networks.

    A default route takes nothing, and neither do the halves that VPNs split it into, nor what every link has of its own.
    """
    taken: dict[IPNetwork, str] = {}
    for text, why in (*((r, "a route") for r in routes), *((a, "an interface's address") for a in addresses)):
        network = ipaddress.ip_network(text, strict=False)
        local = network.is_loopback or network.is_link_local or network.is_multicast
        if network.prefixlen > 1 and not local:
            taken.setdefault(network, why)
    return taken
