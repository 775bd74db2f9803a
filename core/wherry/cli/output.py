"""Printing: tables, ages and sizes as docker prints them, and one line per thing that was done."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from wherry.cli.connection import DaemonError


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns three blanks apart, as wide as their widest cell."""
    lines = [list(titles), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        print("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def each(names: Sequence[str], act: Callable[[str], object], echo: bool = True) -> int:
    """Do something to each, print its name when it is done, go on after an error; 1 if there was one."""
    code = 0
    for name in names:
        try:
            act(name)
        except DaemonError as error:
            print(error, file=sys.stderr)
            code = 1
        else:
            if echo:
                print(name)
    return code


def age(seconds: float) -> str:
    """`3 hours`, `About a minute`: docker's words."""
    n = int(seconds)
    if n < 1:
        return "Less than a second"
    if n == 1:
        return "1 second"
    if n < 60:
        return f"{n} seconds"
    if n < 120:
        return "About a minute"
    if n < 46 * 60:
        return f"{n // 60} minutes"
    hours = round(n / 3600)
    if hours == 1:
        return "About an hour"
    for limit, size, word in (
        (48, 1, "hours"),
        (336, 24, "days"),
        (1440, 168, "weeks"),
        (17520, 720, "months"),
    ):
        if hours < limit:
            return f"{hours // size} {word}"
    return f"{hours // 8760} years"


def ago(unix: float) -> str:
    return f"{age(time.time() - unix)} ago"


def seconds_of(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time, whose nanoseconds Python does not take."""
    whole, point, rest = text.removesuffix("Z").partition(".")
    digits = rest[:6] if point else ""
    zone = "+00:00"
    for sign in "+-":
        if sign in rest:
            digits, zone = rest.partition(sign)[0][:6], sign + rest.partition(sign)[2]
    return datetime.fromisoformat(f"{whole}.{digits or '0'}{zone}").timestamp()


def short_id(identifier: str, full: bool = False) -> str:
    return identifier if full else identifier.removeprefix("sha256:")[:12]


def shorten(text: str, length: int, full: bool = False) -> str:
    return text if full or len(text) <= length else text[: length - 1] + "…"


def filters(given: Sequence[str]) -> dict[str, list[str]]:
    """`--filter status=exited`, repeated, as the API takes it."""
    found: dict[str, list[str]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise DaemonError(f"bad format of filter (expected name=value): {text}")
        found.setdefault(name.lower(), []).append(value)
    return found
