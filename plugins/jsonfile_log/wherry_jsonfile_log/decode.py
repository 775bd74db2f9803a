"""From lines of the file back to records. A line that is none is counted and skipped, never a reason to stop.

A crash or a full disk leaves half a line, or a run of NUL bytes where a file was truncated under a writer; the lines
around it are good.
"""

from __future__ import annotations

import calendar
import datetime
import time
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from wherry.spec.log import Record, Stream

_EXACT: Final = len("2026-01-01T00:00:00.000000001Z")


@dataclass(slots=True)
class Decoder:
    """Decodes chunks of whole lines; remembers how many lines were `bad`."""

    bad: int = 0
    _seconds: dict[str, int] = field(default_factory=dict)

    def decode(self, chunk: bytes) -> list[Record]:
        """The records in `chunk`, which ends in a newline."""
        try:
            # Newlines stand only between records: within strings they are escaped.
            values = orjson.loads(b"[%b]" % chunk[:-1].replace(b"\n", b","))
            if len(values) == chunk.count(b"\n"):
                return [self._record(value) for value in values]
        except (ValueError, TypeError, KeyError, AttributeError):
            pass  # one of them is bad: line by line, then
        records = [self.line(line) for line in chunk.split(b"\n")[:-1]]
        good = [record for record in records if record is not None]
        self.bad += len(records) - len(good)
        return good

    def line(self, line: bytes) -> Record | None:
        """The record on one line (with or without its newline), or None; counts nothing."""
        try:
            return self._record(orjson.loads(line.lstrip(b"\0")))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def _record(self, value: Any) -> Record:
        text: str = value.get("log", "")  # Docker leaves out what is empty
        stream: Stream = value["stream"]
        if stream not in ("stdout", "stderr"):
            raise ValueError(stream)
        return Record(
            time_ns=self.time(value["time"]),
            stream=stream,
            data=text.encode(),
            partial=text[-1:] != "\n",
        )

    def time(self, text: str) -> int:
        """Nanoseconds since the epoch of a time as it stands in the file."""
        second = self._seconds.get(text[:19])
        if second is None:
            second = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) * 1_000_000_000
            if len(self._seconds) > 1000:
                self._seconds.clear()
            self._seconds[text[:19]] = second
        if len(text) == _EXACT and text[-1] == "Z":
            return second + int(text[20:-1])
        return _loose(text, second)


def _loose(text: str, second: int) -> int:
    """A time with fewer digits (Docker drops zeros at the end) or an offset from UTC."""
    offset = 0
    body = text[19:]
    if body.endswith("Z"):
        body = body[:-1]
    else:
        zone = datetime.datetime.fromisoformat(text[:19] + body[-6:]).utcoffset()
        if zone is None:
            raise ValueError(text)
        offset, body = int(zone.total_seconds()), body[:-6]
    if body and not (body[0] == "." and body[1:].isdigit()):
        raise ValueError(text)
    return second + int(body[1:10].ljust(9, "0")) - offset * 1_000_000_000
