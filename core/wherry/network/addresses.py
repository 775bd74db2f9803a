"""Addresses: which range a network gets, and which address an endpoint.

What is taken is derived from the endpoints that live, at start-up, and kept in memory: there is no second database that
could disagree. An address that was given back *rests* until its link is really gone, because the kernel clears up later
than we do; new ones are handed out in a circle, so that one just freed is the last to come back.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from wherry.errors import Conflict, InvalidRequest
from wherry.spec.network import Subnet

DEFAULT_BRIDGE: Final = "172.17.0.0/16"
POOLS: Final = (
    *(f"172.{second}.0.0/16" for second in range(17, 32)),
    *(f"192.168.{third}.0/20" for third in range(0, 256, 16)),
    *(f"10.{second}.0.0/24" for second in range(201, 255)),
)
"""Tried in order for a network that names no range; Docker's, and then small ones."""


class AddressResting(Conflict):
    """The address was given back, and its link is not gone yet: soon."""


class Addresses:
    """The IPv4 addresses of one subnet of one network. Not for two threads at once."""

    def __init__(self, network: str, subnet: Subnet) -> None:
        self._network = network
        self.cidr: Final = parse_subnet(subnet.cidr)
        self.range: Final = parse_subnet(subnet.range) if subnet.range else self.cidr
        self.gateway: Final = subnet.gateway
        self._taken: dict[int, str] = {}
        self._resting: set[int] = set()
        self._next = 0
        ends = {int(self.cidr.network_address), int(self.cidr.broadcast_address)}
        self._reserved = set(ends) if self.cidr.prefixlen < 31 else set[int]()
        self._reserved.update(int(IPv4Address(text)) for text in subnet.auxiliary.values())
        if subnet.gateway:
            self._reserved.add(int(IPv4Address(subnet.gateway)))

    def take(self, owner: str, wanted: str = "") -> str:
        """An address for an endpoint, `wanted` or the next free one. Conflict; AddressResting if it will be free soon."""
        return str(self._take_wanted(owner, wanted) if wanted else self._take_next(owner))

    def holds(self, address: str) -> bool:
        """Whether this address is of this range."""
        return parse_address(address) in self.cidr

    def hold(self, address: str, owner: str) -> None:
        """Mark an address that a living endpoint has, whatever else is known of it."""
        number = int(IPv4Address(address))
        if IPv4Address(address) not in self.cidr:
            return
        self._taken[number] = owner
        self._next = max(self._next, number - int(self.range.network_address) + 1)

    def rest(self, address: str) -> None:
        """Given back, and not to be handed out before `free`."""
        number = int(IPv4Address(address))
        if self._taken.pop(number, None) is not None:
            self._resting.add(number)

    def free(self, address: str) -> None:
        """Nothing has it any more; nothing had it is success."""
        number = int(IPv4Address(address))
        self._resting.discard(number)
        self._taken.pop(number, None)

    def taken(self) -> dict[str, str]:
        """Address → endpoint."""
        return {str(IPv4Address(number)): owner for number, owner in sorted(self._taken.items())}

    def _take_wanted(self, owner: str, wanted: str) -> IPv4Address:
        address = parse_address(wanted)
        if address not in self.cidr or int(address) in self._reserved:
            raise InvalidRequest(
                f"invalid address {wanted}: it does not belong to any of this network's subnets ({self.cidr})"
                if address not in self.cidr
                else f"invalid address {wanted}: it is the gateway's or otherwise reserved"
            )
        if int(address) in self._resting:
            raise AddressResting(f"the address {wanted} is not free yet")
        holder = self._taken.get(int(address))
        if holder is not None:
            raise Conflict(
                f"Address already in use: {wanted} of network {self._network} is endpoint {holder[:12]}'s"
            )
        self._taken[int(address)] = owner
        return address

    def _take_next(self, owner: str) -> IPv4Address:
        first, size = int(self.range.network_address), self.range.num_addresses
        for step in range(size):
            number = first + (self._next + step) % size
            if number not in self._taken and number not in self._reserved and number not in self._resting:
                self._next = (number - first + 1) % size
                self._taken[number] = owner
                return IPv4Address(number)
        if self._resting:
            raise AddressResting(f"every address of network {self._network} is in use or resting")
        raise Conflict(
            f"no available IPv4 addresses on this network's address pools: {self._network} ({self.range})"
        )


def choose_subnet(taken: Mapping[IPv4Network, str], pools: Sequence[str] = POOLS) -> Subnet:
    """The first range that overlaps nothing `taken` (range → what has it), its first address as gateway."""
    blocked: list[str] = []
    for pool in pools:
        cidr = IPv4Network(pool)
        conflict = next((f"{other} ({why})" for other, why in taken.items() if cidr.overlaps(other)), None)
        if conflict is None:
            return Subnet(cidr=str(cidr), gateway=str(cidr.network_address + 1))
        if conflict not in blocked:
            blocked.append(conflict)
    raise Conflict(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network; "
        f"taken: {', '.join(blocked)}"
    )


def check_subnet(subnet: Subnet, taken: Mapping[IPv4Network, str]) -> Subnet:
    """A range that somebody asked for, its gateway filled in. InvalidRequest, Conflict."""
    cidr = parse_subnet(subnet.cidr)
    for other, why in taken.items():
        if cidr.overlaps(other):
            raise Conflict(f"Pool overlaps with other one on this address space: {cidr} with {other} ({why})")
    gateway = parse_address(subnet.gateway) if subnet.gateway else cidr.network_address + 1
    if gateway not in cidr:
        raise InvalidRequest(f"the gateway {gateway} is not in the subnet {cidr}")
    if subnet.range and not parse_subnet(subnet.range).subnet_of(cidr):
        raise InvalidRequest(f"the range {subnet.range} is not in the subnet {cidr}")
    return Subnet(cidr=str(cidr), gateway=str(gateway), range=subnet.range, auxiliary=subnet.auxiliary)


def parse_subnet(text: str) -> IPv4Network:
    try:
        return IPv4Network(text, strict=False)
    except ValueError as error:
        if ":" in text:
            raise InvalidRequest(f"IPv6 subnets are not supported yet: {text}") from error
        raise InvalidRequest(f"invalid subnet {text}: {error}") from error


def parse_address(text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise InvalidRequest(f"invalid IPv4 address: {text}") from error


def overlapping(routes: Iterable[str], addresses: Iterable[str]) -> dict[IPv4Network, str]:
    """Ranges in use on this host, from its routes' destinations and its interfaces' networks.

    A default route takes nothing, and neither do the halves that VPNs split it into.
    """
    taken: dict[IPv4Network, str] = {}
    for text, why in (*((r, "a route") for r in routes), *((a, "an interface's address") for a in addresses)):
        network = ipaddress.ip_network(text, strict=False)
        if isinstance(network, IPv4Network) and network.prefixlen > 1 and not network.is_loopback:
            taken.setdefault(network, why)
    return taken


def mac_of(address: str) -> str:
    """The MAC that goes with an IPv4 address, so that neighbours' memories stay right when the address comes back."""
    return "02:42:" + ":".join(f"{part:02x}" for part in IPv4Address(address).packed)
