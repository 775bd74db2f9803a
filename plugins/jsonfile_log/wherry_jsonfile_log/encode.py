"""From a batch to lines of the file, the whole batch at once.

    {"log":"hello\\n","stream":"stdout","time":"2026-01-01T00:00:00.000000001Z"}

One JSON encoding serves all lines of a batch: the text is encoded as a single string, and cut where a newline became
`\\n`. Three things then alternate in one join: the line; all that lines of one microsecond share; three digits of
nanoseconds with the beginning of the next record. No Python code runs per line.

The order of the fields, and that `attrs` is there only if there are some, is Docker's. Bytes that are no UTF-8 become
U+FFFD one by one, as they do there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson

from wherry.logfiles.times import Stamps
from wherry.spec.log import Batch, Stream

_OPEN: Final = b'{"log":"'
_CLOSE: Final = b'Z"}\n'
_LAST: Final = [b"%03d" % i + _CLOSE for i in range(1000)]
_LOW: Final = [end + _OPEN for end in _LAST]
_ESCAPED: Final = re.compile("[\udc80-\udcff]")

# orjson writes DEL as it is, so it can stand for a backslash while newlines are looked for.
_STAND_IN: Final = b"\x7f"


class Encoder:
    """Encodes batches of one container; `attributes` go into every record."""

    __slots__ = ("_stamps", "_tails")

    def __init__(self, attributes: Mapping[str, str]) -> None:
        attrs = b'"attrs":' + orjson.dumps(dict(attributes)) + b"," if attributes else b""
        self._tails: Final[dict[Stream, bytes]] = {
            "stdout": b'","stream":"stdout",' + attrs + b'"time":"',
            "stderr": b'","stream":"stderr",' + attrs + b'"time":"',
        }
        self._stamps: Final = Stamps()

    def encode(self, batch: Batch) -> bytes:
        """The records of a batch, each on a line of its own."""
        lines = _escaped(batch.data)
        rest = lines.pop()
        count = len(lines)
        pieces: list[bytes] = [b""] * (3 * count + 1)
        pieces[1::3] = lines
        shared: list[bytes] = []
        low: list[bytes] = []
        now, left = batch.time_ns, count
        while left:
            micros, first = divmod(now, 1000)
            some = min(left, 1000 - first)
            shared += [self._tail(batch.stream, micros, b"\\n")] * some
            low += _LOW[first : first + some]
            now += some
            left -= some
        pieces[2::3] = shared
        pieces[3::3] = low
        if count:
            pieces[0] = _OPEN
            pieces[-1] = _LAST[(now - 1) % 1000]
        if rest:  # a piece of a line, or a last line that was not finished
            micros, first = divmod(now, 1000)
            pieces += [_OPEN, rest, self._tail(batch.stream, micros, b""), _LAST[first]]
        return b"".join(pieces)

    def _tail(self, stream: Stream, micros: int, newline: bytes) -> bytes:
        """What follows the text of a line, up to the microseconds of its time."""
        return newline + self._tails[stream] + self._stamps.micros(micros)


def _escaped(data: bytes) -> list[bytes]:
    """The lines of `data`, each as the inside of a JSON string; after the last newline there is always one more."""
    if b"\\" not in data:
        return orjson.dumps(_text(data))[1:-1].split(b"\\n")
    if _STAND_IN in data:
        return [orjson.dumps(line)[1:-1] for line in _text(data).split("\n")]
    escaped = orjson.dumps(_text(data.replace(b"\\", _STAND_IN)))[1:-1]
    # A quote is escaped by a backslash too, and may be followed by an n: `\"n` has no `\n` in it.
    return escaped.replace(b"\\n", b"\n").replace(_STAND_IN, b"\\\\").split(b"\n")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _ESCAPED.sub("\ufffd", data.decode(errors="surrogateescape"))
