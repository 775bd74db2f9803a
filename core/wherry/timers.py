"""What is to happen later: one thread, a heap, the monotonic clock."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Timers:
    """Calls functions after a delay, one by one, in a thread of its own; what they do must be short."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._cancelled: set[int] = set()
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)
        self._thread.start()

    def after(self, seconds: float, action: Callable[[], object]) -> Callable[[], None]:
        """Call `action` in `seconds`; answers what cancels that."""
        with self._changed:
            number = next(self._numbers)
            heapq.heappush(self._heap, (time.monotonic() + seconds, number, action))
            self._changed.notify()
        return lambda: self._cancelled.add(number)

    def close(self) -> None:
        with self._changed:
            self._open = False
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._open and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                if not self._open:
                    return
                _, number, action = heapq.heappop(self._heap)
            if number in self._cancelled:
                self._cancelled.discard(number)
                continue
            try:
                action()
            except Exception:
                log.exception("what was to be done later failed")
