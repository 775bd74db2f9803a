"""Times as the API writes them: RFC 3339 in UTC with nanoseconds."""

from __future__ import annotations

import time
from typing import Final

ZERO: Final = "0001-01-01T00:00:00Z"


def now() -> str:
    """The present moment."""
    return stamp(time.time_ns())


def stamp(time_ns: int) -> str:
    """A time in nanoseconds since the epoch, trailing zeros of the fraction dropped as Go does."""
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    tail = f"{fraction:09d}".rstrip("0")
    return f"{text}.{tail}Z" if tail else f"{text}Z"


def parse(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time in UTC; 0 for the zero time."""
    if text in ("", ZERO):
        return 0
    import calendar

    body, _, fraction = text.removesuffix("Z").partition(".")
    seconds = calendar.timegm(time.strptime(body, "%Y-%m-%dT%H:%M:%S"))
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)
