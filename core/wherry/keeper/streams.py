"""The streams of one process: what it writes goes to its clients and its log, what clients type goes to it.

clients ══▶ Input ──▶ stdin pipe or terminal      unread output holds the process up, at the pipe's 64 KiB
clients ◀══ Streams ◀── stdout, stderr pipes, or terminal
log     ◀──┘
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from fcntl import F_DUPFD_CLOEXEC, fcntl
from functools import partial
from typing import Final

from wherry.keeper.attach import CHUNK, Client, DetachKeys, parse_keys
from wherry.keeper.loop import READ, WRITE, Loop
from wherry.keeper.protocol import Attached
from wherry.keeper.pump import LogPump
from wherry.keeper.stdio import Ends

INPUT_LIMIT: Final = 65536
"""Bytes that wait for a process which does not read its input, before its clients have to wait."""

PIPE_LIMIT: Final = 1 << 20
"""Bytes that a pipe can hold at most: /proc/sys/fs/pipe-max-size."""


class Input:
    """The writing side of a process's input, which may not be read for a while."""

    def __init__(self, loop: Loop, descriptor: int, roomy: Callable[[], None]) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._roomy = roomy
        self._pending: deque[bytes] = deque()
        self._waiting = 0
        self._ending = False
        self.open = True
        os.set_blocking(descriptor, False)

    def write(self, data: bytes) -> bool:
        """False: it is full; `roomy` is called when it is not."""
        if not self.open or self._ending:
            return True  # nobody reads it any more: it is lost, as in a shell's pipe
        self._pending.append(data)
        self._waiting += len(data)
        if len(self._pending) == 1:
            self._flush()
        return self._waiting <= INPUT_LIMIT

    def end(self) -> None:
        """End of file, after what was written."""
        self._ending = True
        if not self._pending:
            self.close()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.forget(self._descriptor)
            os.close(self._descriptor)
            self._pending.clear()
            self._waiting = 0

    def _flush(self) -> None:
        while self._pending:
            data = self._pending[0]
            try:
                sent = os.write(self._descriptor, data)
            except BlockingIOError:
                self._loop.watch(self._descriptor, WRITE, self._ready)
                return
            except OSError:
                self.close()  # EPIPE: the process closed its input
                return
            self._waiting -= sent
            if sent < len(data):
                self._pending[0] = data[sent:]
            else:
                self._pending.popleft()
        self._loop.forget(self._descriptor)
        if self._ending:
            self.close()

    def _ready(self, events: int) -> None:
        self._flush()
        if self._waiting <= INPUT_LIMIT // 2:
            self._roomy()


