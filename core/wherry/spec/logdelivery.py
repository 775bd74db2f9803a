"""Lines on their way to a server that may be away: the sink of every log driver that sends.

    RemoteSink(wire, encode, "syslog at udp://10.0.0.1:514")

`encode` makes messages of a batch; `wire` sends them. Every line is delivered once the server takes it, in order, and
never more is held than a bound:

server there            write sends, and returns
it went away            write waits and reconnects, longer and longer between two attempts: the container's keeper
                        holds up the container, or drops, as the container's `mode` says
away for long           a container should not stand still for ever because a log server does: lines are held up to
                        the bound, after that refused (and counted by the keeper); reconnecting goes on
back again              what was held goes first
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from wherry.errors import Unavailable
from wherry.spec.log import Batch

HELD: Final = 1 << 20
"""Bytes of messages that are held while the server is away."""
PATIENCE: Final = 30.0
"""Seconds that a write waits per outage."""
CLOSING: Final = 1.0
"""Seconds for what is left at the end."""
_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 5.0


class Wire(Protocol):
    """A server, connected to when the first message is there, and again after `close`. Every call has a deadline."""

    timeout: float
    """Seconds that connecting may take; the sink shortens it at the end."""

    def send(self, messages: deque[bytes]) -> None:
        """Send all `messages`, taking each out when it is sent. OSError: those that are left were not."""

    def close(self) -> None:
        """Give the connection up; the next `send` makes another. Idempotent."""


class RemoteSink:
    """A container's lines on their way. Not local: `write` may wait up to `patience` seconds per outage."""

    def __init__(
        self,
        wire: Wire,
        encode: Callable[[Batch], Iterable[bytes]],
        server: str,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`server` is what the user knows it by: "syslog at tcp://log:514"."""
        self._wire: Final = wire
        self._encode: Final = encode
        self._server: Final = server
        self._patience: Final = patience
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._held: Final[deque[bytes]] = deque()
        self._away_since: float | None = None
        self._next_try = 0.0
        self._pause = _FIRST_PAUSE
        self._trouble = ""

    def write(self, batch: Batch) -> None:
        """Send the batch, or hold it. Unavailable: it is neither sent nor held."""
        if self._held:
            self._deliver(self._away_until())
            if sum(map(len, self._held)) + len(batch.data) > HELD:
                raise self._unavailable("lines are dropped")
        self._held.extend(self._encode(batch))
        self._deliver(self._away_until())

    def close(self) -> None:
        """Try once more to send what is held. Unavailable if that is lost."""
        self._next_try = 0.0
        self._wire.timeout = CLOSING
        self._deliver(self._clock() + CLOSING)
        self._wire.close()
        if self._held:
            raise self._unavailable(f"the last {len(self._held)} messages are lost")

    def _away_until(self) -> float:
        """Until when a write may wait."""
        return (self._clock() if self._away_since is None else self._away_since) + self._patience

    def _deliver(self, until: float) -> None:
        while self._held:
            now = self._clock()
            if now < self._next_try:
                if self._next_try > until:
                    return
                self._sleep(self._next_try - now)
            try:
                self._wire.send(self._held)
            except OSError as error:
                self._failed(error)
            else:
                self._away_since, self._pause, self._next_try = None, _FIRST_PAUSE, 0.0

    def _failed(self, error: OSError) -> None:
        self._wire.close()
        self._trouble = error.strerror or str(error)
        now = self._clock()
        if self._away_since is None:
            self._away_since = now
        self._next_try = now + self._pause
        self._pause = min(self._pause * 2, _LAST_PAUSE)

    def _unavailable(self, consequence: str) -> Unavailable:
        return Unavailable(f"{self._server} cannot be reached ({self._trouble}); {consequence}")
