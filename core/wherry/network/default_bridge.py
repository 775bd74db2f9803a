"""The default network: its link and ranges, from what the daemon was told and from what it was before."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

from wherry.errors import InvalidRequest
from wherry.network import host, pools, records
from wherry.network.addresses import ROUTER, IPNetwork, check_subnet, parse_subnet
from wherry.network.connection import NetworkSettings
from wherry.network.plans import BRIDGE, MTU, interface_name
from wherry.network.pools import Taken
from wherry.spec.network import Network, Subnet

INTERFACE: Final = "wherry0"

Ranges = Callable[[], Taken]


def planned(
    old: Network | None, in_use: bool, settings: NetworkSettings, engine_id: str, taken: Ranges
) -> Network:
    """The default network as it shall be; it keeps its ranges while it is `in_use` or nothing else has them."""
    interface = interface_name(settings.bridge or INTERFACE)
    subnets = [_ipv4(old, in_use, interface, settings, taken)]
    ipv6 = settings.ipv6 and host.has_ipv6()
    if ipv6:
        subnets.append(_ipv6(old, in_use, settings, engine_id, taken))
    mtu = settings.mtu or host.way_out_mtu()
    options = {
        f"{BRIDGE}default_bridge": "true",
        f"{BRIDGE}enable_icc": str(settings.icc).lower(),
        f"{BRIDGE}enable_ip_masquerade": str(settings.ip_masq).lower(),
        f"{BRIDGE}host_binding_ipv4": settings.default_address or "0.0.0.0",
        f"{BRIDGE}name": interface,
        MTU: str(mtu),
    }
    return Network(
        id=old.id if old else records.new_id(),
        name="bridge",
        driver="bridge",
        subnets=tuple(subnets),
        interface=interface,
        ipv6=ipv6,
        mtu=mtu,
        icc=settings.icc,
        masquerade=settings.ip_masq,
        options=options,
        created=old.created if old else records.now(),
    )


def _ipv4(
    old: Network | None, in_use: bool, interface: str, settings: NetworkSettings, taken: Ranges
) -> Subnet:
    extra = {ROUTER[0]: settings.default_gateway} if settings.default_gateway else {}
    if settings.bip:
        bip = IPv4Interface(settings.bip)
        return _whole(bip.network, str(bip.ip), settings.fixed_cidr, extra)
    recorded = _recorded(old, False)
    if recorded is not None and (in_use or _is_free(recorded, taken())):
        return _whole(parse_subnet(recorded.cidr), recorded.gateway, settings.fixed_cidr, extra)
    has = host.interface_address(interface)
    if has is not None:  # a bridge that somebody made for us, or that we left
        return _whole(has.network, str(has.ip), settings.fixed_cidr, extra)
    stock = [pool for pool in settings.pools if pool.base.version == 4] or pools.DEFAULT_BRIDGE
    chosen = pools.choose(taken(), stock, 4)
    return _whole(parse_subnet(chosen.cidr), chosen.gateway, settings.fixed_cidr, extra)


def _ipv6(
    old: Network | None, in_use: bool, settings: NetworkSettings, engine_id: str, taken: Ranges
) -> Subnet:
    extra = {ROUTER[1]: settings.default_gateway_v6} if settings.default_gateway_v6 else {}
    if settings.bip6:
        bip = IPv6Interface(settings.bip6)
        return _whole(bip.network, str(bip.ip), settings.fixed_cidr_v6, extra)
    if settings.fixed_cidr_v6:
        return _whole(parse_subnet(settings.fixed_cidr_v6), "", "", extra)
    recorded = _recorded(old, True)
    if recorded is not None and (in_use or _is_free(recorded, taken())):
        return _whole(parse_subnet(recorded.cidr), recorded.gateway, "", extra)
    stock = [pool for pool in settings.pools if pool.base.version == 6] or [pools.local_pool(engine_id)]
    return dataclasses.replace(pools.choose(taken(), stock, 6), auxiliary=extra)


def _whole(cidr: IPNetwork, gateway: str, part: str, extra: dict[str, str]) -> Subnet:
    if gateway and gateway in extra.values():
        extra = {}
    try:
        return check_subnet(Subnet(cidr=str(cidr), gateway=gateway, range=part, auxiliary=extra))
    except InvalidRequest as error:
        raise InvalidRequest(f"the default network cannot be as configured: {error}") from error


def _recorded(old: Network | None, ipv6: bool) -> Subnet | None:
    if old is None:
        return None
    return next((subnet for subnet in old.subnets if subnet.is_ipv6 == ipv6), None)


def _is_free(subnet: Subnet, taken: Taken) -> bool:
    ours = parse_subnet(subnet.cidr)
    return not any(pools.overlap(ours, other) for other in taken)
