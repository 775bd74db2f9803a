"""Ports of the host that the firewall cannot lead to the container: taken by the keeper, byte for byte.

That is what comes by IPv6 for a container that has none, and what comes from ::1, which no kernel lets out of the
loopback. All else is NAT and never gets here. Everything is bounded: connections wait in the kernel's queue when there
are too many, a UDP client that is quiet is forgotten, a connection's unsent bytes are one buffer per direction.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from wherry.keeper.loop import HANGUP, READ, WRITE, Loop

BUFFER: Final = 1 << 16
CONNECTIONS: Final = 2000
"""Of one port at a time."""
CLIENTS: Final = 1000
"""UDP clients of one port that are remembered."""
QUIET: Final = 90.0
"""Seconds after which a quiet UDP client is forgotten."""
PATIENCE: Final = 20.0
"""Seconds that a container has to accept a connection."""
_BACKLOG: Final = 128
_AT_ONCE: Final = 16
_RECEIVE_BUFFER: Final = 1 << 18
_PACKET_INFO: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, 8),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO),
}
_IPV6_RECVPKTINFO: Final = 49


class Forward:
    """What came for a port goes to the target. Owns its descriptor."""

    def close(self) -> None:
        raise NotImplementedError


def forward(loop: Loop, descriptor: int, protocol: str, target: str, port: int) -> Forward:
    """Take what comes on a bound socket to `target` from now on; `close` ends it and closes the socket.

    OSError if the port cannot be listened on.
    """
    made = socket.socket(fileno=descriptor)
    try:
        made.setblocking(False)
        return (TcpForward if protocol == "tcp" else UdpForward)(loop, made, (target, port))
    except BaseException:
        made.detach()
        raise


class TcpForward(Forward):
    """Accepts, connects, and carries both ways until both ends have said all."""

    def __init__(self, loop: Loop, listener: socket.socket, target: tuple[str, int]) -> None:
        self._loop, self._listener, self._target = loop, listener, target
        self._relays: set[Relay] = set()
        self._resting = False
        listener.listen(_BACKLOG)
        loop.watch(listener.fileno(), READ, self._accept)

    def close(self) -> None:
        for relay in tuple(self._relays):
            relay.close()
        if not self._resting:
            self._loop.forget(self._listener.fileno())
        self._resting = True
        self._listener.close()

    def _accept(self, events: int) -> None:
        for _ in range(_AT_ONCE):
            if len(self._relays) >= CONNECTIONS:
                self._rest()
                return
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._rest()
                    return
                continue  # a client that went before it was accepted
            try:
                self._relays.add(Relay(self._loop, client, self._target, self._relays.discard))
            except OSError:
                client.close()

    def _rest(self) -> None:
        """Leave the next ones in the kernel's queue for a moment."""
        self._resting = True
        self._loop.forget(self._listener.fileno())
        self._loop.after(0.1, self._resume)

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._resting = False
            self._loop.watch(self._listener.fileno(), READ, self._accept)


class _End:
    """One end of a relayed connection, and what waits to be sent to it."""

    __slots__ = ("ended", "finished", "sock", "waiting", "watched")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.waiting = memoryview(b"")
        self.ended = False
        """It will say no more."""
        self.finished = False
        """It was told that no more will come."""
        self.watched = -1


class Relay:
    """A client and the container, each heard only while the other can be told."""

    def __init__(
        self, loop: Loop, client: socket.socket, target: tuple[str, int], gone: Callable[[Relay], None]
    ) -> None:
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        upstream = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._loop, self._gone = loop, gone
        self._client, self._upstream = _End(client), _End(upstream)
        self._connecting = True
        try:
            client.setblocking(False)
            # What is left of it in TIME_WAIT must not keep the port from the next start.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for sock in (client, upstream):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            failed = upstream.connect_ex(target)
            if failed not in (0, errno.EINPROGRESS):
                raise OSError(failed, os.strerror(failed))
        except BaseException:
            upstream.close()
            raise
        self._deadline = loop.after(PATIENCE, self._give_up)
        loop.watch(upstream.fileno(), WRITE, self._connected)

    def close(self) -> None:
        self._deadline.cancel()
        for end in (self._client, self._upstream):
            self._loop.forget(end.sock.fileno())
            end.sock.close()
        self._gone(self)

    def _give_up(self) -> None:
        if self._connecting:
            self._refuse()

    def _connected(self, events: int) -> None:
        if self._upstream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._refuse()
            return
        self._connecting = False
        self._deadline.cancel()
        self._watch()

    def _refuse(self) -> None:
        """The client hears what it would have heard of the container itself: a reset."""
        self._client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _watch(self) -> None:
        for end, other, ready in (
            (self._client, self._upstream, self._client_ready),
            (self._upstream, self._client, self._upstream_ready),
        ):
            wanted = 0
            if not end.ended and not other.waiting:
                wanted |= READ
            if end.waiting:
                wanted |= WRITE
            if wanted != end.watched:
                end.watched = wanted
                if wanted:
                    self._loop.watch(end.sock.fileno(), wanted, ready)
                else:
                    # Of an end that is asked for nothing epoll would tell a hang-up again and again.
                    self._loop.forget(end.sock.fileno())

    def _client_ready(self, events: int) -> None:
        self._ready(self._client, self._upstream, events)

    def _upstream_ready(self, events: int) -> None:
        self._ready(self._upstream, self._client, events)

    def _ready(self, end: _End, other: _End, events: int) -> None:
        try:
            if events & (WRITE | HANGUP) and end.waiting:
                end.waiting = end.waiting[_sent(end.sock, end.waiting) :]
            if events & (READ | HANGUP) and not end.ended and not other.waiting:
                data = _received(end.sock)
                if data is not None:
                    end.ended = not data
                    other.waiting = memoryview(data)[_sent(other.sock, data) if data else 0 :]
            self._finish(end, other)
            self._finish(other, end)
        except OSError:
            self.close()
            return
        if self._client.finished and self._upstream.finished:
            self.close()
            return
        self._watch()

    def _finish(self, end: _End, other: _End) -> None:
        """When one end has ended and all that it said is sent, the other is told."""
        if end.ended and not other.waiting and not other.finished:
            other.finished = True
            other.sock.shutdown(socket.SHUT_WR)


