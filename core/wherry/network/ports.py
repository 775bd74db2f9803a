"""Published ports: a port of the host is ours while somebody holds a socket bound to it.

The socket is bound here and handed to the container's keeper, so nobody else on the host can take the port, also while
no daemon runs. It receives nothing of what the firewall sends to the container; what the firewall cannot send, the
keeper takes from it. The ledger beside it says whose a port is, for the error that names the owner, and for protocols
that this kernel has no sockets for.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from wherry.errors import Conflict, InvalidRequest
from wherry.network import binding
from wherry.network.addresses import parse_address
from wherry.spec.network import PortBinding

EPHEMERAL: Final = (49153, 65535)
EVERY_IPV6: Final = "::"
"""As `host_address`: every IPv6 address of the host. (Every IPv4 address is an empty text.)"""
_RELEASE_TIMEOUT: Final = 2.0

Protocol = Literal["tcp", "udp", "sctp"]
Held = tuple[PortBinding, int]
"""A port and the descriptor that holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortWish:
    """A port to publish. `first` 0: any port of the ephemeral range; `last`: the first free of the range is meant.

    `host_address` empty: on every address of the host, of both IP versions.
    """

    protocol: str
    container_port: int
    host_address: str = ""
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose a port is."""

    container_id: str
    name: str = ""

    def __str__(self) -> str:
        return f"container {self.name or self.container_id[:12]}"


class Ports:
    """The ledger of an engine's published ports. Safe to share."""

    def __init__(self, default_address: str = "") -> None:
        self._default = "" if default_address == "0.0.0.0" else default_address
        self._lock = threading.Lock()
        self._taken: dict[tuple[str, int], dict[str, Owner]] = {}  # (protocol, port) → address → owner
        self._released: dict[tuple[str, int], float] = {}
        self._cursor = EPHEMERAL[0]

    def claim(
        self, owner: Owner, wishes: Iterable[PortWish], default: str = ""
    ) -> tuple[tuple[PortBinding, ...], list[Held]]:
        """All wishes, or none: what they became, and what holds them (the caller's to hand on or to close).

        `default`: the address of wishes that name none, if not the daemon's. Conflict, in Docker's words and naming the
        owner, if a port is taken.
        """
        bindings: list[PortBinding] = []
        held: list[Held] = []
        with self._lock:
            try:
                for wish in wishes:
                    made = self._claim_one(owner, wish, default, held)
                    bindings += made
            except BaseException:
                binding.close(held)
                self._drop(bindings)
                raise
        return tuple(bindings), held

    def adopt(self, owner: Owner, bindings: Iterable[PortBinding]) -> None:
        """Enter what a living container has; its keeper holds the sockets."""
        with self._lock:
            for each in bindings:
                self._enter(owner, each)

    def release(self, bindings: Iterable[PortBinding]) -> None:
        """Strike from the ledger; not there is success. The sockets are their holders' to close."""
        with self._lock:
            self._drop(bindings)

    def taken(self) -> dict[str, str]:
        """`0.0.0.0:8080/tcp` → owner."""
        with self._lock:
            return {
                f"{binding.shown(address, port)}/{protocol}": str(owner)
                for (protocol, port), holders in sorted(self._taken.items())
                for address, owner in holders.items()
            }

    # ---- Under the lock

    def _claim_one(
        self, owner: Owner, wish: PortWish, default: str, held: list[Held]
    ) -> Sequence[PortBinding]:
        addresses = _addresses(wish.host_address or default or self._default)
        protocol = _protocol(wish.protocol)
        candidates = range(wish.first, max(wish.first, wish.last) + 1) if wish.first else self._ephemeral()
        first_error: Conflict | None = None
        for port in candidates:
            wanted = [
                PortBinding(
                    protocol=protocol,
                    container_port=wish.container_port,
                    host_address=address,
                    host_port=port,
                )
                for address in addresses
            ]
            try:
                made, sockets = self._take_all(owner, wanted, explicit=len(addresses) == 1)
            except Conflict as error:
                first_error = first_error or error
                continue
            held += sockets
            if not wish.first:
                self._cursor = port + 1 if port < EPHEMERAL[1] else EPHEMERAL[0]
            return made
        if first_error is not None and wish.first and wish.first >= wish.last:
            raise first_error
        where = f"{wish.first}-{wish.last}" if wish.first else f"{EPHEMERAL[0]}-{EPHEMERAL[1]}"
        raise Conflict(
            f"Bind for {addresses[0] or '0.0.0.0'}:{where} failed: all ports are allocated ({first_error})"
        ) from first_error

    def _take_all(
        self, owner: Owner, wanted: Sequence[PortBinding], *, explicit: bool
    ) -> tuple[list[PortBinding], list[Held]]:
        """One port on each of its addresses, or on none. IPv6 that the host has not is left out unless `explicit`."""
        made: list[PortBinding] = []
        held: list[Held] = []
        try:
            for each in wanted:
                if each.host_address == EVERY_IPV6 and not explicit and not binding.has_ipv6():
                    continue
                held += self._take(owner, each)
                made.append(each)
        except BaseException:
            binding.close(held)
            self._drop(made)
            raise
        return made, held

    def _take(self, owner: Owner, wanted: PortBinding) -> list[Held]:
        address, port = wanted.host_address, wanted.host_port
        for other, holder in self._taken.get((wanted.protocol, port), {}).items():
            if binding.meet(other, address):
                raise _allocated(wanted, f"by {holder}")
        # The keeper of a container that has just ended may hold its sockets a moment longer.
        deadline = self._released.get((wanted.protocol, port), 0.0) + _RELEASE_TIMEOUT
        while True:
            try:
                made = binding.bind(wanted)
                break
            except OSError as error:
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise InvalidRequest(
                        f"Bind for {binding.shown(address, port)} failed: cannot assign requested address: no interface "
                        "of this host has it"
                    ) from error
                if error.errno != errno.EADDRINUSE:
                    raise Conflict(
                        f"Bind for {binding.shown(address, port)} failed: {error.strerror}"
                    ) from error
                if time.monotonic() > deadline:
                    raise _allocated(wanted, binding.program(wanted)) from error
                time.sleep(0.002)
        self._enter(owner, wanted)
        return [] if made is None else [(wanted, made)]

    def _ephemeral(self) -> Iterable[int]:
        first, last = EPHEMERAL
        size = last - first + 1
        return (first + (self._cursor - first + step) % size for step in range(size))

    def _enter(self, owner: Owner, each: PortBinding) -> None:
        self._taken.setdefault((each.protocol, each.host_port), {})[each.host_address] = owner

    def _drop(self, bindings: Iterable[PortBinding]) -> None:
        now = time.monotonic()
        for each in bindings:
            key = (each.protocol, each.host_port)
            holders = self._taken.get(key, {})
            if holders.pop(each.host_address, None) is not None:
                self._released[key] = now
            if not holders:
                self._taken.pop(key, None)
        if len(self._released) > 1000:
            self._released = {k: t for k, t in self._released.items() if now - t < _RELEASE_TIMEOUT}


def _addresses(said: str) -> list[str]:
    """Where to bind, as it is kept: an empty text for every IPv4 address, `::` for every IPv6 one. InvalidRequest."""
    if not said:
        return ["", EVERY_IPV6]
    try:
        address = parse_address(said.removeprefix("[").removesuffix("]"))
    except InvalidRequest as error:
        raise InvalidRequest(f"invalid IP address to publish on: {said}") from error
    return ["" if str(address) == "0.0.0.0" else str(address)]


def _protocol(text: str) -> Protocol:
    if text not in ("tcp", "udp", "sctp"):
        raise InvalidRequest(f"invalid protocol: {text}")
    return cast(Protocol, text)


def _allocated(wanted: PortBinding, by: str) -> Conflict:
    return Conflict(
        f"Bind for {binding.shown(wanted.host_address, wanted.host_port)} failed: port is already allocated"
        + (f" ({by})" if by else "")
    )
