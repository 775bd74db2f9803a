"""The connection to a Fluentd server: messages by TCP or a unix socket, with acknowledgements where they were asked for.

With acknowledgements a message counts as sent when the server has said its `chunk` back; one whose answer did not come
is sent again by the next connection, so that lines may come twice but none is lost. Without, whether the server is
still there is looked at before each sending.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  getaddrinfo wants it, and in a keeper nothing can be imported later
import socket
from collections import deque
from typing import Final

import msgpack

from wherry.linux.sockets import is_over
from wherry_fluentd_log.options import Destination

_CONNECTING: Final = 5.0
_LARGEST: Final = 64 * 1024


class Connection:
    """A `wherry.spec.logdelivery.Wire`."""

    def __init__(self, to: Destination) -> None:
        self._to: Final = to
        self._socket: socket.socket | None = None
        self.timeout = _CONNECTING

    def send(self, messages: deque[bytes]) -> None:
        if self._socket is not None and not self._to.acknowledged and is_over(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connect()
        while messages:
            self._socket.settimeout(self._to.writing)
            self._socket.sendall(messages[0])
            if self._to.acknowledged:
                self._await(self._socket, msgpack.unpackb(messages[0], raw=True)[2][b"chunk"])
            messages.popleft()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        if not self._to.path:
            connected = socket.create_connection((self._to.host, self._to.port), self.timeout)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return connected
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(self.timeout)
            connected.connect(self._to.path)
        except OSError:
            connected.close()
            raise
        return connected

    def _await(self, connected: socket.socket, chunk: bytes) -> None:
        """Until the server says that it has this chunk. OSError if it says something else, or nothing."""
        connected.settimeout(self._to.reading)
        unpacker = msgpack.Unpacker(raw=True, max_buffer_size=_LARGEST)
        while True:
            data = connected.recv(4096)
            if not data:
                raise ConnectionResetError("the server hung up before it acknowledged")
            try:
                unpacker.feed(data)
                for answer in unpacker:
                    if isinstance(answer, dict) and answer.get(b"ack") == chunk:
                        return
                    raise ConnectionResetError("the server acknowledged something else")
            except (ValueError, msgpack.exceptions.UnpackException) as error:
                raise ConnectionResetError(f"the server's acknowledgement is none: {error}") from error
