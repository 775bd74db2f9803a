"""Published ports: a port of the host is ours while somebody holds a socket bound to it.

The socket is bound here and handed to the container's keeper, so nobody else on the host can take the port, also while
no daemon runs. It receives nothing: the firewall sends what comes for the port to the container. The ledger beside it
says whose a port is, for the error that names the owner, and for protocols that this kernel has no sockets for.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from wherry.errors import Conflict, InvalidRequest, Unsupported
from wherry.spec.network import PortBinding

EPHEMERAL: Final = (49153, 65535)
_SCTP: Final = 132
_RELEASE_TIMEOUT: Final = 2.0

Protocol = Literal["tcp", "udp", "sctp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortWish:
    """A port to publish. `first` 0: any port of the ephemeral range; `last`: the first free of the range is meant."""

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
        self._default = wildcard(default_address)
        self._lock = threading.Lock()
        self._held: dict[tuple[str, int], dict[str, Owner]] = {}  # (protocol, port) → address → owner
        self._released: dict[tuple[str, int], float] = {}
        self._cursor = EPHEMERAL[0]

    def claim(
        self, owner: Owner, wishes: Iterable[PortWish], default: str = ""
    ) -> tuple[tuple[PortBinding, ...], tuple[socket.socket, ...]]:
        """All wishes, or none: what they became, and the sockets that hold it (the caller's to hand on or to close).

        `default`: the address of wishes that name none, if not the daemon's.
        Conflict, in Docker's words and naming the owner, if a port is taken.
        """
        bindings: list[PortBinding] = []
        sockets: list[socket.socket] = []
        with self._lock:
            try:
                for wish in wishes:
                    binding, held = self._claim_one(owner, wish, default)
                    bindings.append(binding)
                    sockets += held
            except BaseException:
                for held_socket in sockets:
                    held_socket.close()
                self._drop(bindings)
                raise
        return tuple(bindings), tuple(sockets)

    def adopt(self, owner: Owner, bindings: Iterable[PortBinding]) -> None:
        """Enter what a living container has; its keeper holds the sockets."""
        with self._lock:
            for binding in bindings:
                self._enter(owner, binding)

    def release(self, bindings: Iterable[PortBinding]) -> None:
        """Strike from the ledger; not there is success. The sockets are their holders' to close."""
        with self._lock:
            self._drop(bindings)

    def taken(self) -> dict[str, str]:
        """`0.0.0.0:8080/tcp` → owner."""
        with self._lock:
            return {
                f"{address or '0.0.0.0'}:{port}/{protocol}": str(owner)
                for (protocol, port), holders in sorted(self._held.items())
                for address, owner in holders.items()
            }

    # ---- Under the lock

    def _claim_one(
        self, owner: Owner, wish: PortWish, default: str
    ) -> tuple[PortBinding, list[socket.socket]]:
        said = wish.host_address or default
        address = wildcard(said) if said else self._default
        protocol = _protocol(wish.protocol)
        if wish.first:
            candidates: Iterable[int] = range(wish.first, max(wish.first, wish.last) + 1)
        else:
            candidates = self._ephemeral()
        first_error: Conflict | None = None
        for port in candidates:
            binding = PortBinding(
                protocol=protocol, container_port=wish.container_port, host_address=address, host_port=port
            )
            try:
                held = self._take(owner, binding)
            except Conflict as error:
                first_error = first_error or error
                continue
            if not wish.first:
                self._cursor = port + 1 if port < EPHEMERAL[1] else EPHEMERAL[0]
            return binding, held
        if first_error is not None and wish.first and wish.first >= wish.last:
            raise first_error
        where = f"{wish.first}-{wish.last}" if wish.first else f"{EPHEMERAL[0]}-{EPHEMERAL[1]}"
        raise Conflict(
            f"Bind for {address or '0.0.0.0'}:{where} failed: all ports are allocated ({first_error})"
        ) from first_error

    def _take(self, owner: Owner, binding: PortBinding) -> list[socket.socket]:
        address, port = binding.host_address, binding.host_port
        for other, holder in self._held.get((binding.protocol, port), {}).items():
            if not other or not address or other == address:
                raise _allocated(binding, f"by {holder}")
        # The keeper of a container that has just ended may hold its sockets a moment longer.
        deadline = self._released.pop((binding.protocol, port), 0.0) + _RELEASE_TIMEOUT
        while True:
            try:
                held = _bind(binding)
                break
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise InvalidRequest(
                        f"Bind for {address}:{port} failed: cannot assign requested address: no interface of this "
                        "host has it"
                    ) from error
                if error.errno != errno.EADDRINUSE:
                    raise Conflict(
                        f"Bind for {address or '0.0.0.0'}:{port} failed: {error.strerror}"
                    ) from error
                if time.monotonic() > deadline:
                    raise _allocated(binding, _program(binding)) from error
                time.sleep(0.002)
        self._enter(owner, binding)
        return held

    def _ephemeral(self) -> Iterable[int]:
        first, last = EPHEMERAL
        size = last - first + 1
        return (first + (self._cursor - first + step) % size for step in range(size))

    def _enter(self, owner: Owner, binding: PortBinding) -> None:
        holders = self._held.setdefault((binding.protocol, binding.host_port), {})
        holders[binding.host_address] = owner

    def _drop(self, bindings: Iterable[PortBinding]) -> None:
        now = time.monotonic()
        for binding in bindings:
            key = (binding.protocol, binding.host_port)
            holders = self._held.get(key, {})
            if holders.pop(binding.host_address, None) is not None:
                self._released[key] = now
            if not holders:
                self._held.pop(key, None)
        if len(self._released) > 1000:
            self._released = {k: t for k, t in self._released.items() if now - t < _RELEASE_TIMEOUT}


def wildcard(address: str) -> str:
    """An address to publish on as it is kept: empty for every address of the host."""
    if address in ("", "0.0.0.0"):
        return ""
    if ":" in address:
        if address in ("::", "[::]"):
            return ""  # every address; what comes by IPv6 is not forwarded yet
        raise Unsupported(f"publishing on an IPv6 address is not supported yet: {address}")
    try:
        return socket.inet_ntoa(socket.inet_pton(socket.AF_INET, address))
    except OSError as error:
        raise InvalidRequest(f"invalid IP address to publish on: {address}") from error


def _protocol(text: str) -> Protocol:
    if text not in ("tcp", "udp", "sctp"):
        raise InvalidRequest(f"invalid protocol: {text}")
    return cast(Protocol, text)


def _bind(binding: PortBinding) -> list[socket.socket]:
    """A socket that owns the port. Without SO_REUSEADDR: then nobody can bind it, whatever options they set."""
    kind, number = {
        "tcp": (socket.SOCK_STREAM, 0),
        "udp": (socket.SOCK_DGRAM, 0),
        "sctp": (socket.SOCK_STREAM, _SCTP),
    }[binding.protocol]
    try:
        made = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC, number)
    except OSError:
        if binding.protocol == "sctp":
            return []  # the kernel has no SCTP sockets: nobody can take the port either
        raise
    address = (binding.host_address, binding.host_port)
    try:
        try:
            made.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or binding.protocol != "tcp":
                raise
            # It may only be a connection of some earlier server that waits to be forgotten (TIME_WAIT). Somebody who
            # listens would forbid us to listen; and while we listen nobody else can.
            made.close()
            made = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC, number)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(0)
        if binding.protocol == "udp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    except BaseException:
        made.close()
        raise
    return [made]


def _allocated(binding: PortBinding, by: str) -> Conflict:
    address = binding.host_address or "0.0.0.0"
    return Conflict(
        f"Bind for {address}:{binding.host_port} failed: port is already allocated"
        + (f" ({by})" if by else "")
    )


def _program(binding: PortBinding) -> str:
    """Which program has a port, from /proc: for the error only, it reads much."""
    wanted = f":{binding.host_port:04X}"
    inodes = set()
    for name in (binding.protocol, f"{binding.protocol}6"):
        try:
            lines = Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        inodes |= {f"socket:[{words[9]}]" for words in map(str.split, lines) if words[1].endswith(wanted)}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            for descriptor in os.scandir(process / "fd"):
                if os.readlink(descriptor.path) in inodes:
                    return f"by program {(process / 'comm').read_text().strip()}, process {process.name}"
        except OSError:
            continue  # it ended
    return "by another program"
