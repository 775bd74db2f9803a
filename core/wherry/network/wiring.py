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
from typing import Final

from wherry.errors import Conflict, WherryError
from wherry.linux.links import mac_bytes
from wherry.network.addresses import Addresses, AddressResting, mac_of
from wherry.plugins import Driver
from wherry.spec.container import EndpointRequest
from wherry.spec.network import Endpoint, Joined, Network, PortBinding, Sandbox
from wherry.spec.services import Log

_RESTING_TIMEOUT: Final = 10.0
_GONE_TIMEOUT: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Leaving:
    sandbox: Sandbox
    network: Network
    endpoint: Endpoint
    interface: str
    since: float


class Wiring:
    """The endpoints of an engine. Safe to share."""

    def __init__(self, driver: Callable[[str], Driver], log: Log) -> None:
        self._driver = driver
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

    def allocate(
        self,
        container_id: str,
        network: Network,
        request: EndpointRequest,
        *,
        interface: str,
        mac: str = "",
        ports: tuple[PortBinding, ...] = (),
    ) -> Endpoint:
        """An endpoint with its address. Conflict if an address or MAC that was asked for is taken."""
        wanted = request.ipam_config.ipv4_address if request.ipam_config else ""
        mac = request.mac_address or mac
        if mac:
            mac = ":".join(f"{part:02x}" for part in mac_bytes(mac))
        deadline = time.monotonic() + _RESTING_TIMEOUT
        with self._changed:
            endpoint_id = self._new_id()
            for other in self._endpoints.values():
                if mac and other.network_id == network.id and other.mac == mac:
                    raise Conflict(f"MAC address {mac} is already used in network {network.name}")
            while True:
                try:
                    address, prefix, gateway = self._take(network, endpoint_id, wanted)
                    break
                except AddressResting:
                    if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                        raise
            endpoint = Endpoint(
                id=endpoint_id,
                container_id=container_id,
                network_id=network.id,
                interface=interface,
                mac=mac or (mac_of(address) if address else ""),
                ipv4=address,
                ipv4_prefix=prefix,
                ipv4_gateway="" if network.internal else gateway,
                aliases=tuple(request.aliases or ()),
                ports=ports,
            )
            self._endpoints[endpoint_id] = endpoint
        return endpoint

    def hold(self, network: Network, endpoint: Endpoint) -> None:
        """Enter an endpoint that lives already."""
        with self._changed:
            self._endpoints[endpoint.id] = endpoint
            if endpoint.ipv4:
                for addresses in self._of(network):
                    addresses.hold(endpoint.ipv4, endpoint.id)

    def forget(self, network: Network, endpoint: Endpoint) -> None:
        """Give back an endpoint that nothing in the kernel has (any more)."""
        with self._changed:
            self._endpoints.pop(endpoint.id, None)
            self._interfaces.pop(endpoint.id, None)
            if endpoint.ipv4:
                for addresses in self._of(network):
                    addresses.free(endpoint.ipv4)
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
            for addresses in self._of(network):
                if endpoint.ipv4:
                    addresses.rest(endpoint.ipv4)
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
            return sorted(endpoint.ipv4 for endpoint in self._endpoints.values() if endpoint.ipv4)

    def close(self) -> None:
        """Finish what is left behind, without waiting for the kernel."""
        self._hurry.set()
        self._leaving.put(None)
        if self._worker is not None:
            self._worker.join()

    # ---- Under the lock

    def _take(self, network: Network, owner: str, wanted: str) -> tuple[str, int, str]:
        pools = self._of(network)
        if not pools:
            return "", 0, ""
        fitting = [pool for pool in pools if not wanted or pool.holds(wanted)] or pools[:1]
        for pool in fitting[:-1]:
            try:
                return pool.take(owner, wanted), pool.cidr.prefixlen, pool.gateway
            except Conflict:
                continue
        return fitting[-1].take(owner, wanted), fitting[-1].cidr.prefixlen, fitting[-1].gateway

    def _of(self, network: Network) -> list[Addresses]:
        found = []
        for subnet in network.subnets:
            key = (network.id, subnet.cidr)
            if key not in self._addresses:
                self._addresses[key] = Addresses(network.name, subnet)
            found.append(self._addresses[key])
        return found

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
