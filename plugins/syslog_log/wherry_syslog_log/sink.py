"""Delivery: every line once the server takes it, in order, and never more held than a bound.

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
from collections.abc import Callable
from typing import Final

from wherry.errors import Unavailable
from wherry.spec.log import Batch
from wherry_syslog_log.connection import Connection
from wherry_syslog_log.message import Formatter

HELD: Final = 1 << 20
PATIENCE: Final = 30.0
CLOSING: Final = 1.0
_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 5.0


class SyslogSink:
    """A container's lines on their way. Not local: `write` may wait up to `patience` seconds per outage."""

    def __init__(
        self,
        connection: Connection,
        formatter: Formatter,
        address: str,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection: Final = connection
        self._formatter: Final = formatter
        self._address: Final = address
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
        self._held.extend(self._formatter.messages(batch))
        self._deliver(self._away_until())

    def close(self) -> None:
        """Try once more to send what is held. Unavailable if that is lost."""
        self._next_try = 0.0
        self._connection.timeout = CLOSING
        self._deliver(self._clock() + CLOSING)
        self._connection.close()
        if self._held:
            raise self._unavailable(f"the last {len(self._held)} lines are lost")

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
                self._connection.send(self._held)
            except OSError as error:
                self._failed(error)
            else:
                self._away_since, self._pause, self._next_try = None, _FIRST_PAUSE, 0.0

    def _failed(self, error: OSError) -> None:
        self._connection.close()
        self._trouble = error.strerror or str(error)
        now = self._clock()
        if self._away_since is None:
            self._away_since = now
        self._next_try = now + self._pause
        self._pause = min(self._pause * 2, _LAST_PAUSE)

    def _unavailable(self, consequence: str) -> Unavailable:
        return Unavailable(f"syslog at {self._address} cannot be reached ({self._trouble}); {consequence}")