class Streams:
    """Owns the keeper's ends of a process's streams, its clients, and (for process 1) its log."""

    def __init__(
        self,
        loop: Loop,
        *,
        log: LogPump | None,
        left: Callable[[str], None],
        tty: bool,
        input_once: bool,
    ) -> None:
        self._loop = loop
        self._log = log
        self._left = left
        self._input_once = input_once
        self._input: Input | None = None
        self._outputs: dict[int, int] = {}
        self._clients: list[Client] = []
        self._laggards: set[Client] = set()
        self._paused = False
        self._on_end: Callable[[], None] | None = None
        self._tty = tty
        self._opened = False
        self._early: list[tuple[Client, bytes]] = []

    def open(self, ends: Ends, console: int | None, *, stdin: bool) -> None:
        """Take the keeper's ends over: either pipes, or a terminal's master. Without `stdin` nobody may type."""
        self._opened = True
        if console is not None:
            ends.stdout = console
            # A descriptor of its own for the input, so that each side can be watched and closed by itself.
            ends.stdin = fcntl(console, F_DUPFD_CLOEXEC, 3) if stdin else None
        if ends.stdin is not None:
            self._input = Input(self._loop, ends.stdin, self._roomy)
        for descriptor, stream in ((ends.stdout, 1), (ends.stderr, 2)):
            if descriptor is not None:
                os.set_blocking(descriptor, False)
                self._outputs[descriptor] = stream
                self._loop.watch(descriptor, READ, partial(self._readable, descriptor))
        for client, early in self._early:
            client.input(early)
        self._early.clear()

    @property
    def console(self) -> int | None:
        """The terminal's master while it is open."""
        return next(iter(self._outputs), None) if self._tty else None

    @property
    def paused(self) -> bool:
        """Output is left unread, because the log or a client lags."""
        return self._paused

    @property
    def held_up(self) -> bool:
        """Output is left unread because of a client, which has its own patience."""
        return bool(self._laggards)

    @property
    def ended(self) -> bool:
        """All output was read to its end."""
        return not self._outputs

    @property
    def abandoned(self) -> bool:
        """No client is there any more."""
        return not self._clients

    @property
    def quiet(self) -> bool:
        """Every client that is still there has everything and was told the end."""
        return all(client.parted for client in self._clients)

    def attach(self, wanted: Attached, descriptor: int, *, patience: float) -> Client:
        """Take a client in; the descriptor is its own from here on."""
        keys = DetachKeys(parse_keys(wanted.detach_keys)) if self._tty else None
        client = Client(
            self._loop,
            self,
            descriptor,
            stdin=wanted.stdin,
            stdout=wanted.stdout,
            stderr=wanted.stderr,
            multiplexed=wanted.multiplexed,
            keys=keys,
            patience=patience,
            held=wanted.hold,
        )
        self._clients.append(client)
        if self._opened:
            client.input(wanted.early)
        else:
            self._early.append((client, wanted.early))
        return client

    def say(self, data: bytes) -> None:
        """Tell the clients something that is not of the process."""
        for client in list(self._clients):
            client.output(1, data)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call once, when all output was read to its end; at once if it was."""
        if self.ended:
            callback()
        else:
            self._on_end = callback

    def read_out(self) -> None:
        """Read what is there now, as far as log and clients take it; what others write meanwhile has its bound."""
        for descriptor in list(self._outputs):
            for _ in range(PIPE_LIMIT // CHUNK):
                if descriptor not in self._outputs or self._paused or not self._read(descriptor):
                    break

    def finish(self) -> None:
        """Stop reading whatever there may be, and let the clients go."""
        self._on_end = None
        for descriptor in list(self._outputs):
            self._close(descriptor)
        if self._input is not None:
            self._input.close()

    def part(self) -> None:
        """Let the clients go: each gets what waits for it, then the end."""
        for client in list(self._clients):
            client.leave()

    def drop(self) -> None:
        for client in list(self._clients):
            client.drop()

    def settle(self) -> None:
        """Leave output unread while the log or a client lags, read on when none does."""
        objecting = bool(self._laggards) or (self._log is not None and self._log.full)
        if objecting == self._paused:
            return
        self._paused = objecting
        for descriptor in self._outputs:
            if objecting:
                self._loop.forget(
                    descriptor
                )  # wholly: a hang-up would be told even when reading is not asked for
            else:
                self._loop.watch(descriptor, READ, partial(self._readable, descriptor))

    # What clients say (attach.Process).

    def typed(self, data: bytes) -> bool:
        return self._input.write(data) if self._input is not None else True

    def input_ended(self) -> None:
        if self._input is not None and self._input_once and not self._tty:
            self._input.end()

    def lagging(self, client: Client) -> None:
        (self._laggards.add if client.lags else self._laggards.discard)(client)
        self.settle()

    def left(self, client: Client, why: str) -> None:
        if client in self._clients:
            self._clients.remove(client)
        self._laggards.discard(client)
        self.settle()
        self._left(why)

    def parted(self, client: Client) -> None:
        self._left("")

    def _roomy(self) -> None:
        for client in list(self._clients):
            client.listen(True)

    def _readable(self, descriptor: int, events: int) -> None:
        self._read(descriptor)

    def _read(self, descriptor: int) -> bool:
        try:
            chunk = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""  # EIO of a terminal: nobody has it open any more
        if not chunk:
            self._close(descriptor)
            if not self._outputs and self._on_end is not None:
                on_end, self._on_end = self._on_end, None
                on_end()
            return False
        stream = self._outputs[descriptor]
        for client in list(self._clients):
            client.output(stream, chunk)
        if self._log is not None:
            self._log.write(stream, chunk)
            if self._log.full:
                self.settle()
        return True

    def _close(self, descriptor: int) -> None:
        self._loop.forget(descriptor)
        del self._outputs[descriptor]
        os.close(descriptor)
