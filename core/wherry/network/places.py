"""Which networks there are: the three that always exist, and those that users made.

bridge   the default network, its range free on this host when it was chosen
host     the host's own namespace
none     nothing but loopback
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, Final

from wherry.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unsupported
from wherry.linux import links
from wherry.linux.netlink import Netlink
from wherry.network import addresses, records
from wherry.network.connection import NetworkSettings
from wherry.spec.network import Network, Subnet
from wherry.spec.services import Log

PREDEFINED: Final = ("bridge", "host", "none")
DEFAULT_INTERFACE: Final = "wherry0"
_PREFIX: Final = "com.docker.network.bridge."
_MTU: Final = "com.docker.network.driver.mtu"


class Places:
    """The networks of an engine, as recorded. Safe to share; wiring them is left to `Networks`."""

    def __init__(self, directory: Path, settings: NetworkSettings, log: Log) -> None:
        self._directory = directory
        self._settings = settings
        self._log = log
        self._networks: dict[str, Network] = {}
        self._lock = threading.Lock()

    def load(self, in_use: Iterable[str]) -> list[str]:
        """Read the records, make the predefined networks; answers what changed.

        The default bridge keeps its range while one of the networks `in_use` (ids) is it, or nothing else has it.
        """
        changed: list[str] = []
        self._networks = records.load(self._directory, self._log)
        by_name = {network.name: network for network in self._networks.values()}
        for name in ("host", "none"):
            if name not in by_name:
                self._put(Network(id=records.new_id(), name=name, driver=name, created=records.now()))
        old = by_name.get("bridge")
        if self._settings.bridge == "none":
            if old is not None:
                self._drop(old)
            return changed
        new = self._default_bridge(old, old is not None and old.id in set(in_use))
        if new != old:
            self._put(new)
            if old is not None and old.subnets != new.subnets:
                changed.append(
                    f"network bridge has the range {new.subnets[0].cidr} instead of {old.subnets[0].cidr}"
                )
        return changed

    def all(self) -> list[Network]:
        with self._lock:
            return sorted(self._networks.values(), key=lambda network: (network.created, network.name))

    def get(self, wanted: str) -> Network:
        """By name, id or the beginning of an id; NotFound."""
        with self._lock:
            return records.find(self._networks, "bridge" if wanted == "default" else wanted)

    def plan(self, asked: Network, engine_id: str) -> Network:
        """A network as it will be made of what a user asked for; nothing is recorded. InvalidRequest, Conflict, …"""
        if asked.name in (*PREDEFINED, "default") or not asked.name:
            raise Forbidden(f"operation is not permitted on predefined {asked.name or 'nameless'} network")
        if "/" in asked.name or ":" in asked.name or asked.name != asked.name.strip():
            raise InvalidRequest(f"invalid network name: {asked.name!r}")
        driver = asked.driver or "bridge"
        if driver in ("host", "none", "null"):
            raise Forbidden(f'only one instance of "{driver}" network is allowed')
        if asked.ipv6:
            raise Unsupported("IPv6 networks are not supported yet")
        if any(network.name == asked.name for network in self.all()):
            raise Conflict(f"network with name {asked.name} already exists")
        taken = self._taken(None)
        if asked.subnets:
            subnets = tuple(addresses.check_subnet(subnet, taken) for subnet in asked.subnets)
        else:
            subnets = (addresses.choose_subnet(taken, self._settings.pools or addresses.POOLS),)
        identity = asked.id or records.new_id()
        options = dict(asked.options)
        return dataclasses.replace(
            asked,
            id=identity,
            driver=driver,
            subnets=subnets,
            interface=_interface_name(
                options.get(f"{_PREFIX}name", "") or f"br-{engine_id[:4]}{identity[:8]}"
            ),
            mtu=_number(options.get(_MTU, ""), _MTU) or self._mtu(),
            icc=_truth(options.get(f"{_PREFIX}enable_icc", ""), asked.icc),
            masquerade=_truth(options.get(f"{_PREFIX}enable_ip_masquerade", ""), asked.masquerade),
            created=asked.created or records.now(),
        )

    def put(self, network: Network) -> None:
        """Promise a network's record."""
        with self._lock:
            if any(n.name == network.name and n.id != network.id for n in self._networks.values()):
                raise Conflict(f"network with name {network.name} already exists")
            self._put(network)

    def drop(self, network: Network) -> None:
        """Forget a network; already gone is success."""
        with self._lock:
            self._drop(network)

    def _put(self, network: Network) -> None:
        records.save(self._directory, network)
        self._networks = {**self._networks, network.id: network}

    def _drop(self, network: Network) -> None:
        self._networks = {k: n for k, n in self._networks.items() if k != network.id}
        records.remove(self._directory, network)

    # ---- The default bridge

    def _default_bridge(self, old: Network | None, in_use: bool) -> Network:
        settings = self._settings
        interface = _interface_name(settings.bridge or DEFAULT_INTERFACE)
        subnet = self._default_subnet(old, in_use, interface)
        mtu = self._mtu()
        options = {
            f"{_PREFIX}default_bridge": "true",
            f"{_PREFIX}enable_icc": str(settings.icc).lower(),
            f"{_PREFIX}enable_ip_masquerade": str(settings.ip_masq).lower(),
            f"{_PREFIX}host_binding_ipv4": settings.default_address or "0.0.0.0",
            f"{_PREFIX}name": interface,
            _MTU: str(mtu),
        }
        return Network(
            id=old.id if old else records.new_id(),
            name="bridge",
            driver="bridge",
            subnets=(subnet,),
            interface=interface,
            mtu=mtu,
            icc=settings.icc,
            masquerade=settings.ip_masq,
            options=options,
            created=old.created if old else records.now(),
        )

    def _default_subnet(self, old: Network | None, in_use: bool, interface: str) -> Subnet:
        settings = self._settings
        if settings.bip:
            bip = IPv4Interface(settings.bip)
            return addresses.check_subnet(
                Subnet(cidr=str(bip.network), gateway=str(bip.ip), range=settings.fixed_cidr), {}
            )
        if old is not None and old.subnets:
            recorded = dataclasses.replace(old.subnets[0], range=settings.fixed_cidr)
            taken = self._taken(old)
            ours = IPv4Network(recorded.cidr)
            if in_use or not any(ours.overlaps(other) for other in taken):
                return recorded
        has = _interface_address(interface)
        if has is not None:  # a bridge that somebody made for us, or that we left
            return addresses.check_subnet(
                Subnet(cidr=str(has.network), gateway=str(has.ip), range=settings.fixed_cidr), {}
            )
        pools = settings.pools or (addresses.DEFAULT_BRIDGE, *addresses.POOLS)
        chosen = addresses.choose_subnet(self._taken(old), pools)
        return addresses.check_subnet(dataclasses.replace(chosen, range=settings.fixed_cidr), {})

    def _taken(self, but: Network | None) -> Mapping[IPv4Network, str]:
        """Ranges that a new network may not have: this host's, and those of other networks recorded."""
        networks = [network for network in self._networks.values() if but is None or network.id != but.id]
        with Netlink() as nl:
            skipped = links.find(nl, but.interface) if but is not None else None
            index = skipped.index if skipped else -1
            routes = [route.destination for route in links.routes(nl) if route.index != index]
            on_links = [
                str(a.network) for a in links.addresses(nl) if a.index != index and ":" not in a.address
            ]
        taken = {
            IPv4Network(subnet.cidr): f"network {network.name}"
            for network in networks
            for subnet in network.subnets
        }
        return taken | {k: v for k, v in addresses.overlapping(routes, on_links).items() if k not in taken}

    def _mtu(self) -> int:
        return self._settings.mtu or min(1500, _way_out_mtu())


