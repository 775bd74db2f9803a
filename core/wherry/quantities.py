"""Sizes, durations and limits as people write them on a command line: `64m`, `1h30m`, `nofile=1024:2048`."""

from __future__ import annotations

import re
from typing import Final

from wherry.errors import InvalidRequest
from wherry.words import nearest

ULIMITS: Final = frozenset(
    """core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack""".split()
)

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS: Final = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_NANOSECONDS: Final = {
    "ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip


def parse_size(text: str) -> int:
    """Bytes of `1024`, `64k`, `1.5g`, `10MB`, `1 GiB`: all units are powers of 1024, as Docker has them in memory."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise InvalidRequest(f"invalid size: '{text}'")
    return int(float(found.group(1)) * (1 << _UNITS[found.group(2).lower()]))


def parse_duration(text: str) -> int:
    """Nanoseconds of `90s`, `1m30s`, `1.5h`: Go's durations."""
    found = _DURATION.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise InvalidRequest(f"invalid duration: '{text}'")
    return sum(int(float(number) * _NANOSECONDS[unit]) for number, unit in found)


def parse_ulimit(text: str) -> tuple[str, int, int]:
    """(name, soft, hard) of `name=soft[:hard]`; -1 is unlimited."""
    name, equals, limits = text.partition("=")
    soft, colon, hard = limits.partition(":")
    if name not in ULIMITS:
        raise InvalidRequest(f"invalid ulimit type: {name}{nearest(name, ULIMITS)}")
    try:
        if not equals:
            raise ValueError
        low = int(soft)
        high = int(hard) if colon else low
    except ValueError:
        raise InvalidRequest(
            f"invalid ulimit argument: {text}; write {name}=1024 or {name}=1024:2048"
        ) from None
    if min(low, high) < -1:
        raise InvalidRequest(f"invalid ulimit argument: {text}; -1 is unlimited, and nothing is less")
    if high != -1 and (low > high or low == -1):
        raise InvalidRequest(f"ulimit soft limit must be less than or equal to hard limit: {low} > {high}")
    return name, low, high


def human_size(size: float, base: float = 1000.0) -> str:
    """`1.24MB`, with four significant digits: how docker prints sizes. `base` 1024 writes KiB, MiB, …"""
    units = (
        ("B", "kB", "MB", "GB", "TB", "PB") if base == 1000.0 else ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    )
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return f"{size:.4g}{units[index]}"
