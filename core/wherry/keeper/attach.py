"""Attached clients: a socket that gets a process's output and gives its input.

Output goes out as it came in, each chunk behind a header of eight bytes where the streams are multiplexed:

    ┌────────┬─────────┬──────────────┬───────┐
    │ stream │ 0  0  0 │ length (u32) │ bytes │      stream: 1 stdout, 2 stderr; numbers in network order
    └────────┴─────────┴──────────────┴───────┘      Source: API 1.51 ContainerAttach

A client may lag: then its process waits, as it would for a slow terminal. One that reads nothing at all for its
patience is cut, so that it cannot hold the container and the other clients for ever. A client that shuts its writing
side ends the process's input, nothing else: output flows to the end.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Final, Protocol

from wherry.errors import InvalidRequest
from wherry.keeper.loop import HANGUP, READ, WRITE, Loop, Timer

CHUNK: Final = 65536
LAG_LIMIT: Final = 128 << 10
"""Bytes that wait for a client, beyond its socket's buffer, before the process has to wait for it."""
LINGER: Final = 1.0
"""Seconds between our last byte and the close: what a client still sends must not turn into a reset."""
DEFAULT_KEYS: Final = "ctrl-p,ctrl-q"

frame: Final = struct.Struct(">BxxxI").pack
"""(stream, length) as the header of a chunk."""


