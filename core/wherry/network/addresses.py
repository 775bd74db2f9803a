"""Addresses: which address of a network's ranges an endpoint gets.

What is taken is derived from the endpoints that live, at start-up, and kept in memory: there is no second database that
could disagree. An address that was given back *rests* until its link is really gone, because the kernel clears up later
than we do; new ones are handed out in a circle, so that one just freed is the last to come back. An address that a
container was promised by name is not handed out to others, also while that container does not run.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from wherry.errors import Conflict, InvalidRequest
from wherry.spec.network import Subnet

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

ROUTER: Final = ("DefaultGatewayIPv4", "DefaultGatewayIPv6")
"""Names of auxiliary addresses that are the way out in place of the host's own: `--default-gateway`."""


class AddressResting(Conflict):
    """The address was given back, and its link is not gone yet: soon."""


class Addresses:
    """The addresses of one range of one network. Not for two threads at once."""

    def __init__(
        self, network: str, subnet: Subnet, promised: Callable[[str], bool] = lambda address: False
    ) -> None:
        """`promised` tells of an address whether some container was promised it."""
        self._network = network
        self._promised = promised
        self.cidr: Final = parse_subnet(subnet.cidr)
        self.range: Final = parse_subnet(subnet.range) if subnet.range else self.cidr
        self.gateway: Final = next(
            (subnet.auxiliary[name] for name in ROUTER if name in subnet.auxiliary), subnet.gateway
        )
        """What endpoints have as their gateway."""
        self._taken: dict[int, str] = {}
        self._resting: set[int] = set()
        self._next = 0
        self._reserved = set(_ends(self.cidr))
        self._reserved.update(int(parse_address(text)) for text in subnet.auxiliary.values())
        if subnet.gateway:
            self._reserved.add(int(parse_address(subnet.gateway)))

    def take(self, owner: str, wanted: str = "") -> str:
        """An address for an endpoint, `wanted` or the next free one. Conflict; AddressResting if it will be free soon."""
        return str(self._take_wanted(owner, wanted) if wanted else self._take_next(owner))

    def holds(self, address: str) -> bool:
        """Whether this address is of this range."""
        return parse_address(address) in self.cidr

    def hold(self, address: str, owner: str) -> None:
        """Mark an address that a living endpoint has, whatever else is known of it; not of this range is success."""
        found = parse_address(address)
        if found not in self.cidr:
            return
        self._taken[int(found)] = owner
        if found in self.range:
            self._next = max(self._next, int(found) - int(self.range.network_address) + 1)

    def rest(self, address: str) -> None:
        """Given back, and not to be handed out before `free`."""
        number = int(parse_address(address))
        if self._taken.pop(number, None) is not None:
            self._resting.add(number)

    def free(self, address: str) -> None:
        """Nothing has it any more; nothing had it is success."""
        number = int(parse_address(address))
        self._resting.discard(number)
        self._taken.pop(number, None)

    def taken(self) -> dict[str, str]:
        """Address → endpoint."""
        return {str(self._address(number)): owner for number, owner in sorted(self._taken.items())}

    def _address(self, number: int) -> IPAddress:
        return IPv4Address(number) if self.cidr.version == 4 else IPv6Address(number)

    def _take_wanted(self, owner: str, wanted: str) -> IPAddress:
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

    def _take_next(self, owner: str) -> IPAddress:
        first, size = int(self.range.network_address), self.range.num_addresses
        for step in range(size):
            number = first + (self._next + step) % size
            if number in self._taken or number in self._reserved or number in self._resting:
                continue
            address = self._address(number)
            if self._promised(str(address)):
                continue
            self._next = (number - first + 1) % size
            self._taken[number] = owner
            return address
        if self._resting:
            raise AddressResting(f"every address of network {self._network} is in use or resting")
        raise Conflict(
            f"no available IPv{self.cidr.version} addresses on this network's address pools: "
            f"{self._network} ({self.range})"
        )


def _ends(cidr: IPNetwork) -> set[int]:
    """Addresses that no host has: the network's and the broadcast's; of IPv6 that of all its routers (RFC 4291, 2.6.1)."""
    if cidr.max_prefixlen - cidr.prefixlen < 2:
        return set()
    first, last = int(cidr.network_address), int(cidr.broadcast_address)
    return {first, last} if cidr.version == 4 else {first}


def check_subnet(subnet: Subnet, *, gateway: bool = True) -> Subnet:
    """A range that somebody asked for, with its gateway filled in unless `gateway` is false. InvalidRequest."""
    cidr = parse_subnet(subnet.cidr)
    chosen = subnet.gateway
    if chosen:
        if (address := parse_address(chosen)) not in cidr:
            raise InvalidRequest(f"the gateway {address} is not in the subnet {cidr}")
        chosen = str(address)
    elif gateway:
        lone = cidr.num_addresses == 1
        chosen = str(cidr.network_address if lone else cidr.network_address + 1)
    part = ""
    if subnet.range:
        found = parse_subnet(subnet.range)
        if found.version != cidr.version or not _inside(found, cidr):
            raise InvalidRequest(f"the range {subnet.range} is not in the subnet {cidr}")
        part = str(found)
    for name, text in subnet.auxiliary.items():
        if parse_address(text) not in cidr:
            raise InvalidRequest(f"the auxiliary address {name}={text} is not in the subnet {cidr}")
    return Subnet(cidr=str(cidr), gateway=chosen, range=part, auxiliary=subnet.auxiliary)


def _inside(part: IPNetwork, whole: IPNetwork) -> bool:
    return part.network_address in whole and part.broadcast_address in whole


def parse_subnet(text: str) -> IPNetwork:
    """A range in CIDR form; bits behind the prefix are dropped. InvalidRequest."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidRequest(f"invalid subnet {text}: {error}") from error


def parse_address(text: str) -> IPAddress:
    """InvalidRequest for what is no address, or one with a zone."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidRequest(f"invalid IP address: {text}") from error
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        raise InvalidRequest(f"invalid IP address: {text}: it has a zone")
    return found


def mac_of(address: str) -> str:
    """The MAC that goes with an address, so that neighbours' memories stay right when the address comes back.

    The reference's rule: 02:42 and the four bytes of an IPv4 address; of an IPv6 address the last four.
    """
    return "02:42:" + ":".join(f"{part:02x}" for part in parse_address(address).packed[-4:])
