"""What a log driver is: it takes batches of a container's output and puts them where they are wanted.

`open` is called in the container's keeper, once per start; the sink it returns gets every batch until `close`. The
smallest useful driver is ten lines (docs/writing-a-driver.md). A driver that can give its records back implements
`read` too, which is called in the daemon; for others the engine keeps a bounded cache of its own.

A *batch* is one buffer of whole lines, each ending in a newline, of one stream; or, marked `partial`, a piece of a
line longer than the line limit (16 KiB), without newline. Line *i* of a batch has the time `time_ns + i`. Times rise
strictly over both streams of a container, so that `--since` repeats nothing. The last line before the end of a
stream may lack its newline: it comes as a batch of its own that is neither partial nor ends in a newline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from wherry.spec.markers import hookspec

SPEC = (1, 0)

Stream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogContext:
    """Whose log it is. `path` is where `docker inspect` says LogPath is: `<directory>/<id>-json.log` for json-file."""

    container_id: str
    container_name: str
    directory: Path
    """The container's own directory on disk."""
    image_id: str = ""
    image_name: str = ""
    command: tuple[str, ...] = ()
    created: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    daemon_name: str = "wherry"
    options: Mapping[str, str] = field(default_factory=dict)
    """`--log-opt`, the container's over the daemon's; `check` has seen them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line (or a marked piece of one) of a container's log, without its newline when `partial` is true."""

    time_ns: int
    stream: Stream
    data: bytes
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Whole lines of one stream, or a piece of one long line."""

    data: bytes
    stream: Stream
    time_ns: int
    partial: bool = False

    def records(self) -> Iterator[Record]:
        """The lines as records, newline included, each with its own time."""
        for i, line in enumerate(_lines(self.data)):
            yield Record(time_ns=self.time_ns + i, stream=self.stream, data=line, partial=self.partial)


def _lines(data: bytes) -> list[bytes]:
    # bytes.splitlines also splits at \r, which is data here.
    parts = data.split(b"\n")
    lines = [part + b"\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines


class LogSink(Protocol):
    """An open log. Called from one thread only; batches come in order."""

    def write(self, batch: Batch) -> None:
        """Take a batch. An exception is counted as dropped, reported once per kind, and the sink stays in use."""

    def close(self) -> None:
        """Flush and give up the log. Called once. A sink may have the attribute `local = True`: its `write` takes
        microseconds and never waits for anything but a local disk, so the keeper calls it in its own loop; without
        it the sink gets a thread and a bounded buffer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which records are wanted. Times in nanoseconds since the epoch; `tail` counts records, None is all."""

    since_ns: int = 0
    until_ns: int | None = None
    tail: int | None = None
    stdout: bool = True
    stderr: bool = True


class LogReader(Protocol):
    """A position in a container's log, which can be read again when there is more.

    A reader may have two things more. `finished`, a bool: there will be nothing again that the query wants (`until_ns`
    has passed). `stop_at_end()`: called once before the first `read` by who does not follow, it says that what is
    written from now on is not wanted; so that a container that writes faster than it is read does not keep us.
    """

    def read(self) -> Sequence[Record]:
        """The next records, at most some thousand; empty when the end (for now) is reached. Follows rotation."""

    def close(self) -> None: ...


class LogSpec:
    """The hooks of a log driver. `open` is required."""

    @hookspec(firstresult=True)
    def open(self, context: LogContext) -> LogSink:
        """Open a container's log for writing, appending to what is there. In the keeper. Since 1.0."""

    @hookspec(firstresult=True)
    def read(self, context: LogContext, query: Query) -> LogReader:
        """Read a container's log, also while it is written by another process. In the daemon. Optional. Since 1.0."""

    @hookspec(firstresult=True)
    def path(self, context: LogContext) -> str:
        """The file that `docker inspect` shows as LogPath; empty by default. Optional. Since 1.0."""

    @hookspec(firstresult=True)
    def check(self, options: Mapping[str, str]) -> None:
        """Refuse options that make no sense: InvalidRequest, names the option. At create and at daemon start.

        Options of wherry's own (`mode`, `max-buffer-size`, `cache-*`) are not among them. Optional. Since 1.0."""
