"""The socket to a syslog server, and how messages are framed on it.

    datagrams          one message each; one that is too long for the transport is cut
    streams            messages end in a newline
    TLS with RFC 5424  each begins with its length (RFC 5425)

A connection is made when the first message is there, and again after it was closed. Every call has a deadline. That a
stream's server went away is looked for before each sending: without acknowledgements, what the kernel had taken by then
is lost, and what we had not given it yet is not.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  getaddrinfo wants it, and in a keeper nothing can be imported later
import errno
import socket
import ssl
from collections import deque
from typing import Final

from wherry.linux.sockets import is_over
from wherry_syslog_log.options import Address, Destination

_LOCAL: Final = ("/dev/log", "/var/run/syslog", "/var/run/log")
CONNECTING: Final = 5.0
_SENDING: Final = 10.0
_WAITING: Final = (BlockingIOError, ssl.SSLWantReadError)
_AT_ONCE: Final = 64 * 1024
_SHORTEST: Final = 480  # RFC 5424: what every receiver takes


class Connection:
    """One server, connected to when needed."""

    def __init__(self, destination: Destination) -> None:
        self._address: Final[Address] = destination.address
        self._tls: Final = destination.tls
        self._counted: Final = self._tls is not None and destination.format.startswith("rfc5424")
        self.timeout = CONNECTING
        """Seconds that connecting may take."""
        self._socket: socket.socket | None = None
        self._sent = 0  # bytes of the first message that a stream has taken

    def send(self, messages: deque[bytes]) -> None:
        """Send all `messages`; each is taken out when it is sent. OSError: those that are left were not."""
        connected = self._socket
        if connected is not None and connected.type == socket.SOCK_STREAM and is_over(connected, _WAITING):
            self.close()
        if self._socket is None:
            self._socket = self._connect()
        if self._socket.type == socket.SOCK_STREAM:
            self._stream(self._socket, messages)
        else:
            self._datagrams(self._socket, messages)

    def close(self) -> None:
        """Give the socket up. A message that was sent in part is sent again from its beginning."""
        self._sent = 0
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _stream(self, to: socket.socket, messages: deque[bytes]) -> None:
        while messages:
            framed: deque[int] = deque()
            parts, size = [], 0
            for message in messages:
                part = b"%d %b" % (len(message), message) if self._counted else message + b"\n"
                parts.append(part)
                framed.append(len(part))
                size += len(part)
                if size >= _AT_ONCE:
                    break
            view = memoryview(b"".join(parts))[self._sent :]
            while view:
                count = to.send(view)
                view = view[count:]
                self._sent += count
                while framed and self._sent >= framed[0]:
                    self._sent -= framed.popleft()
                    messages.popleft()

    def _datagrams(self, to: socket.socket, messages: deque[bytes]) -> None:
        while messages:
            self._datagram(to, messages[0])
            messages.popleft()

    def _datagram(self, to: socket.socket, message: bytes) -> None:
        refused = False
        while True:
            try:
                to.send(message)
                return
            except OSError as error:
                if error.errno == errno.EMSGSIZE and len(message) > _SHORTEST:
                    message = message[: max(len(message) // 2, _SHORTEST)]
                elif error.errno == errno.ECONNREFUSED and self._address.transport == "udp":
                    # It tells of an earlier datagram. UDP promises nothing: once more, and that was that.
                    if refused:
                        return
                    refused = True
                else:
                    raise

    def _connect(self) -> socket.socket:
        match self._address.transport:
            case "local":
                return _first([(path, kind) for path in _LOCAL for kind in _KINDS])
            case "unix":  # Docker's means a stream; a /dev/log that takes datagrams is meant as often
                return _first([(self._address.path, kind) for kind in reversed(_KINDS)])
            case "unixgram":
                return _unix(self._address.path, socket.SOCK_DGRAM)
            case "udp":
                connected = _internet(self._address, socket.SOCK_DGRAM, self.timeout)
            case _:
                connected = self._secured(_internet(self._address, socket.SOCK_STREAM, self.timeout))
        connected.settimeout(_SENDING)
        return connected

    def _secured(self, plain: socket.socket) -> socket.socket:
        if self._tls is None:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=self._address.host)
        except BaseException:
            plain.close()
            raise


_NONE_THERE: Final = (errno.ENOENT, errno.EPROTOTYPE)
_KINDS: Final = (socket.SOCK_DGRAM, socket.SOCK_STREAM)


def _first(choices: list[tuple[str, socket.SocketKind]]) -> socket.socket:
    """The first that can be connected to; else the first error that says more than "there is none"."""
    trouble: OSError | None = None
    for path, kind in choices:
        try:
            return _unix(path, kind)
        except OSError as error:
            if trouble is None or (trouble.errno in _NONE_THERE and error.errno not in _NONE_THERE):
                trouble = error
    assert trouble is not None
    raise trouble


def _unix(path: str, kind: socket.SocketKind) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, kind)
    try:
        connected.settimeout(_SENDING)
        connected.connect(path)
    except OSError as error:
        connected.close()
        raise OSError(error.errno, f"{error.strerror}: {path}") from error
    return connected


def _internet(address: Address, kind: socket.SocketKind, timeout: float) -> socket.socket:
    trouble: OSError | None = None
    for family, type_, protocol, _, where in socket.getaddrinfo(address.host, address.port, type=kind):
        connected = socket.socket(family, type_, protocol)
        try:
            connected.settimeout(timeout)
            connected.connect(where)
            if kind == socket.SOCK_STREAM:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            connected.close()
            trouble = error
        else:
            return connected
    raise trouble or OSError(errno.EADDRNOTAVAIL, f"{address.host} has no address")
