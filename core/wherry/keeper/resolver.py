"""The name server that a container sees at 127.0.0.11: in its keeper, so it answers while there is no daemon.

The sockets were bound in the container's sandbox; what they cannot answer is asked of the servers that the container
was given, from within its network, or else of the host's, from the host's.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from wherry.dns import hosts
from wherry.dns.answers import Names, answer, failure, unknown
from wherry.dns.directory import Page
from wherry.keeper.line import Request
from wherry.keeper.loop import READ, WRITE, Loop
from wherry.keeper.protocol import NameServer, parse
from wherry.keeper.upstream import Server, Upstreams
from wherry.linux import netns

CLIENTS: Final = 64
"""TCP connections at a time."""
QUIET: Final = 10.0
"""Seconds after which a quiet TCP connection is closed."""
_AT_ONCE: Final = 16
_LENGTH: Final = struct.Struct("!H")
_UNSENT: Final = 1 << 18
_BACKLOG: Final = 32


class Resolver:
    """Answers one container, and those who share its network. Idle until it is given sockets."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._upstreams = Upstreams(loop)
        self._udp: socket.socket | None = None
        self._tcp: socket.socket | None = None
        self._sandbox = -1
        self._clients: set[_Client] = set()
        self._pages: dict[str, Page] = {}
        self._names = Names([], {})
        self._said: tuple[str, ...] = ()
        self._outward = False
        self._host = hosts.Servers("")

    def resolve(self, request: Request) -> None:
        """The verb: serve as this says from now on; with the sockets, if it brings some."""
        self.take(request, parse(request.fields["name_server"], NameServer))

    def take(self, request: Request, wanted: NameServer) -> None:
        """The same, from a message that says more."""
        self._pages = {path: self._pages.get(path) or Page(path) for path in wanted.pages}
        self._names = Names([self._pages[path] for path in wanted.pages], wanted.links)
        self._said, self._outward = wanted.servers, wanted.outward
        if self._host.path != wanted.host_file:
            self._host = hosts.Servers(wanted.host_file)
        if wanted.udp >= 0 and self._udp is None:
            self._udp = socket.socket(fileno=request.take(wanted.udp))
            self._tcp = socket.socket(fileno=request.take(wanted.tcp))
            self._sandbox = request.take(wanted.sandbox)
            self._udp.setblocking(False)
            self._tcp.setblocking(False)
            self._tcp.listen(_BACKLOG)
            self._loop.watch(self._udp.fileno(), READ, self._asked)
            self._loop.watch(self._tcp.fileno(), READ, self._accept)

    def close(self) -> None:
        self._upstreams.close()
        for client in tuple(self._clients):
            client.close()
        for sock in (self._udp, self._tcp):
            if sock is not None:
                self._loop.forget(sock.fileno())
                sock.close()
        self._udp = self._tcp = None
        if self._sandbox >= 0:
            os.close(self._sandbox)
            self._sandbox = -1

    def answer(self, message: bytes, *, tcp: bool, reply: Callable[[bytes], None]) -> None:
        """Have `reply` called with the answer, now or later, or never where none is due."""
        found = answer(message, self._names, tcp=tcp)
        if found is not None:
            if found:
                reply(found)
            return
        servers = self._servers()
        if not servers and not self._outward:
            reply(unknown(message))  # nobody outside is asked from within: there is no such name here
            return
        self._upstreams.ask(
            message, servers, tcp=tcp, done=lambda got: reply(failure(message) if got is None else got)
        )

    def _servers(self) -> list[Server]:
        if self._said:
            return [Server(address, self._inside) for address in self._said]
        return [Server(address, _outside) for address in self._host.now()] if self._outward else []

    def _inside(self, family: int, kind: int) -> socket.socket:
        with netns.inside(self._sandbox):
            return _outside(family, kind)

    def _asked(self, events: int) -> None:
        for _ in range(_AT_ONCE):
            if self._udp is None:
                return
            try:
                message, sender = self._udp.recvfrom(65535)
            except OSError:  # nothing more; or what ICMP said about an answer of ours
                return
            self.answer(message, tcp=False, reply=partial(self._send, sender))

    def _send(self, to: tuple[str, int], data: bytes) -> None:
        if self._udp is not None:
            try:
                self._udp.sendto(data, to)
            except OSError:
                pass  # a datagram is lost; who asked asks again

    def _accept(self, events: int) -> None:
        for _ in range(_AT_ONCE):
            if self._tcp is None:
                return
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            if len(self._clients) >= CLIENTS:
                sock.close()
                continue
            self._clients.add(_Client(self._loop, sock, self.answer, self._clients.discard))


class _Client:
    """Somebody who asks by TCP: each message has its length in front, answers come in whatever order."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        answer: Callable[..., None],
        gone: Callable[[_Client], None],
    ) -> None:
        self._loop, self._sock, self._answer, self._gone = loop, sock, answer, gone
        self._received, self._unsent = bytearray(), bytearray()
        sock.setblocking(False)
        self._timer = loop.after(QUIET, self.close)
        loop.watch(sock.fileno(), READ, self._ready)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._timer.cancel()
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._gone(self)

    def _ready(self, events: int) -> None:
        try:
            if self._unsent:
                del self._unsent[: self._sock.send(self._unsent)]
            data = self._sock.recv(16384)
        except BlockingIOError:
            self._watch()
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        while len(self._received) >= 2 and self._sock.fileno() >= 0:
            length = _LENGTH.unpack_from(self._received)[0]
            if len(self._received) < length + 2:
                break
            message = bytes(self._received[2 : length + 2])
            del self._received[: length + 2]
            self._answer(message, tcp=True, reply=self._reply)
        if self._sock.fileno() >= 0:
            self._timer.cancel()
            self._timer = self._loop.after(QUIET, self.close)
            self._watch()

    def _reply(self, data: bytes) -> None:
        if self._sock.fileno() < 0:
            return
        self._unsent += _LENGTH.pack(len(data)) + data
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._unsent) > _UNSENT:  # who asks and does not read
            self.close()
            return
        self._watch()

    def _watch(self) -> None:
        self._loop.watch(self._sock.fileno(), READ | (WRITE if self._unsent else 0), self._ready)


def _outside(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind | socket.SOCK_CLOEXEC)