def _sent(sock: socket.socket, data: bytes | memoryview) -> int:
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0


def _received(sock: socket.socket) -> bytes | None:
    """None: there is nothing yet."""
    try:
        return sock.recv(BUFFER)
    except BlockingIOError:
        return None


class _Client:
    """Somebody who sent a datagram: the socket that speaks for him to the container, and where he spoke to."""

    __slots__ = ("address", "heard", "info", "sock")

    def __init__(self, sock: socket.socket, address: tuple[object, ...], info: bytes) -> None:
        self.sock, self.address, self.info = sock, address, info
        self.heard = time.monotonic()


class UdpForward(Forward):
    """Datagrams to the target, from a socket of each client's own, so that answers find their way back."""

    def __init__(self, loop: Loop, sock: socket.socket, target: tuple[str, int]) -> None:
        self._loop, self._sock, self._target = loop, sock, target
        self._clients: OrderedDict[tuple[object, ...], _Client] = OrderedDict()
        self._level, self._kind = _PACKET_INFO[socket.AddressFamily(sock.family)]
        wanted = _IPV6_RECVPKTINFO if sock.family == socket.AF_INET6 else self._kind
        sock.setsockopt(self._level, wanted, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        loop.watch(sock.fileno(), READ, self._heard)
        self._sweeping = False

    def close(self) -> None:
        for key in tuple(self._clients):
            self._forget(key)
        self._loop.forget(self._sock.fileno())
        self._sock.close()

    def _heard(self, events: int) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _, address = self._sock.recvmsg(BUFFER, 128)
            except OSError:  # nothing more; or what an ICMP message said about an answer of ours
                return
            info = next((value for *_, value in ancillary), b"")
            client = self._clients.get(address)
            try:
                if client is None:
                    client = self._meet(address, info)
                client.heard = time.monotonic()
                client.info = info
                self._clients.move_to_end(address)
                client.sock.send(data)
            except OSError:
                continue  # a datagram is lost: nobody listens, or there is no room

    def _meet(self, address: tuple[object, ...], info: bytes) -> _Client:
        if len(self._clients) >= CLIENTS:
            self._forget(next(iter(self._clients)))
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self._target)
        except OSError:
            sock.close()
            raise
        client = self._clients[address] = _Client(sock, address, info)
        self._loop.watch(sock.fileno(), READ, lambda events: self._answered(client))
        if not self._sweeping:
            self._sweeping = True
            self._loop.after(QUIET / 3, self._sweep)
        return client

    def _answered(self, client: _Client) -> None:
        for _ in range(_AT_ONCE):
            try:
                data = client.sock.recv(BUFFER)
            except OSError:  # nothing more; or nobody listens in the container
                return
            client.heard = time.monotonic()
            # From the address that the client spoke to, or it would not take the answer for one.
            source = [(self._level, self._kind, self._source(client.info))] if client.info else []
            try:
                self._sock.sendmsg([data], source, 0, client.address)
            except OSError:
                continue

    def _source(self, info: bytes) -> bytes:
        if self._sock.family == socket.AF_INET6:
            return info
        # struct in_pktinfo: the address to answer from is asked for in the second of its three fields.
        return struct.pack("=I4s4s", 0, info[8:12], bytes(4))

    def _sweep(self) -> None:
        before = time.monotonic() - QUIET
        for key, client in tuple(self._clients.items()):
            if client.heard > before:
                break
            self._forget(key)
        self._sweeping = bool(self._clients) and self._sock.fileno() >= 0
        if self._sweeping:
            self._loop.after(QUIET / 3, self._sweep)

    def _forget(self, key: tuple[object, ...]) -> None:
        client = self._clients.pop(key)
        self._loop.forget(client.sock.fileno())
        client.sock.close()
