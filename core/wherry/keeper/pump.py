"""From chunks of output to the log: lines are kept whole, long ones cut, times given, and the sink is shielded.

    chunk ─▶ cut (per stream: whole lines, pieces of long ones) ─▶ Batch (time) ─▶ LocalSink     written at once
                                                                              └──▶ ThreadedSink  a thread, bounded

Where the driver cannot read back, each batch goes to a local copy first, however slow the driver's own sink is.

A chunk costs a few searches for newlines, never a loop over its lines: that is the sink's affair.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial as bound
from typing import Any, Final, Literal

from wherry.spec.log import Batch, LogSink, Stream

LINE_LIMIT: Final = 16384
"""Bytes before the newline from which on a line is cut into pieces: Docker's."""

CLOSING: Final = 2.0
"""Seconds that a sink in a thread gets at the end, for what it still has and for its `close`."""

Report = Callable[[str, str], None]
"""(level, sentence): something that whoever reads the daemon's log should know."""


class Cutter:
    """One stream's unfinished line."""

    def __init__(self) -> None:
        self._rest = b""

    def cut(self, chunk: bytes) -> Iterator[tuple[bytes, bool]]:
        """(bytes, partial) of what is ready: buffers of whole lines, and pieces of long ones."""
        data = self._rest + chunk if self._rest else chunk
        start = position = 0
        while True:
            newline = data.rfind(b"\n", position, position + LINE_LIMIT)
            if newline >= 0:
                position = newline + 1  # all lines up to here are short enough
            elif len(data) - position >= LINE_LIMIT:
                if position > start:
                    yield data[start:position], False
                start = position = position + LINE_LIMIT
                yield data[start - LINE_LIMIT : start], True
            else:
                break
        if position > start:
            yield (data[start:position] if position - start < len(data) else data), False
        self._rest = data[position:]

    @property
    def unfinished(self) -> bytes:
        """What there is of the next line."""
        return self._rest

    def rest(self) -> bytes:
        """What the stream ended with, without a newline; once."""
        rest, self._rest = self._rest, b""
        return rest


class LocalSink:
    """A sink that is called in the loop."""

    full = False

    def __init__(self, sink: LogSink, failed: Callable[[Exception, int], None]) -> None:
        self._sink = sink
        self._failed = failed

    def write(self, batch: Batch, lines: int) -> bool:
        """False: the batch was dropped."""
        try:
            self._sink.write(batch)
        except Exception as error:
            self._failed(error, lines)
            return False
        return True

    def close(self, closed: Callable[[], None]) -> None:
        try:
            self._sink.close()
        except Exception as error:
            self._failed(error, 0)
        closed()


class ThreadedSink:
    """A sink that may be slow: a thread of its own, and at most `limit` bytes that wait for it.

    `post` has a callback called in the loop. When `blocking`, `full` tells the loop to leave the container's output
    unread, and `roomy` is called when it may go on; else what does not fit is dropped.
    """

    def __init__(
        self,
        sink: LogSink,
        failed: Callable[[Exception, int], None],
        *,
        post: Callable[[Callable[[], None]], None],
        roomy: Callable[[], None],
        limit: int,
        blocking: bool,
    ) -> None:
        self._sink = sink
        self._failed = failed
        self._post = post
        self._roomy = roomy
        self._limit = limit
        self._blocking = blocking
        self._batches: deque[tuple[Batch, int] | None] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._closed: Callable[[], None] | None = None
        self.full = False
        threading.Thread(target=self._write, name="log-sink", daemon=True).start()

    def write(self, batch: Batch, lines: int) -> bool:
        with self._changed:
            if not self._blocking and self._waiting and self._waiting + len(batch.data) > self._limit:
                return False
            self._batches.append((batch, lines))
            self._waiting += len(batch.data)
            self.full = self._blocking and self._waiting >= self._limit
            self._changed.notify()
        return True

    def close(self, closed: Callable[[], None]) -> None:
        with self._changed:
            self._closed = closed
            self._batches.append(None)
            self._changed.notify()

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._batches:
                    self._changed.wait()
                item = self._batches.popleft()
            if item is None:
                break
            batch, lines = item
            try:
                self._sink.write(batch)
            except Exception as error:
                self._post(bound(self._failed, error, lines))
            with self._changed:
                self._waiting -= len(batch.data)
                eased = self.full and self._waiting <= self._limit // 2
                if eased:
                    self.full = False
            if eased:
                self._post(self._roomy)
        try:
            self._sink.close()
        except Exception as error:
            self._post(bound(self._failed, error, 0))
        assert self._closed is not None
        self._post(self._closed)


