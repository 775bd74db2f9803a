"""The two ways to a GELF server.

    udp     compressed; what does not fit into a datagram goes in chunks: 1e 0f, id (8 bytes), number, count, data
    tcp     as it is, each message ended by a NUL

Source: GELF "Payload specification", "GELF via UDP", "GELF via TCP".
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  getaddrinfo wants it, and in a keeper nothing can be imported later
import gzip
import os
import socket
import zlib
from collections import deque
from typing import Final

from wherry.errors import InvalidRequest
from wherry.linux.sockets import is_over
from wherry.spec.logdelivery import Wire
from wherry_gelf_log.options import Destination

CHUNK: Final = 1420
"""Bytes of a datagram: what fits into an Ethernet frame, tunnels included."""
_MOST_CHUNKS: Final = 128
_CONNECTING: Final = 5.0
_SENDING: Final = 10.0


def wire(to: Destination) -> Wire:
    """The way that a destination names."""
    return Datagrams(to) if to.transport == "udp" else Connection(to)


class Datagrams:
    """By UDP, which promises nothing."""

    def __init__(self, to: Destination) -> None:
        self._to: Final = to
        self._socket: socket.socket | None = None
        self.timeout = _CONNECTING

    def send(self, messages: deque[bytes]) -> None:
        if self._socket is None:
            family, kind, protocol, _, where = socket.getaddrinfo(
                self._to.host, self._to.port, type=socket.SOCK_DGRAM
            )[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.settimeout(self.timeout)
            self._socket.connect(where)
        while messages:
            parts = chunks(self._packed(messages[0]))
            if not parts:
                size = len(messages.popleft())
                raise InvalidRequest(
                    f"a GELF message of {size} bytes is too long for UDP; send by tcp:// instead"
                )
            for part in parts:
                try:
                    self._socket.send(part)
                except ConnectionRefusedError:
                    self._socket.send(part)  # it was about an earlier one
            messages.popleft()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _packed(self, message: bytes) -> bytes:
        match self._to.compression:
            case "gzip":
                return gzip.compress(message, max(self._to.level, 0) if self._to.level != -1 else 6, mtime=0)
            case "zlib":
                return zlib.compress(message, self._to.level)
            case _:
                return message


def chunks(message: bytes) -> list[bytes]:
    """A message as datagrams; none where it would need more than 128, which is all that UDP can have."""
    if len(message) <= CHUNK:
        return [message]
    room = CHUNK - 12
    parts = [message[start : start + room] for start in range(0, len(message), room)]
    if len(parts) > _MOST_CHUNKS:
        return []
    head = b"\x1e\x0f" + os.urandom(8)
    return [head + bytes((number, len(parts))) + part for number, part in enumerate(parts)]


class Connection:
    """By TCP: whether the server is still there is looked at before each sending."""

    def __init__(self, to: Destination) -> None:
        self._to: Final = to
        self._socket: socket.socket | None = None
        self.timeout = _CONNECTING

    def send(self, messages: deque[bytes]) -> None:
        if self._socket is not None and is_over(self._socket):
            self.close()
        if self._socket is None:
            self._socket = socket.create_connection((self._to.host, self._to.port), self.timeout)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.settimeout(_SENDING)
        while messages:
            # One at a time: one that went in part goes whole again by the next connection.
            self._socket.sendall(messages[0] + b"\0")
            messages.popleft()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
