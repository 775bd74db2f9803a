"""Which networks there are: the three that always exist, and those that users made.

bridge   the default network, its range free on this host when it was chosen
host     the host's own namespace
none     nothing but loopback
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from wherry.errors import Conflict, Forbidden, NotFound
from wherry.network import default_bridge, host, plans, records
from wherry.network.addresses import IPNetwork, parse_subnet
from wherry.network.connection import NetworkSettings
from wherry.spec.network import Network
from wherry.spec.services import Log

PREDEFINED: Final = ("bridge", "host", "none")


class Places:
    """The networks of an engine, as recorded. Safe to share; wiring them is left to `Networks`."""

    def __init__(self, directory: Path, settings: NetworkSettings, engine_id: str, log: Log) -> None:
        self._directory = directory
        self._settings = settings
        self._engine_id = engine_id
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
        new = default_bridge.planned(
            old,
            old is not None and old.id in set(in_use),
            self._settings,
            self._engine_id,
            lambda: self._taken(old),
        )
        if new != old:
            self._put(new)
            if old is not None and old.subnets != new.subnets:
                changed.append(f"network bridge has the range {_ranges(new)} instead of {_ranges(old)}")
        return changed

    def all(self) -> list[Network]:
        with self._lock:
            return sorted(self._networks.values(), key=lambda network: (network.created, network.name))

    def get(self, wanted: str) -> Network:
        """By name, id or the beginning of an id; NotFound."""
        with self._lock:
            return records.find(self._networks, "bridge" if wanted == "default" else wanted)

    def plan(self, asked: Network) -> Network:
        """A network as it will be made of what a user asked for; nothing is recorded. InvalidRequest, Conflict, …"""
        if asked.name in (*PREDEFINED, "default") or not asked.name:
            raise Forbidden(f"operation is not permitted on predefined {asked.name or 'nameless'} network")
        networks = self.all()
        if any(network.name == asked.name for network in networks):
            raise Conflict(f"network with name {asked.name} already exists")
        planned = plans.planned(
            asked, self._settings, self._engine_id, plans.Ranges(ours=_ours(networks), others=host.ranges)
        )
        for network in networks:
            if planned.interface and network.interface == planned.interface:
                raise Conflict(
                    f"cannot create network {planned.id} ({planned.interface}): conflicts with network {network.id} "
                    f"({network.interface}): networks have same bridge name"
                )
        return planned

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

    def shadows(self) -> list[str]:
        """Sentences about networks whose range somebody else on this host has come to use."""
        found = []
        for network in self._networks.values():
            others = host.ranges(network.interface)
            for subnet in network.subnets:
                cidr = parse_subnet(subnet.cidr)
                for other, why in others.items():
                    if other.version == cidr.version and other.overlaps(cidr) and network.interface:
                        found.append(f"the range {cidr} of network {network.name} overlaps {other} ({why})")
        return found

    def _put(self, network: Network) -> None:
        records.save(self._directory, network)
        self._networks = {**self._networks, network.id: network}

    def _drop(self, network: Network) -> None:
        self._networks = {k: n for k, n in self._networks.items() if k != network.id}
        records.remove(self._directory, network)

    def _taken(self, but: Network | None) -> dict[IPNetwork, str]:
        """Ranges that the default network may not have: this host's, and those of other networks recorded."""
        others = [network for network in self._networks.values() if but is None or network.id != but.id]
        return {**host.ranges(but.interface if but is not None else ""), **_ours(others)}


def _ours(networks: Iterable[Network]) -> dict[IPNetwork, str]:
    return {
        parse_subnet(subnet.cidr): f"network {network.name}"
        for network in networks
        for subnet in network.subnets
    }


def _ranges(network: Network) -> str:
    return ", ".join(subnet.cidr for subnet in network.subnets)


def refuse_predefined(network: Network) -> None:
    """Forbidden for a network that always exists."""
    if network.name in PREDEFINED:
        raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")


def refuse_members(network: Network, in_use: Callable[[str], Any]) -> None:
    """Forbidden for a network that containers are in."""
    if members := in_use(network.id):
        names = [str(member[0]) for member in members.values()] if isinstance(members, dict) else []
        who = f" ({', '.join(sorted(names)[:5])})" if names else ""
        raise Forbidden(
            f"error while removing network: network {network.name} id {network.id} has active endpoints{who}"
        )


def known(places: Places, name: str) -> Network | None:
    """The network of this name, or None."""
    try:
        return places.get(name)
    except NotFound:
        return None
