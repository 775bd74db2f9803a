"""From lines of the file back to records. A line that is none is counted and skipped, never a reason to stop.

A crash or a full disk leaves half a line, or a run of NUL bytes where a file was truncated under a writer; the lines
around it are good.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from wherry.logfiles.times import Times
from wherry.spec.log import Record, Stream


@dataclass(slots=True)
class Decoder:
    """Decodes chunks of whole lines; remembers how many lines were `bad`."""

    bad: int = 0
    _times: Times = field(default_factory=Times)

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
            time_ns=self._times.read(value["time"]),
            stream=stream,
            data=text.encode(),
            partial=text[-1:] != "\n",
        )
