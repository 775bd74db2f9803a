"""From what a user asked of a network to the network that will be recorded: ranges chosen, options read, all checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from wherry.errors import Forbidden, InvalidRequest, Unsupported
from wherry.linux import links
from wherry.network import host, pools, records
from wherry.network.addresses import IPNetwork, check_subnet, parse_address
from wherry.network.connection import NetworkSettings
from wherry.network.pools import Pool, Taken
from wherry.spec.network import Network, Subnet

BRIDGE: Final = "com.docker.network.bridge."
"""What options of a network begin with that dockerd's bridge driver has."""
MTU: Final = "com.docker.network.driver.mtu"
PREFIX: Final = "com.docker.network.container_iface_prefix"
LEAST_IPV6_MTU: Final = 1280
"""RFC 8200, 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """What new ranges must not overlap: those of this engine's networks, and those that the host has at an interface."""

    ours: Taken
    others: Callable[[str], dict[IPNetwork, str]]
    """Interface to leave out → ranges."""


def planned(asked: Network, settings: NetworkSettings, engine_id: str, ranges: Ranges) -> Network:
    """InvalidRequest, Forbidden, Unsupported, and Conflict for a range that is in use."""
    name = asked.name
    if "/" in name or ":" in name or name != name.strip() or any(ord(c) < 32 for c in name):
        raise InvalidRequest(f"invalid network name: {name!r}")
    driver = asked.driver or "bridge"
    if driver in ("host", "none", "null"):
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if not (asked.ipv4 or asked.ipv6):
        raise InvalidRequest("IPv4 or IPv6 must be enabled")
    if asked.ipv6 and not host.has_ipv6():
        raise Unsupported("IPv6 networks are not supported: this kernel has no IPv6")
    options = dict(asked.options)
    identity = asked.id or records.new_id()
    mtu = number(options.get(MTU, ""), MTU) or settings.mtu or host.way_out_mtu()
    if asked.ipv6 and mtu < LEAST_IPV6_MTU:
        raise InvalidRequest(f"invalid MTU {mtu}: IPv6 needs at least {LEAST_IPV6_MTU}")
    for option in ("host_binding_ipv4", "host_binding_ipv6"):
        if text := options.get(BRIDGE + option, ""):
            parse_address(text)
    for family in ("ipv4", "ipv6"):
        if options.get(f"{BRIDGE}gateway_mode_{family}", "nat") != "nat":
            raise Unsupported(f"the option {BRIDGE}gateway_mode_{family} can only be nat")
    if prefix := options.get(PREFIX, ""):
        interface_name(f"{prefix}0")
    return dataclasses.replace(
        asked,
        id=identity,
        driver=driver,
        subnets=tuple(_subnets(asked, settings, engine_id, ranges)),
        interface=interface_name(options.get(f"{BRIDGE}name", "") or f"br-{engine_id[:4]}{identity[:8]}"),
        mtu=mtu,
        icc=truth(options.get(f"{BRIDGE}enable_icc", ""), asked.icc),
        masquerade=truth(options.get(f"{BRIDGE}enable_ip_masquerade", ""), asked.masquerade),
        created=asked.created or records.now(),
    )


def _subnets(asked: Network, settings: NetworkSettings, engine_id: str, ranges: Ranges) -> Sequence[Subnet]:
    """Those asked for, gateways filled in, and one chosen for each IP version that none was asked for of."""
    found: list[Subnet] = []
    for subnet in asked.subnets:
        if not subnet.cidr:
            continue
        if subnet.is_ipv6 and not asked.ipv6:
            raise InvalidRequest(f"the subnet {subnet.cidr} is IPv6, which this network has only with --ipv6")
        if not subnet.is_ipv6 and not asked.ipv4:
            raise InvalidRequest(f"the subnet {subnet.cidr} is IPv4, and this network is without")
        found.append(check_subnet(subnet))
    # Ranges that were asked for may be the host's as well: a bridge into the LAN, the network of a parent interface.
    pools.refuse_overlaps(found, ranges.ours)
    for version, wanted in ((4, asked.ipv4), (6, asked.ipv6)):
        if wanted and not any(subnet.is_ipv6 == (version == 6) for subnet in found):
            taken = {**ranges.others(""), **ranges.ours}
            found.append(pools.choose(taken, _pools(settings, engine_id, version), version))
    for subnet in asked.subnets:
        if not subnet.cidr and (subnet.gateway or subnet.range or subnet.auxiliary):
            raise InvalidRequest("every gateway, IP range and auxiliary address needs its subnet")
    return sorted(found, key=lambda subnet: subnet.is_ipv6)


def _pools(settings: NetworkSettings, engine_id: str, version: int) -> Sequence[Pool]:
    own = [pool for pool in settings.pools if pool.base.version == version]
    if own:
        return own
    return pools.POOLS if version == 4 else (pools.local_pool(engine_id),)


def interface_name(name: str) -> str:
    """The name, if an interface can have it. InvalidRequest."""
    usual = 0 < len(name.encode()) <= links.NAME_MAX and name not in (".", "..")
    if not usual or any(c in '/:"\\' or c.isspace() or ord(c) < 33 for c in name):
        raise InvalidRequest(
            f"invalid name of an interface: {name!r}: at most {links.NAME_MAX} bytes, no / : or space"
        )
    return name


def truth(text: str, default: bool) -> bool:
    """An option that is true or false. InvalidRequest."""
    match text.lower():
        case "":
            return default
        case "true" | "1" | "t":
            return True
        case "false" | "0" | "f":
            return False
    raise InvalidRequest(f"invalid value {text!r}: true or false is expected")


def number(text: str, name: str) -> int:
    """An MTU, 0 if nothing was said. InvalidRequest."""
    if text and not (text.isascii() and text.isdecimal() and len(text) < 6 and 68 <= int(text) <= 65535):
        raise InvalidRequest(f"invalid value {text!r} of {name}: a number from 68 to 65535 is expected")
    return int(text or 0)
