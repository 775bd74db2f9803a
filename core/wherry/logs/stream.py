"""A container's log as a stream: what is there, and with `follow` what is yet to come.

    keeper ── "logged" ──▶ engine ── notify() ──▶ LogStream ── callback ──▶ front ── read() ──▶ reader ──▶ files

The reader knows nothing of time passing; the stream knows nothing of files. It ends when the log has been read to its
end and nobody is left to write: whether the container lives is asked *before* the reader, so that what is written in
between is not lost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from wherry.spec.log import LogReader, Record


class LogStream:
    """A `wherry.spec.frontend.Stream` of records. Owns `reader`.

    `live` says whether the container may still write. `read` and `close` may be called from different threads.
    """

    def __init__(self, reader: LogReader, *, follow: bool, live: Callable[[], bool]) -> None:
        self._reader: LogReader | None = reader
        self._follow = follow
        self._live = live
        self._reading = threading.Lock()
        self._noting = threading.Lock()
        self._noted = False
        self._ready: Callable[[], None] | None = None
        self._closing = False
        self._on_close: list[Callable[[], None]] = []
        if not follow:
            # Else a container that writes faster than we read keeps `docker logs` running for ever.
            stop_at_end = getattr(reader, "stop_at_end", None)
            if stop_at_end is not None:
                stop_at_end()

    def read(self) -> Sequence[Record] | None:
        """Records, [] if none yet, None at the end and after `close`."""
        with self._reading:
            records = None if self._closing or self._reader is None else self._next(self._reader)
        if self._closing:
            self._release()
        return records

    def _next(self, reader: LogReader) -> Sequence[Record] | None:
        live = self._follow and self._live()
        records = reader.read()
        if records:
            return records
        return [] if live and not getattr(reader, "finished", False) else None

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `notify` is called; at once if it was called before there was a callback."""
        with self._noting:
            self._ready = callback
            noted, self._noted = self._noted, False
        if noted:
            callback()

    def notify(self) -> None:
        """There may be something new, or the container has ended. From any thread; quick."""
        with self._noting:
            callback = self._ready
            self._noted = callback is None
        if callback is not None:
            callback()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the stream is closed."""
        self._on_close.append(callback)

    def close(self) -> None:
        """Give up the reader: now, or when the `read` that is under way returns. Idempotent; never waits for it."""
        self._closing = True
        self._release()
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            callback()

    def _release(self) -> None:
        # Whoever comes second, `close` or the end of `read`, finds the lock free.
        if self._reading.acquire(blocking=False):
            try:
                reader, self._reader = self._reader, None
                if reader is not None:
                    reader.close()
            finally:
                self._reading.release()
