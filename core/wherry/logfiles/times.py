"""Times as logs on disk have them: RFC 3339 with up to nine digits of a second, `2026-01-01T00:00:00.000000001Z`."""

from __future__ import annotations

import calendar
import datetime
import time
from typing import Final

ZERO: Final = "0001-01-01T00:00:00Z"
"""Docker's word for "no time"."""

_EXACT: Final = len("2026-01-01T00:00:00.000000001Z")
_MOST_SECONDS: Final = 1000


class Times:
    """Reads times; remembers the seconds that it has seen, since a log's times are close to each other."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[str, int] = {}

    def read(self, text: str) -> int:
        """Nanoseconds since the epoch; ValueError."""
        second = self._seconds.get(text[:19])
        if second is None:
            second = calendar.timegm(datetime.datetime.fromisoformat(text[:19]).timetuple()) * 1_000_000_000
            if len(self._seconds) > _MOST_SECONDS:
                self._seconds.clear()
            self._seconds[text[:19]] = second
        if len(text) == _EXACT and text[-1] == "Z":
            return second + int(text[20:-1])
        return _loose(text, second)


class Stamps:
    """Writes times, up to the microseconds that many lines share."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def micros(self, micros: int) -> bytes:
        """`2026-01-01T00:00:00.000000`: three digits and a Z are to follow."""
        second, fraction = divmod(micros, 1_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode()
        return b"%b%06d" % (self._text, fraction)


def stamp(time_ns: int) -> str:
    """A time in full."""
    return f"{Stamps().micros(time_ns // 1000).decode()}{time_ns % 1000:03d}Z"


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
