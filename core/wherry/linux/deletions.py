"""Deleting big trees off the path of whoever asked: they were renamed aside before, so nobody sees them any more."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from wherry.linux import tree


class Deletions:
    """Entries of the directory `top` (a descriptor that stays the caller's), deleted one by one by a thread.

    What cannot be deleted (an immutable file, a failing disk) stays; what is not yet deleted at the end of the process
    too. So whoever uses this looks for leftovers at its next start.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._names: SimpleQueue[str] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def add(self, name: str) -> None:
        """Delete `name` with all below it, soon."""
        self._names.put(name)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="deletions", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        while True:
            name = self._names.get()
            try:
                tree.remove(self._top, name)
            except OSError:
                continue  # it stays aside, and the next start names it
