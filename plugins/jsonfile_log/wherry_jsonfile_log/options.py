"""What a user may set: names and meaning are Docker's, the defaults are bounded.

An option may come from `wherry.toml` (`[log.json-file]`), from the daemon's `--log-opt` or from the container's; the
later beats the earlier. Sizes are decimal, as Docker's are for this driver: `10m` is 10,000,000 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from wherry.errors import InvalidRequest
from wherry.spec.log import LogContext
from wherry.spec.logattributes import attributes as chosen
from wherry.spec.logattributes import check_attributes
from wherry.spec.logtag import check_tag, render_tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options as they are written. `max_size` -1 is no limit."""

    max_size: str = "100m"
    max_file: int = 5
    compress: bool = False
    labels: str = ""
    labels_regex: str = ""
    env: str = ""
    env_regex: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a file is full, how many there may be, and whether full ones are compressed. `max_bytes` None: never."""

    max_bytes: int | None
    max_files: int
    compress: bool


NAMES: Final = tuple(field.name.replace("_", "-") for field in fields(Options))
_UNITS: Final = {unit: 1000**power for power, unit in enumerate("bkmgtp")} | {"": 1}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*", re.IGNORECASE)


def check(defaults: Options, given: Mapping[str, str]) -> None:
    """Refuse unknown options and values that make no sense: InvalidRequest."""
    for name in given:
        if name not in NAMES:
            raise InvalidRequest(
                f"unknown log opt '{name}' for json-file log driver; there is {', '.join(NAMES)}"
            )
    limits(defaults, given)
    check_attributes(given)
    check_tag(given.get("tag", ""))


def check_defaults(defaults: Options) -> None:
    """Refuse what a configuration file says, as `check` does for what a user says."""
    limits(defaults, {})
    check_attributes(_said(defaults))
    check_tag(defaults.tag)


def limits(defaults: Options, given: Mapping[str, str]) -> Limits:
    """The limits that `given` asks for over `defaults`."""
    max_bytes = _size(given.get("max-size", defaults.max_size))
    max_files = _count(given.get("max-file", str(defaults.max_file)))
    compress = _truth(given["compress"]) if "compress" in given else defaults.compress
    if compress and (max_files < 2 or max_bytes is None):
        raise InvalidRequest(
            "compress cannot be true when max-file is less than 2 or max-size is not set: "
            "only rotated files are compressed"
        )
    return Limits(max_bytes=max_bytes, max_files=max_files, compress=compress)


def attributes(defaults: Options, context: LogContext) -> dict[str, str]:
    """What every record of this container carries as `attrs`: its chosen labels, environment and tag."""
    found = chosen(context, _said(defaults) | dict(context.options))
    tag = render_tag(context.options.get("tag", defaults.tag), context)
    return dict(sorted((found | ({"tag": tag} if tag else {})).items()))


def _said(defaults: Options) -> dict[str, str]:
    return {
        "labels": defaults.labels,
        "labels-regex": defaults.labels_regex,
        "env": defaults.env,
        "env-regex": defaults.env_regex,
    }


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
