"""Printing: tables, ages and sizes as docker prints them, and one line per thing that was done."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from wherry.cli.connection import DaemonError
from wherry.cli.streams import write
from wherry.errors import InvalidRequest
from wherry.quantities import human_size


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


def moment(unix: float) -> str:
    """`2015-02-03 10:11:12 +0100 CET`: a time where the user is."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(unix))


def short_image(image: str) -> str:
    """An image without a name is shown by its id, and that short."""
    bare = image.removeprefix("sha256:")
    return bare[:12] if len(bare) == 64 and all(letter in "0123456789abcdef" for letter in bare) else image


def sizes(own: int, all_: int) -> str:
    return f"{human_size(own)} (virtual {human_size(all_)})" if all_ else human_size(own)


def address(host: str, port: str | int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ports(found: Sequence[Mapping[str, Any]]) -> str:
    """`0.0.0.0:8080->80/tcp, 443/tcp`."""
    published, exposed = [], []
    for each in sorted(found, key=lambda port: (port["PrivatePort"], port["Type"], port.get("IP", ""))):
        inside = f"{each['PrivatePort']}/{each['Type']}"
        if each.get("PublicPort"):
            published.append(f"{address(each.get('IP', ''), each['PublicPort'])}->{inside}")
        else:
            exposed.append(inside)
    return ", ".join([*published, *exposed])


def save(chunks: Iterable[bytes], file: str) -> None:
    """An archive to a file, which appears whole or not at all, or to stdout, if that is no terminal."""
    if not file:
        if os.isatty(1):
            raise InvalidRequest("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        for chunk in chunks:
            write(1, chunk)
        return
    part = Path(f"{file}.part-{os.getpid()}")
    try:
        with part.open("xb") as target:
            for chunk in chunks:
                target.write(chunk)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