class LogPump:
    """A container's log: takes chunks of both streams, gives its sink batches, counts."""

    def __init__(self, report: Report, noticed: Callable[[], None]) -> None:
        self._report = report
        self._noticed = noticed
        self._cutters: dict[int, Cutter] = {1: Cutter(), 2: Cutter()}
        self._last_ns = 0
        self._sink: LocalSink | ThreadedSink | None = None
        self._copy: LocalSink | None = None
        self._threaded = False
        self._reported: set[str] = set()
        self._written = 0
        self._dropped = 0
        self._bytes = 0
        self._failures = 0

    def open(
        self,
        sink: LogSink,
        *,
        post: Callable[[Callable[[], None]], None],
        roomy: Callable[[], None],
        mode: Literal["blocking", "non-blocking"],
        limit: int,
        copy: LogSink | None = None,
    ) -> None:
        """Write to `sink`, and to `copy`, whose trouble keeps nothing from `sink`."""
        if copy is not None:
            self._copy = LocalSink(copy, self._copy_failed)
        self._threaded = not getattr(sink, "local", False)
        if not self._threaded:
            self._sink = LocalSink(sink, self._failed)
        else:
            self._sink = ThreadedSink(
                sink, self._failed, post=post, roomy=roomy, limit=limit, blocking=mode == "blocking"
            )

    @property
    def last_ns(self) -> int:
        """The time of the newest line; 0 if there is none in this run."""
        return self._last_ns

    def unfinished(self, stream: int) -> bytes:
        """What a stream has said since its last whole line."""
        return self._cutters[stream].unfinished

    @property
    def full(self) -> bool:
        """The container's output is to stay unread for now."""
        return self._sink is not None and self._sink.full

    def write(self, stream: int, chunk: bytes) -> None:
        if self._sink is None:
            return
        for data, partial in self._cutters[stream].cut(chunk):
            self._put(stream, data, partial)
        self._noticed()

    def counters(self) -> dict[str, Any]:
        """Lines and bytes given to the sink, lines dropped, calls of it that failed."""
        return {
            "written": self._written,
            "dropped": self._dropped,
            "bytes": self._bytes,
            "failures": self._failures,
        }

    def close(self, closed: Callable[[], None]) -> None:
        """Write what is left, close the sink, then call `closed` (in the loop, perhaps at once)."""
        sink = self._sink
        if sink is None:
            closed()
            return
        for stream, cutter in self._cutters.items():
            rest = cutter.rest()
            if rest:
                self._put(stream, rest, False)
        self._sink = None
        if self._copy is not None:
            self._copy.close(lambda: None)
        sink.close(closed)

    def _put(self, stream: int, data: bytes, partial: bool) -> None:
        assert self._sink is not None
        lines = data.count(b"\n") or 1
        now = max(time.time_ns(), self._last_ns + 1)
        self._last_ns = now + lines - 1
        name: Stream = "stdout" if stream == 1 else "stderr"
        batch = Batch(data=data, stream=name, time_ns=now, partial=partial)
        if self._copy is not None:
            self._copy.write(batch, lines)
        if self._sink.write(batch, lines):
            self._written += lines
            self._bytes += len(data)
        elif self._threaded:
            self._dropped += lines
            if "full" not in self._reported:
                self._reported.add("full")
                self._report("warning", "the log driver is slower than the container: lines are dropped")

    def _failed(self, error: Exception, lines: int) -> None:
        self._failures += 1
        self._dropped += lines
        if self._threaded:
            self._written -= lines  # it was counted when the thread got it
        self._report_once("the log driver failed, its lines are lost", error)

    def _copy_failed(self, error: Exception, lines: int) -> None:
        self._report_once("the log's local copy misses lines, which the log driver has", error)

    def _report_once(self, what: str, error: Exception) -> None:
        kind = f"{what}/{type(error).__name__}/{getattr(error, 'errno', '')}"
        if kind not in self._reported:
            self._reported.add(kind)
            self._report("error", f"{what}: {type(error).__name__}: {error}")
