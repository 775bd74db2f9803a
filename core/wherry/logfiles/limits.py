"""How much a log on disk may grow: `max-size`, `max-file`, `compress`. Names and meaning are Docker's.

Sizes are decimal, as Docker's are for its files: `10m` is 10,000,000 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wherry.errors import InvalidRequest

_UNITS: Final = {unit: 1000**power for power, unit in enumerate("bkmgtp")} | {"": 1}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a file is full, how many there may be, and whether full ones are compressed. `max_bytes` None: never."""

    max_bytes: int | None
    max_files: int
    compress: bool


def limits(options: Mapping[str, str]) -> Limits:
    """What `max-size` (-1 is no limit), `max-file` and `compress`, all given, come to. InvalidRequest."""
    max_bytes = _size(options["max-size"])
    max_files = _count(options["max-file"])
    compress = _truth(options["compress"])
    if compress and (max_files < 2 or max_bytes is None):
        raise InvalidRequest(
            "compress cannot be true when max-file is less than 2 or max-size is not set: "
            "only rotated files are compressed"
        )
    return Limits(max_bytes=max_bytes, max_files=max_files, compress=compress)


def _size(text: str) -> int | None:
    if text.strip() == "-1":
        return None
    match = _SIZE.fullmatch(text)
    size = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if size <= 0:
        raise InvalidRequest(f'log option max-size: "{text}" is no size; write a number and k, m or g: 10m')
    return size


def _count(text: str) -> int:
    count = int(text) if re.fullmatch(r"\s*\d{1,6}\s*", text) else 0
    if count < 1:
        raise InvalidRequest(
            f'log option max-file: "{text}" is no number of files; max-file cannot be less than 1'
        )
    return count


def _truth(text: str) -> bool:
    # The words that Docker takes: Go's strconv.ParseBool.
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise InvalidRequest(f'log option compress: "{text}" is neither true nor false')
