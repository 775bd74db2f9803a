"""The user's stdin, stdout and stderr, and a hijacked connection, pumped until one side ends.

Without a terminal the daemon sends frames: one byte for the stream (1 stdout, 2 stderr), three zeros, four for the
length, then the data (API 1.51 ContainerAttach).
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterable, Iterator

from wherry.cli.connection import READ_SIZE, DaemonError
from wherry.cli.terminal import DetachKeys

HEADER = 8


class Frames:
    """Frames out of pieces of any size."""

    def __init__(self) -> None:
        self._buffer = b""
        self._stream = 1
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(descriptor 1 or 2, data), as much as is there."""
        self._buffer += data
        while self._buffer:
            if not self._left:
                if len(self._buffer) < HEADER:
                    return
                self._stream = 2 if self._buffer[0] in (2, 3) else 1
                if self._buffer[0] > 3 or self._buffer[1:4] != b"\0\0\0":
                    raise DaemonError("the daemon's output is no stream of frames")
                self._left = int.from_bytes(self._buffer[4:HEADER], "big")
                self._buffer = self._buffer[HEADER:]
                continue
            piece, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
            self._left -= len(piece)
            yield self._stream, piece


def show(chunks: Iterable[bytes], *, framed: bool) -> None:
    """Print a body of output: frames to stdout and stderr, or raw bytes."""
    frames = Frames()
    for chunk in chunks:
        for descriptor, data in frames.feed(chunk) if framed else [(1, chunk)]:
            write(descriptor, data)


def pump(
    connection: socket.socket, early: bytes, *, framed: bool, stdin: bool, keys: DetachKeys | None = None
) -> bool:
    """Copy until the output ends. True if it ended, False if the user typed the keys that detach.

    The end of stdin is passed on as an end of our writing only: output flows to its own end.
    """
    frames = Frames()

    def out(data: bytes) -> None:
        for descriptor, piece in frames.feed(data) if framed else [(1, data)]:
            write(descriptor, piece)

    out(early)
    pending = memoryview(b"")
    finished = not stdin  # nothing more will be read from stdin
    closed = False  # the daemon was told so
    connection.setblocking(False)
    while True:
        if finished and not pending and stdin and not closed:
            _end_writing(connection)
            closed = True
        poll = select.poll()
        poll.register(connection, select.POLLIN | (select.POLLOUT if pending else 0))
        if not finished and not pending:
            poll.register(0, select.POLLIN)
        ready = dict(poll.poll())
        if ready.get(connection.fileno(), 0) & ~select.POLLOUT:
            try:
                data = connection.recv(READ_SIZE)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return True
            if not data:
                return True
            out(data)
        if ready.get(0):
            typed = _typed()
            finished = not typed
            if keys:
                typed, detach = keys.feed(typed)
                if detach:
                    return False
            pending = memoryview(typed)
        if pending:
            try:
                pending = pending[connection.send(pending, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                pass  # poll tells when there is room
            except (BrokenPipeError, ConnectionResetError):
                pending, finished = memoryview(b""), True  # it reads no more; its output goes on


def write(descriptor: int, data: bytes) -> None:
    """All of `data`. Nobody who reads is the end of the program, as SIGPIPE has it."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def _typed() -> bytes:
    try:
        return os.read(0, READ_SIZE)
    except OSError:
        return b""  # closed, or a terminal that is gone


def _end_writing(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the daemon was faster
