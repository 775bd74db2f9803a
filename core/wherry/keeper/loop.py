"""One epoll loop: descriptors, timers, and a way in for other threads and for signals. Knows nothing of containers."""

from __future__ import annotations

import heapq
import itertools
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable

READ, WRITE, HANGUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


class Timer:
    """A callback that is due at a time; `cancel` may be called at any time, also after it ran."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """`watch` descriptors, ask for a call `after` some seconds, `post` from another thread, `run` until `stop`.

    What a callback raises goes to `failed`, and the descriptor that it was about is not watched any more: one broken
    client must not end what serves all.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._posted: deque[Callable[[], None]] = deque()
        self._bell, self._rope = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopped = False
        self._on_child: Callable[[], None] | None = None
        self.watch(self._bell, READ, self._rung)

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever `descriptor` is ready (level-triggered); HANGUP is always told."""
        if descriptor in self._callbacks:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._callbacks[descriptor] = callback

    def forget(self, descriptor: int) -> None:
        """Stop watching; before the descriptor is closed. Not watched is success."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._count), timer))
        return timer

    def post(self, callback: Callable[[], None]) -> None:
        """Have `callback` called in the loop. From any thread."""
        self._posted.append(callback)
        self._ring()

    def watch_children(self, callback: Callable[[], None]) -> None:
        """Call `callback` after every SIGCHLD. In the main thread of a process that is the loop's alone."""
        self._on_child = callback
        # The handler does nothing; that it exists makes the C handler write into the rope: signal.set_wakeup_fd.
        signal.set_wakeup_fd(self._rope, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        poll, callbacks = self._epoll.poll, self._callbacks
        while not self._stopped:
            for descriptor, events in poll(self._patience()):
                callback = callbacks.get(descriptor)
                if callback is not None:
                    try:
                        callback(events)
                    except Exception as error:
                        if descriptor != self._bell:
                            self.forget(descriptor)
                        self._failed(error)
            self._due()

    def close(self) -> None:
        self._epoll.close()
        os.close(self._bell)
        rope, self._rope = self._rope, -1
        os.close(rope)

    def _patience(self) -> float:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return -1.0
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _due(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                try:
                    timer.callback()
                except Exception as error:
                    self._failed(error)

    def _rung(self, events: int) -> None:
        rings = os.read(self._bell, 4096)
        if signal.SIGCHLD in rings and self._on_child is not None:
            self._on_child()
        while self._posted:
            try:
                self._posted.popleft()()
            except Exception as error:
                self._failed(error)

    def _ring(self) -> None:
        try:
            os.write(self._rope, b"\0")
        except BlockingIOError:
            pass  # so full that the loop wakes anyway
        except OSError:
            if self._rope != -1:  # closed: nobody is to be woken any more
                raise


def _nothing(number: int, frame: object) -> None:
    return None
