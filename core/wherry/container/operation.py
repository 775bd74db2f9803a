"""One operation per container at a time, which others can see, wait for a bounded time, and cancel.

Not a bare lock: whoever waits in vain is told which operation holds the container and at which step it is.
Readers never come here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from wherry.errors import Busy

PATIENCE: Final = 15.0
"""Seconds that an operation waits for the one before it."""


class Operation:
    """The place for the operation of one container."""

    def __init__(self, container_id: str) -> None:
        self._container_id = container_id
        self._lock = threading.Lock()
        self.verb = ""
        self.step = ""
        self.cancelled = threading.Event()
        self._abort: Callable[[], None] | None = None

    @contextmanager
    def __call__(self, verb: str, patience: float | None = PATIENCE) -> Iterator[Operation]:
        """Hold the container for `verb`; Busy after `patience` seconds (None: wait for ever)."""
        if not self._lock.acquire(timeout=-1 if patience is None else patience):
            step = f", at step {self.step}" if self.step else ""
            raise Busy(
                f"container {self._container_id[:12]} is busy: {self.verb}{step}; try again when that has ended"
            )
        self.verb, self.step = verb, ""
        self.cancelled.clear()
        try:
            yield self
        finally:
            self.verb = self.step = ""
            self._lock.release()

    @contextmanager
    def abortable(self, abort: Callable[[], None]) -> Iterator[None]:
        """While what follows waits for somebody else, `cancel` calls `abort`, which has to make it fail at once."""
        self._abort = abort
        try:
            if self.cancelled.is_set():
                abort()
            yield
        finally:
            self._abort = None

    def cancel(self) -> None:
        """Ask the operation that runs now, if any, to give up: at its next step, or at once where it can be aborted."""
        self.cancelled.set()
        abort = self._abort
        if abort is not None:
            abort()
