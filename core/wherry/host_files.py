"""Hearing of a change of the host's resolv.conf: one inotify(7) instance and one thread of the daemon."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from inotify_simple import INotify, flags

_CHANGES: Final = flags.CLOSE_WRITE | flags.MOVED_TO | flags.CREATE | flags.DELETE | flags.MOVED_FROM
_QUIET: Final = 0.1
"""Seconds without a change before the file is looked at: editors write in several steps."""


class HostFiles:
    """Calls `changed`, in its own thread, when what `content` answers is another than before. `changed` must not raise."""

    def __init__(
        self, directories: Iterable[Path], content: Callable[[], object], changed: Callable[[], None]
    ) -> None:
        """OSError where the kernel has no more watches for us."""
        self._content, self._changed = content, changed
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._inotify = INotify(nonblocking=True)
        try:
            for directory in directories:
                self._inotify.add_watch(directory, _CHANGES)
        except BaseException:
            self._inotify.close()
            os.close(self._stop)
            raise
        self._last = content()
        self._thread = threading.Thread(target=self._run, name="host files", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._inotify.close()
        os.close(self._stop)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        poll.register(self._inotify.fileno(), select.POLLIN)
        heard = False
        while True:
            ready = dict(poll.poll(_QUIET * 1000 if heard else None))
            if self._stop in ready:
                return
            if ready:
                self._inotify.read(timeout=0)
                heard = True
                continue
            heard = False
            found = self._content()
            if found != self._last:
                self._last = found
                self._changed()
