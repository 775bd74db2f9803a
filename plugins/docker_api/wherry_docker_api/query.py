"""What stands behind the `?`: texts, flags, numbers, times and filters, read strictly.

Source: moby `httputils/form.go`, `api/types/filters/parse.go`, `api/types/time/timestamp.go`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import parse_qsl

from wherry.errors import InvalidRequest
from wherry.spec.frontend import Filters
from wherry_docker_api.decode import document
from wherry_docker_api.words import seconds

FIELDS_LIMIT: Final = 1000
_FALSE: Final = frozenset({"", "0", "no", "false", "none"})
_TIME: Final = re.compile(r"([0-9]{1,11})(?:\.([0-9]{1,9})[0-9]*)?", re.ASCII)
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(h|ms|us|ns|m|s)", re.ASCII)
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


class Query:
    """The parameters of one request. A parameter that is empty counts as not given."""

    def __init__(self, raw: bytes) -> None:
        self._values: dict[str, list[str]] = {}
        if not raw:
            return
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_LIMIT
            )
        except ValueError as error:
            raise InvalidRequest(f"the query of the request cannot be read: {error}") from error
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, [default])[0] or default

    def texts(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def flag(self, name: str, default: bool = False) -> bool:
        """Everything is true that is not empty, 0, no, false or none; as dockerd has it."""
        if name not in self._values:
            return default
        return self._values[name][0].strip().lower() not in _FALSE

    def number(self, name: str) -> int | None:
        """A whole number, or None if it was not given. Raises InvalidRequest."""
        text = self.text(name)
        if not text:
            return None
        if not _INTEGER.fullmatch(text):
            raise InvalidRequest(f'the parameter {name} must be a number, not "{text}"')
        return int(text)

    def needed(self, name: str) -> int:
        """A whole number that must be there. Raises InvalidRequest."""
        number = self.number(name)
        if number is None:
            raise InvalidRequest(f"the parameter {name} is missing: it must be a number")
        return number

    def time_ns(self, name: str) -> int | None:
        """`seconds[.nanoseconds]` since the epoch as nanoseconds; None if not given or 0. Raises InvalidRequest."""
        text = self.text(name)
        if not text:
            return None
        found = _TIME.fullmatch(text)
        if not found:
            raise InvalidRequest(
                f'the parameter {name} must be a time as seconds[.nanoseconds], not "{text}"'
            )
        return int(found[1]) * 1_000_000_000 + int((found[2] or "").ljust(9, "0")) or None

    def filters(self, allowed: Collection[str]) -> dict[str, list[str]]:
        """`{"status": ["exited"]}` or `{"status": {"exited": true}}`. Raises InvalidRequest for a name not in `allowed`."""
        text = self.text("filters")
        return parse_filters(text, allowed) if text else {}


def parse_filters(text: str, allowed: Collection[str]) -> dict[str, list[str]]:
    value = document(text.encode(), "the parameter filters")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest("the parameter filters must be a JSON object of lists")
    found = {}
    for name, values in value.items():
        if name not in allowed:
            raise InvalidRequest(f"invalid filter '{name}'")
        if isinstance(values, dict):
            if not all(isinstance(chosen, bool) for chosen in values.values()):
                raise InvalidRequest(f"the values of the filter {name} must be true or false")
            found[name] = [each for each, chosen in values.items() if chosen]
        elif isinstance(values, list) and all(isinstance(each, str) for each in values):
            found[name] = values
        else:
            raise InvalidRequest(
                f"the filter {name} must be a list of strings, or a JSON object of true and false"
            )
    return found


def check_words(filters: Filters, name: str, valid: Sequence[str]) -> None:
    """Refuse values of a filter that it cannot have."""
    for value in filters.get(name, ()):
        if value not in valid:
            raise InvalidRequest(f"invalid filter '{name}={value}': it must be one of {', '.join(valid)}")


def settle_until(filters: dict[str, list[str]]) -> dict[str, list[str]]:
    """The filters with `until` in seconds since the epoch; it may be a time, or a duration ago (`24h`)."""
    if "until" in filters:
        filters["until"] = [str(_moment(text)) for text in filters["until"]]
    return filters


def _moment(text: str) -> float:
    if _TIME.fullmatch(text):
        return float(text)
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return time.time() - sum(float(number) * _UNITS[unit] for number, unit in parts)
    for form in (text, f"{text}Z", f"{text}:00Z", f"{text}T00:00:00Z"):  # without a zone: UTC
        if found := seconds(form):
            return found
    raise InvalidRequest(f"invalid filter 'until={text}': it must be a time, or a duration like 24h")


def check_flag(filters: Filters, name: str) -> None:
    check_words(filters, name, ("true", "false", "1", "0", "True", "False", "t", "f"))


def check_numbers(filters: Filters, name: str) -> None:
    for value in filters.get(name, ()):
        if not _INTEGER.fullmatch(value):
            raise InvalidRequest(f"invalid filter '{name}={value}': it must be a number")
