"""Noticing that a container runs out of memory: each time somebody is killed for it, and when all have to wait."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import Final

from wherry.errors import WherryError
from wherry.keeper.line import Line
from wherry.keeper.loop import READ, Loop
from wherry.plugins import Driver
from wherry.spec.exec import OomWatch, State

PAUSE: Final = 0.25
"""Seconds between two looks: a container at its limit may run out of memory a thousand times a second."""


class MemoryWatch:
    """Tells the daemon by `oom {kills}`, until that is seen, how many processes were killed since the start."""

    def __init__(self, loop: Loop, line: Line, driver: Driver, state: State) -> None:
        self._loop, self._line = loop, line
        self._driver, self._state = driver, state
        self._watch: OomWatch | None = None
        self._kills = 0
        self._untold = self._telling = False

    def begin(self) -> None:
        """Watch from now on, where the driver can; what was before is told as well."""
        with suppress(WherryError):
            self._watch = self._driver.call("oom_watch", state=self._state)
        self._go_on()

    def kills(self) -> int:
        """The number now, told if it has grown. Raises what the driver raises."""
        found = int(self._driver.call("oom_killed", state=self._state))
        if found > self._kills:
            self._kills = found
            self._tell()
        return found

    def close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            self._loop.forget(watch.descriptor)
            os.close(watch.descriptor)

    def _noticed(self, events: int) -> None:
        watch, before = self._watch, self._kills
        if watch is None:
            return
        with suppress(OSError):
            os.lseek(watch.descriptor, 0, os.SEEK_SET)
        with suppress(OSError):
            os.read(watch.descriptor, 4096)
        self._loop.forget(watch.descriptor)
        with suppress(WherryError):
            self.kills()

        def again() -> None:
            self._go_on()
            # The kernel (cgroups of version 1) says that memory ran out before it kills, or does not.
            if watch.certain and self._watch is watch and self._kills == before:
                self._tell()

        self._loop.after(PAUSE, again)

    def _go_on(self) -> None:
        if self._watch is not None:
            self._loop.watch(self._watch.descriptor, READ | select.EPOLLPRI, self._noticed)
        with suppress(WherryError):
            self.kills()

    def _tell(self) -> None:
        """One at a time: what a dead daemon does not hear must not crowd out what else is kept for the next."""
        self._untold = True
        if not self._telling:
            self._tell_next()

    def _tell_next(self) -> None:
        self._telling, self._untold = self._untold, False
        if self._telling:
            self._line.tell_surely("oom", {"kills": self._kills}, self._tell_next)