def parse_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` as the bytes that a terminal sends. Empty is the default. Source: docker attach --detach-keys."""
    keys = bytearray()
    for word in (text or DEFAULT_KEYS).split(","):
        if len(word) == 1 and word.isascii():
            keys += word.encode()
        elif len(word) == 6 and word.startswith("ctrl-") and word[5] in "@abcdefghijklmnopqrstuvwxyz[\\]^_":
            keys.append(ord(word[5].upper()) - 64)
        elif word == "DEL":
            keys.append(127)
        else:
            raise InvalidRequest(
                f'the detach keys "{text}" are not valid: "{word}" is neither a key nor ctrl-<key>'
            )
    return bytes(keys)


class DetachKeys:
    """Looks for a sequence of keys in what is typed, and holds back what may be its beginning."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def scan(self, data: bytes) -> tuple[bytes, bool]:
        """(what is to be passed on, whether the sequence is complete). What follows the sequence is dropped."""
        if self._matched == 0 and self._keys[0] not in data:
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self._matched = 0
                    return bytes(passed), True
                continue
            passed += self._keys[: self._matched]
            self._matched = int(byte == self._keys[0])
            if not self._matched:
                passed.append(byte)
        return bytes(passed), False


class Process(Protocol):
    """What a client needs of the process whose streams it has."""

    def typed(self, data: bytes) -> bool:
        """Take input; False: no more for now, `Client.listen` is called when there is room again."""

    def input_ended(self) -> None:
        """The client sends no more input."""

    def lagging(self, client: Client) -> None:
        """The client went over its limit, or came back below it."""

    def parted(self, client: Client) -> None:
        """The client has everything, and the end; it is closed soon."""

    def left(self, client: Client, why: str) -> None:
        """The client is closed: it went away, was cut (`why` says so), detached, or was let go (`why` empty)."""


class Client:
    """One attached client. `descriptor` is its own from here on."""

    def __init__(
        self,
        loop: Loop,
        process: Process,
        descriptor: int,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        multiplexed: bool,
        keys: DetachKeys | None,
        patience: float,
        held: bool = False,
    ) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._loop = loop
        self._process = process
        self._stdin = stdin
        self._wanted = (stdout, stderr)
        self._multiplexed = multiplexed
        self._keys = keys
        self._patience = patience
        self._held = held
        self._pending: deque[bytes | memoryview] = deque()
        self._waiting = 0
        self._reading = True
        self._leaving = False
        self.parted = False
        self._closed = False
        self._impatience: Timer | None = None
        self._rewatch()

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def lags(self) -> bool:
        return self._waiting > LAG_LIMIT

    @property
    def flushed(self) -> bool:
        return self._waiting == 0

    def output(self, stream: int, chunk: bytes) -> None:
        """Send a chunk of stream 1 (stdout) or 2 (stderr), or keep it until the client reads."""
        if not self._wanted[stream - 1] or self._leaving:
            return
        pieces = [frame(stream, len(chunk)), chunk] if self._multiplexed else [chunk]
        if self._pending or self._held:
            self._keep(pieces, 0)
            return
        try:
            sent = self._socket.sendmsg(pieces, (), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close("")
            return
        if sent < len(chunk) + (8 if self._multiplexed else 0):
            self._keep(pieces, sent)

    def input(self, data: bytes) -> None:
        """What the client sent, or the front had read already."""
        if not data or not self._stdin or self._leaving:
            return
        detached = False
        if self._keys is not None:
            data, detached = self._keys.scan(data)
        if data and not self._process.typed(data):
            self.listen(False)
        if detached:
            self._close("detached")

    def listen(self, on: bool) -> None:
        """Stop reading from the client, or go on."""
        if not self._stdin or self._closed or self._leaving or on == self._reading:
            return
        self._reading = on
        self._rewatch()

    def leave(self) -> None:
        """Send what waits, say that this is the end, close."""
        if self._leaving or self._closed:
            return
        self._leaving = True
        if self.flushed and not self._held:
            self._part()
        else:
            self._fret()

    def go(self) -> None:
        """Send from now on what was kept, and what comes."""
        if not self._held or self._closed:
            return
        self._held = False
        if self._leaving and self.flushed:
            self._part()
        else:
            self._rewatch()

    def drop(self) -> None:
        """Close at once, whatever waits."""
        self._close("")

    def _keep(self, pieces: list[bytes], sent: int) -> None:
        fresh = not self._pending
        for piece in pieces:
            if sent >= len(piece):
                sent -= len(piece)
                continue
            self._pending.append(memoryview(piece)[sent:] if sent else piece)
            self._waiting += len(piece) - sent
            sent = 0
        if fresh:
            self._rewatch()
        if self.lags and self._impatience is None:
            self._fret()
            self._process.lagging(self)

    def _fret(self) -> None:
        self._calm()
        self._impatience = self._loop.after(self._patience, self._cut)

    def _calm(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _cut(self) -> None:
        self._close(f"it read nothing for {self._patience:g} s with {self._waiting} bytes waiting")

    def _ready(self, events: int) -> None:
        if events & WRITE and self._pending:
            self._send()
        if events & READ and not self._closed:
            self._receive()
        if events & HANGUP and not self._closed and not events & READ:
            self._close("")

    def _send(self) -> None:
        lagged = self._impatience is not None
        while self._pending:
            try:
                sent = self._socket.sendmsg([*self._pending][:16], (), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError:
                self._close("")
                return
            self._waiting -= sent
            while sent:
                first = self._pending[0]
                if sent < len(first):
                    self._pending[0] = memoryview(first)[sent:]
                    break
                sent -= len(first)
                self._pending.popleft()
        if self._leaving:
            if self._pending:
                self._fret()
            else:
                self._part()
            return
        if not self._pending:
            self._rewatch()
        if lagged and self._waiting <= LAG_LIMIT // 2:
            self._calm()
            self._process.lagging(self)
        elif lagged:
            self._fret()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._close("")
            return
        if data:
            self.input(data)
            return
        self._reading = False
        if self._leaving and not self._pending:
            self._close("")
            return
        self._rewatch()
        if self._stdin:
            self._stdin = False
            self._process.input_ended()

    def _part(self) -> None:
        self._calm()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._close("")  # it went before us
            return
        if not self._reading and not self._stdin:
            self._close("")  # it had ended before
            return
        self._reading = True
        self._rewatch()
        self._impatience = self._loop.after(LINGER, self.drop)
        self.parted = True
        self._process.parted(self)

    def _rewatch(self) -> None:
        events = (READ if self._reading else 0) | (WRITE if self._pending and not self._held else 0)
        self._loop.watch(self._socket.fileno(), events, self._ready)

    def _close(self, why: str) -> None:
        if self._closed:
            return
        self._closed = True
        self._calm()
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._pending.clear()
        self._waiting = 0
        self._process.left(self, why)
        if self._stdin:
            self._stdin = False
            if why != "detached":
                self._process.input_ended()
