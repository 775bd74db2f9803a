"""Messages over a stream socket, each with descriptors: unix(7), SCM_RIGHTS.

    ┌──────────────┬───────────────────────┬──────────┐
    │ length (u32) │ descriptors (u32)     │ body     │     numbers in network order
    └──────────────┴───────────────────────┴──────────┘
      the header's bytes carry the descriptors, at most 253 with each byte (the kernel's SCM_MAX_FD)

`Outbox` sends and `Inbox` receives, both without waiting; who waits, and for how long, is the caller's choice.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

MOST_DESCRIPTORS = 253
"""With one sendmsg(2): SCM_MAX_FD."""

DESCRIPTORS_LIMIT = 1500
"""With one message: six of the header's eight bytes with 253 each, less a margin."""

_HEADER = struct.Struct("!II")
_RIGHTS_SIZE = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)


def is_over(connected: socket.socket, waiting: tuple[type[OSError], ...] = (BlockingIOError,)) -> bool:
    """Whether the other side has closed a stream; what else it said is thrown away. The timeout stays what it was.

    `waiting`: by what a read says that there is nothing yet; a TLS socket has another word for it.
    """
    before = connected.gettimeout()
    connected.settimeout(0)
    try:
        while connected.recv(4096):
            pass
        return True
    except waiting:
        return False
    except OSError:
        return True
    finally:
        connected.settimeout(before)


class BadMessage(ValueError):
    """The peer sent what is no message, or one beyond the bounds; the connection is of no use any more."""


@dataclass(frozen=True, slots=True)
class Message:
    """What `Inbox` answers. The descriptors belong to the receiver, close-on-exec is set."""

    body: bytes
    descriptors: tuple[int, ...]


class Outbox:
    """The sending side of one connection. A peer that does not read makes it grow up to `limit` bytes."""

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self._pieces: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._waiting = 0
        self._copied = 0
        """How many of the first pieces hold copies of their descriptors, ours to close."""

    def put(self, body: bytes, descriptors: Sequence[int] = ()) -> None:
        """Queue a message. `flush` must be called next; after that the descriptors may be closed.

        BlockingIOError: more than `limit` bytes wait already. ValueError: too many descriptors.
        """
        if len(descriptors) > DESCRIPTORS_LIMIT:
            raise ValueError(
                f"a message carries at most {DESCRIPTORS_LIMIT} descriptors, not {len(descriptors)}"
            )
        if self._waiting + len(body) > self._limit:
            raise BlockingIOError(
                f"the peer left {self._waiting} bytes unread; {len(body)} more are too many"
            )
        self._waiting += _HEADER.size + len(body)
        whole = memoryview(_HEADER.pack(len(body), len(descriptors)) + body)
        while len(descriptors) > MOST_DESCRIPTORS:
            self._pieces.append((whole[:1], descriptors[:MOST_DESCRIPTORS]))
            whole, descriptors = whole[1:], descriptors[MOST_DESCRIPTORS:]
        self._pieces.append((whole, descriptors))

    def flush(self) -> bool:
        """Send what the socket takes without waiting; True when nothing is left. OSError: the peer is gone."""
        while self._pieces:
            piece, descriptors = self._pieces[0]
            rights = (
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            )
            try:
                sent = self._connection.sendmsg([piece], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._copy()
                return False
            self._waiting -= sent
            if self._copied:
                for descriptor in descriptors:
                    os.close(descriptor)
            if sent == len(piece):
                self._pieces.popleft()
                self._copied = max(0, self._copied - 1)
            else:
                self._pieces[0] = (piece[sent:], ())
        return True

    def close(self) -> None:
        """Give up what was not sent."""
        for _, descriptors in list(self._pieces)[: self._copied]:
            for descriptor in descriptors:
                os.close(descriptor)
        self._pieces.clear()
        self._copied = 0

    def _copy(self) -> None:
        for i in range(self._copied, len(self._pieces)):
            piece, descriptors = self._pieces[i]
            self._pieces[i] = piece, [os.dup(descriptor) for descriptor in descriptors]
        self._copied = len(self._pieces)


class Inbox:
    """The receiving side of one connection: bytes and descriptors until they make a message."""

    def __init__(self, connection: socket.socket, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self._bytes = bytearray()
        self._descriptors: deque[int] = deque()

    def receive(self) -> Message | None:
        """The next message if it is there, without waiting; None if it is not.

        EOFError: the peer closed. BadMessage: beyond the bounds. OSError: the connection broke.
        """
        while True:
            message = self._whole()
            if message is not None:
                return message
            try:
                data, ancillary, flags, _ = self._connection.recvmsg(
                    65536, _RIGHTS_SIZE, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return None
            for level, kind, rights in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    numbers = array.array("i")
                    numbers.frombytes(rights[: len(rights) - len(rights) % numbers.itemsize])
                    self._descriptors.extend(numbers)
            if flags & socket.MSG_CTRUNC:
                raise BadMessage("descriptors of a message were lost: too many are open in this process")
            if not data:
                raise EOFError("the peer closed the connection")
            self._bytes += data
            if len(self._descriptors) > DESCRIPTORS_LIMIT:
                raise BadMessage(f"a message came with more than {DESCRIPTORS_LIMIT} descriptors")

    def close(self) -> None:
        """Close descriptors that came without their message."""
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _whole(self) -> Message | None:
        if len(self._bytes) < _HEADER.size:
            return None
        length, count = _HEADER.unpack_from(self._bytes)
        if length > self._limit:
            raise BadMessage(f"a message of {length} bytes is beyond the bound of {self._limit}")
        end = _HEADER.size + length
        if len(self._bytes) < end:
            return None
        if count > len(self._descriptors):
            raise BadMessage(f"a message names {count} descriptors and brought {len(self._descriptors)}")
        body = bytes(memoryview(self._bytes)[_HEADER.size : end])
        del self._bytes[:end]
        return Message(body, tuple(self._descriptors.popleft() for _ in range(count)))


class Channel:
    """Both sides of one connection, for those who wait. One thread sends at a time, and one receives."""

    def __init__(self, connection: socket.socket, limit: int) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.inbox = Inbox(connection, limit)
        self.outbox = Outbox(connection, limit)

    def send(self, body: bytes, descriptors: Sequence[int] = (), *, timeout: float) -> None:
        """Send a message whole. TimeoutError: the peer does not read, and the connection is of no use any more."""
        deadline = time.monotonic() + timeout
        self.outbox.put(body, descriptors)
        while not self.outbox.flush():
            self._wait(select.POLLOUT, deadline)

    def receive(self, *, timeout: float | None = None) -> Message:
        """The next message. EOFError, BadMessage, OSError as `Inbox.receive`; TimeoutError after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (message := self.inbox.receive()) is None:
            self._wait(select.POLLIN, deadline)
        return message

    def close(self) -> None:
        self.inbox.close()
        self.outbox.close()
        self.connection.close()

    def _wait(self, event: int, deadline: float | None) -> None:
        poll = select.poll()
        poll.register(self.connection, event)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(left):
            raise TimeoutError("the peer did not answer in time")


def short_address(directory: int, name: str) -> str:
    """An address for bind(2) or connect(2) of a socket `name` in an open directory, whatever the length of its path.

    sun_path holds 107 bytes: unix(7). Paths below a long data root are longer.
    """
    return f"/proc/self/fd/{directory}/{name}"
