"""The keeper's children: who waits for which, and the reaping of all others (it is a subreaper)."""

from __future__ import annotations

import os
from collections.abc import Callable


class Children:
    def __init__(self) -> None:
        self._waiting: dict[int, Callable[[int], None]] = {}

    def watch(self, pid: int, ended: Callable[[int], None]) -> None:
        """Call `ended(status)` once `pid`, a child not reaped yet, has ended."""
        self._waiting[pid] = ended

    def ignore(self, pid: int) -> None:
        """Reap it when it ends, and tell nobody."""
        self._waiting.pop(pid, None)

    def reap(self) -> None:
        """Collect everyone who has ended; after SIGCHLD."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = self._waiting.pop(pid, None)
            if ended is not None:
                ended(status)
