"""Endpoints: a container's places in networks, made with an address each, wired by the network's driver, and undone.

Undoing has a quick part and a slow one. A veth goes with its sandbox, which the kernel clears up in its own time;
deleting it by hand waits 30 ms. So a thread behind waits until it is gone, calls the driver's `leave` in any case, and
only then frees the address.
"""

from __future__ import annotations

import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from wherry.errors import Conflict, InvalidRequest, WherryError
from wherry.network.addresses import Addresses, AddressResting, mac_of
from wherry.plugins import Driver
from wherry.spec.container import EndpointRequest, IPAMChoice
from wherry.spec.network import Endpoint, Joined, Network, Sandbox
from wherry.spec.services import Log
from wherry.undo import Undo

_RESTING_TIMEOUT: Final = 10.0
_GONE_TIMEOUT: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a new endpoint shall be."""

    container_id: str
    request: EndpointRequest
    interface: str
    mac: str = ""
    name: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Taken:
    address: str
    prefix: int
    gateway: str


@dataclass(frozen=True, slots=True)
class _Leaving:
    sandbox: Sandbox
    network: Network
    endpoint: Endpoint
    interface: str
    since: float


class Wiring:
    """The endpoints of an engine. Safe to share."""

    def __init__(
        self, driver: Callable[[str], Driver], log: Log, promised: Callable[[str, str], bool] | None = None
    ) -> None:
        """`promised(network's name, address)` tells whether some container was promised an address."""
        self._driver = driver
        self._promised = promised or (lambda network, address: False)
        self._log = log
        self._addresses: dict[tuple[str, str], Addresses] = {}  # (network id, subnet) → its addresses
        self._endpoints: dict[str, Endpoint] = {}
        self._interfaces: dict[str, str] = {}  # endpoint id → the host's end of its link
        self._changed = threading.Condition()
        self._leaving: queue.SimpleQueue[_Leaving | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._hurry = threading.Event()

    def start(self) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="network", daemon=True)
            self._worker.start()

    # ---- Endpoints

    def allocate(self, network: Network, wish: Wish) -> Endpoint:
        """An endpoint with its addresses. Conflict if an address or MAC that was asked for is taken."""
        request = wish.request
        asked = request.ipam_config or IPAMChoice()
        with self._changed:
            endpoint_id = self._new_id()
            if wish.mac:
                self._refuse_mac(network, wish.mac)
            ipv4, ipv6 = self._take_both(network, endpoint_id, asked)
            endpoint = Endpoint(
                id=endpoint_id,
                container_id=wish.container_id,
                network_id=network.id,
                name=wish.name,
                interface=wish.interface,
                mac=wish.mac or self._mac(network, ipv4.address or ipv6.address),
                ipv4=ipv4.address,
                ipv4_prefix=ipv4.prefix,
                ipv4_gateway="" if network.internal else ipv4.gateway,
                ipv6=ipv6.address,
                ipv6_prefix=ipv6.prefix,
                ipv6_gateway="" if network.internal else ipv6.gateway,
                link_local=tuple(asked.link_local_ips or ()),
                aliases=wish.aliases,
                gateway_priority=request.gw_priority,
                options=request.driver_opts or {},
            )
            self._endpoints[endpoint_id] = endpoint
        return endpoint

    def hold(self, network: Network, endpoint: Endpoint) -> None:
        """Enter an endpoint that lives already."""
        with self._changed:
            self._endpoints[endpoint.id] = endpoint
            for addresses, address in self._addresses_of(network, endpoint):
                addresses.hold(address, endpoint.id)

    def change(self, endpoint: Endpoint) -> None:
        """An endpoint that lives is described otherwise; its addresses are the same."""
        with self._changed:
            if endpoint.id in self._endpoints:
                self._endpoints[endpoint.id] = endpoint

    def forget(self, network: Network, endpoint: Endpoint) -> None:
        """Give back an endpoint that nothing in the kernel has (any more)."""
        with self._changed:
            self._endpoints.pop(endpoint.id, None)
            self._interfaces.pop(endpoint.id, None)
            for addresses, address in self._addresses_of(network, endpoint):
                addresses.free(address)
            self._changed.notify_all()

    def join(self, sandbox: Sandbox, network: Network, endpoint: Endpoint) -> None:
        """Have the driver wire it."""
        driver = self._driver(network.driver)
        if not driver.has("join"):
            return
        joined: Joined = driver.call("join", sandbox=sandbox, network=network, endpoint=endpoint)
        if joined.host_interface:
            self._interfaces[endpoint.id] = joined.host_interface

    def leave(self, sandbox: Sandbox, network: Network, endpoint: Endpoint) -> None:
        """Undo `join` and `allocate`, behind: quick, and already gone is success."""
        with self._changed:
            for addresses, address in self._addresses_of(network, endpoint):
                addresses.rest(address)
            self._endpoints.pop(endpoint.id, None)
            interface = self._interfaces.pop(endpoint.id, "")
        self._leaving.put(_Leaving(sandbox, network, endpoint, interface, time.monotonic()))

    def leave_now(self, sandbox: Sandbox, network: Network, endpoint: Endpoint) -> None:
        """Undo `join` and `allocate` and wait for it."""
        try:
            driver = self._driver(network.driver)
            if driver.has("leave"):
                driver.call("leave", sandbox=sandbox, network=network, endpoint=endpoint)
        except WherryError as error:
            self._log.warning(f"leaving network {network.name}: {error}", container=endpoint.container_id)
        finally:
            self.forget(network, endpoint)

    def taken(self) -> list[str]:
        with self._changed:
            held = self._endpoints.values()
            return sorted(address for each in held for address in (each.ipv4, each.ipv6) if address)

    def close(self) -> None:
        """Finish what is left behind, without waiting for the kernel."""
        self._hurry.set()
        self._leaving.put(None)
        if self._worker is not None:
            self._worker.join()

    # ---- Under the lock

    def _take_both(self, network: Network, owner: str, asked: IPAMChoice) -> tuple[_Taken, _Taken]:
        """An address of each IP version that the network has; waits for one that rests."""
        deadline = time.monotonic() + _RESTING_TIMEOUT
        while True:
            with Undo() as undo:
                try:
                    ipv4 = self._take(network, owner, 4, asked.ipv4_address, undo)
                    ipv6 = self._take(network, owner, 6, asked.ipv6_address, undo)
                    undo.keep()
                    return ipv4, ipv6
                except AddressResting as error:
                    resting = error
            if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                raise resting

    def _take(self, network: Network, owner: str, version: int, wanted: str, undo: Undo) -> _Taken:
        pools = [pool for pool in self._of(network) if pool.cidr.version == version]
        if wanted and not any(pool.holds(wanted) for pool in pools):
            raise InvalidRequest(
                f"invalid address {wanted}: it does not belong to any of this network's subnets "
                f"({', '.join(str(pool.cidr) for pool in pools) or f'{network.name} has no IPv{version}'})"
            )
        error: Conflict | None = None
        for pool in pools:
            if wanted and not pool.holds(wanted):
                continue
            try:
                address = pool.take(owner, wanted)
            except Conflict as full:
                error = full if error is None or isinstance(full, AddressResting) else error
                continue
            undo.add(pool.free, address)
            return _Taken(address, pool.cidr.prefixlen, pool.gateway)
        if error is not None:
            raise error
        return _Taken("", 0, "")

    def _of(self, network: Network) -> list[Addresses]:
        found = []
        for subnet in network.subnets:
            key = (network.id, subnet.cidr)
            if key not in self._addresses:
                self._addresses[key] = Addresses(network.name, subnet, partial(self._promised, network.name))
            found.append(self._addresses[key])
        return found

    def _addresses_of(self, network: Network, endpoint: Endpoint) -> list[tuple[Addresses, str]]:
        return [
            (addresses, address)
            for addresses in self._of(network)
            for address in (endpoint.ipv4, endpoint.ipv6)
            if address and addresses.holds(address)
        ]

    def _refuse_mac(self, network: Network, mac: str) -> None:
        for other in self._endpoints.values():
            if other.network_id == network.id and other.mac == mac:
                raise Conflict(
                    f"MAC address {mac} is already used in network {network.name} by container "
                    f"{other.name or other.container_id[:12]}"
                )

    def _mac(self, network: Network, address: str) -> str:
        """The MAC that goes with an address, or one of no meaning if somebody was given that by name."""
        if not address:
            return ""
        mac = mac_of(address)
        used = {other.mac for other in self._endpoints.values() if other.network_id == network.id}
        while mac in used:
            mac = "02:42:" + ":".join(f"{part:02x}" for part in secrets.token_bytes(4))
        return mac

    def _new_id(self) -> str:
        """The first five digits differ from every other's: drivers make the names of links of them."""
        while True:
            made = secrets.token_hex(32)
            if not any(other.startswith(made[:5]) for other in self._endpoints):
                return made

    # ---- The thread behind

    def _work(self) -> None:
        while (leaving := self._leaving.get()) is not None:
            try:
                self._wait_until_gone(leaving)
                self.leave_now(leaving.sandbox, leaving.network, leaving.endpoint)
            except Exception as error:  # the thread must live: others' addresses wait for it
                self._log.error(f"leaving network {leaving.network.name}: {error}")

    def _wait_until_gone(self, leaving: _Leaving) -> None:
        pause = 0.002
        while leaving.interface and not self._hurry.is_set():
            if not _exists(leaving.interface) or time.monotonic() - leaving.since > _GONE_TIMEOUT:
                return
            self._hurry.wait(pause)
            pause = min(pause * 2, 0.05)


def _exists(interface: str) -> bool:
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True