def _way_out_mtu() -> int:
    """The smallest MTU of the interfaces that default routes leave by: a bigger one hangs TLS behind a VPN."""
    with Netlink() as nl:
        ways = {route.index for route in links.routes(nl) if route.destination == "0.0.0.0/0"}
        found = [link.mtu for link in links.every(nl) if link.index in ways] if ways else []
    return min(found, default=1500)


def _interface_address(name: str) -> IPv4Interface | None:
    with Netlink() as nl:
        link = links.find(nl, name)
        if link is None:
            return None
        for address in links.addresses(nl):
            if address.index == link.index and ":" not in address.address:
                return IPv4Interface(f"{address.address}/{address.prefix}")
    return None


def _interface_name(name: str) -> str:
    if not 0 < len(name.encode()) <= links.NAME_MAX or any(c in '/:"\\' or c.isspace() for c in name):
        raise InvalidRequest(
            f"invalid name of an interface: {name!r}: at most {links.NAME_MAX} bytes, no / : or space"
        )
    return name


def _truth(text: str, default: bool) -> bool:
    match text.lower():
        case "":
            return default
        case "true" | "1" | "t":
            return True
        case "false" | "0" | "f":
            return False
    raise InvalidRequest(f"invalid value {text!r}: true or false is expected")


def _number(text: str, name: str) -> int:
    if text and not (text.isdecimal() and 68 <= int(text) <= 65535):
        raise InvalidRequest(f"invalid value {text!r} of {name}: a number from 68 to 65535 is expected")
    return int(text or 0)


def refuse_predefined(network: Network) -> None:
    """Forbidden for a network that always exists."""
    if network.name in PREDEFINED:
        raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")


def refuse_members(network: Network, in_use: Callable[[str], Any]) -> None:
    """Forbidden for a network that containers are in."""
    if in_use(network.id):
        raise Forbidden(
            f"error while removing network: network {network.name} id {network.id} has active endpoints"
        )


def known(places: Places, name: str) -> Network | None:
    """The network of this name, or None."""
    try:
        return places.get(name)
    except NotFound:
        return None
