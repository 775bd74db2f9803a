"""Durations and times in the words and forms that dockerd has for them.

Source: docker/go-units `duration.go`; RFC 3339.
"""

from __future__ import annotations

import calendar
import re
import time
from typing import Final

ZERO_TIME: Final = "0001-01-01T00:00:00Z"
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def duration(seconds: float) -> str:
    """How long, about: `Less than a second`, `5 minutes`, `About an hour`, `3 weeks`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{whole // 3600 // 24 // 365} years"


def since(text: str) -> str:
    """How long ago a time was; the clock may have gone backwards since."""
    return duration(max(0.0, time.time() - seconds(text)))


def seconds(text: str) -> float:
    """RFC 3339 as seconds since the epoch; 0 for the zero time and for what is none."""
    found = _RFC3339.fullmatch(text)
    if not found or found[1] == "0001":
        return 0.0
    year, month, day, hour, minute, second, part, sign, hours, minutes = found.groups()
    whole = calendar.timegm((int(year), int(month), int(day), int(hour), int(minute), int(second), 0, 0, 0))
    if sign:
        offset = int(hours) * 3600 + int(minutes) * 60
        whole += -offset if sign == "+" else offset
    return whole + int((part or "0").ljust(9, "0")) / 1e9


def stamp(time_ns: int) -> str:
    """A time as RFC 3339 in UTC with all nine digits: `2026-11-24T13:03:00.000000001Z`."""
    whole, part = divmod(time_ns, 1_000_000_000)
    t = time.gmtime(whole)
    return (
        f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}.{part:09}Z"
    )
