"""The one door from the asynchronous front into the engine, which is blocking.

Three lanes, each with a bound of its own on threads: what only reads must get in while everything that works hangs,
and so must what ends things (`kill`, `stop`, `rm -f`): they are how a user gets rid of what hangs.

Threads are made when they are needed, go when they were idle for a while, and are daemonic: a driver that never
returns does not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

IDLE_SECONDS: Final = 30.0


class Lane:
    """A bounded pool of threads that makes blocking calls for one event loop."""

    def __init__(self, name: str, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self._name, self._size, self._loop = name, size, loop
        self._changed = threading.Condition()
        self._jobs: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        self._idle = 0
        self._threads = 0

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Call `function` in a thread; awaiting the future gives what it returns or raises. Call this in the loop."""
        future: asyncio.Future[T] = self._loop.create_future()
        with self._changed:
            self._jobs.append((future, lambda: function(*args, **kwargs)))
            if self._idle >= len(self._jobs) or self._threads >= self._size:
                self._changed.notify()
                return future
            self._threads += 1
        threading.Thread(target=self._work, name=f"{self._name} lane", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._idle += 1
                    self._changed.wait(IDLE_SECONDS)
                    self._idle -= 1
                if not self._jobs:
                    self._threads -= 1
                    return
                future, call = self._jobs.popleft()
            if future.cancelled():
                continue
            try:
                result, error = call(), None
            except BaseException as raised:
                result, error = None, raised
            try:
                self._loop.call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                pass  # the loop was closed: nobody waits any more
            del future, call, result, error


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return  # who waited is gone
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        future.set_exception(RuntimeError("the engine raised StopIteration"))  # a future refuses it
    else:
        future.set_exception(error)


class Door:
    """`read` for questions, `work` for what changes or moves data, `end` for what must get in when all else hangs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.read: Final = Lane("read", 16, loop).call
        self.work: Final = Lane("work", 128, loop).call
        self.end: Final = Lane("end", 64, loop).call
