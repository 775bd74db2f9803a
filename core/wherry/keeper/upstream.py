"""Questions that are about nothing of ours, asked of other name servers.

Each question has sockets of its own, connected, with a random id: nobody else can answer it. A server that does not
answer within a second is not waited for: the next is asked as well, and the first answer wins. One that was silent is
asked last for a while. What is open at a time is bounded, and everything ends after a few seconds.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from wherry.dns.answers import HEADER, question
from wherry.keeper.loop import READ, WRITE, Loop

NEXT: Final = 1.0
"""Seconds after which the next server is asked as well."""
PATIENCE: Final = 5.0
"""Seconds after which a question has no answer; libc's own patience for one server."""
OPEN: Final = 256
"""Questions at a time."""
SILENT: Final = 15.0
"""Seconds that a server which did not answer is asked after the others."""
SERVERS: Final = 6
_LENGTH: Final = struct.Struct("!H")
_SERVFAIL, _NOTIMP, _REFUSED = 2, 4, 5

Opened = Callable[[int, int], socket.socket]
"""(family, kind) → a new socket, in the network that a server is to be asked from."""
Done = Callable[[bytes | None], None]


@dataclass(frozen=True, slots=True)
class Server:
    """A name server, and how to open a socket that reaches it."""

    address: str
    opened: Opened


class Upstreams:
    """The questions that are open. In one thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._open: set[Question] = set()
        self._silent: dict[str, float] = {}

    def ask(self, message: bytes, servers: Sequence[Server], *, tcp: bool, done: Done) -> None:
        """Have `done` called, once, with the answer under the question's own id, or None: no server has one."""
        if len(self._open) >= OPEN or not servers:
            done(None)
            return
        asked = Question(self, self._loop, message, self._ordered(servers), tcp, done)
        self._open.add(asked)
        asked.begin()

    def close(self) -> None:
        for asked in tuple(self._open):
            asked.end(None)

    def ended(self, asked: Question) -> None:
        self._open.discard(asked)

    def silent(self, server: Server) -> None:
        self._silent[server.address] = time.monotonic() + SILENT

    def heard(self, server: Server) -> None:
        self._silent.pop(server.address, None)

    def _ordered(self, servers: Sequence[Server]) -> list[Server]:
        now = time.monotonic()
        return sorted(servers[:SERVERS], key=lambda server: self._silent.get(server.address, 0.0) > now)


class Question:
    """One question on its way round the servers."""

    def __init__(
        self, upstreams: Upstreams, loop: Loop, message: bytes, servers: list[Server], tcp: bool, done: Done
    ) -> None:
        self._upstreams, self._loop, self._message, self._tcp = upstreams, loop, message, tcp
        self._waiting = servers
        self._asked: dict[Attempt, Server] = {}
        self._done: Done | None = done
        self._failed: bytes | None = None
        self._timers = [loop.after(PATIENCE, self._give_up)]

    def begin(self) -> None:
        self._next()

    def end(self, reply: bytes | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        for timer in self._timers:
            timer.cancel()
        for attempt in tuple(self._asked):
            attempt.close()
        self._asked.clear()
        self._upstreams.ended(self)
        if reply is not None:
            reply = self._message[:2] + reply[2:]
        done(reply)

    def _next(self) -> None:
        """Ask one more server; at the end of the row wait for those that were asked."""
        while self._done is not None and self._waiting:
            server = self._waiting.pop(0)
            try:
                attempt = Attempt(self._loop, server, self._message, self._tcp, self._heard)
            except OSError:
                self._upstreams.silent(server)
                continue
            self._asked[attempt] = server
            self._timers.append(self._loop.after(NEXT, partial(self._late, attempt)))
            return
        if self._done is not None and not self._asked:
            self.end(self._failed)

    def _late(self, attempt: Attempt) -> None:
        if self._done is not None and attempt in self._asked:
            self._upstreams.silent(self._asked[attempt])
            self._next()

    def _give_up(self) -> None:
        self.end(self._failed)

    def _heard(self, attempt: Attempt, reply: bytes | None) -> None:
        server = self._asked.pop(attempt)
        attempt.close()
        if self._done is None:
            return
        if reply is None:
            self._upstreams.silent(server)
            self._next()
        elif HEADER.unpack_from(reply)[1] & 15 in (_SERVFAIL, _NOTIMP, _REFUSED):
            self._failed = reply  # another may know better
            self._next()
        else:
            self._upstreams.heard(server)
            self.end(reply)


class Attempt:
    """A question put to one server."""

    def __init__(
        self,
        loop: Loop,
        server: Server,
        message: bytes,
        tcp: bool,
        heard: Callable[[Attempt, bytes | None], None],
    ) -> None:
        self._loop, self._heard = loop, heard
        self._identity = secrets.token_bytes(2)
        self._question = question(message).lower()
        self._packet = self._identity + message[2:]
        self._received = b""
        family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
        self._sock = server.opened(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        try:
            self._sock.setblocking(False)
            where = socket.getaddrinfo(server.address, 53, flags=socket.AI_NUMERICHOST)[0][4]
            failed = self._sock.connect_ex(where)
            if failed not in (0, errno.EINPROGRESS):
                raise OSError(failed, os.strerror(failed))
            if tcp:
                self._packet = _LENGTH.pack(len(self._packet)) + self._packet
                loop.watch(self._sock.fileno(), WRITE, self._connected)
            else:
                self._sock.send(self._packet)
                loop.watch(self._sock.fileno(), READ, self._datagram)
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.forget(self._sock.fileno())
            self._sock.close()

    def _datagram(self, events: int) -> None:
        try:
            reply = self._sock.recv(65535)
        except BlockingIOError:
            return
        except OSError:  # nobody is there
            self._heard(self, None)
            return
        if self._is_ours(reply):
            self._heard(self, reply)

    def _connected(self, events: int) -> None:
        try:
            self._packet = self._packet[self._sock.send(self._packet) :]
        except BlockingIOError:
            return
        except OSError:
            self._heard(self, None)
            return
        if not self._packet:
            self._loop.watch(self._sock.fileno(), READ, self._stream)

    def _stream(self, events: int) -> None:
        try:
            data = self._sock.recv(65537)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        length = _LENGTH.unpack_from(self._received)[0] if len(self._received) >= 2 else 65536
        if len(self._received) >= length + 2:
            reply = self._received[2 : length + 2]
            self._heard(self, reply if self._is_ours(reply) else None)
        elif not data:
            self._heard(self, None)

    def _is_ours(self, reply: bytes) -> bool:
        """An answer, to this question: others are somebody's guesses."""
        if len(reply) < HEADER.size or reply[:2] != self._identity or not reply[2] & 0x80:
            return False
        asked = question(reply).lower()
        return asked == self._question or not asked  # some servers leave it out of their refusals
