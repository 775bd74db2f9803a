"""What a user may set. Names, meaning and defaults are Docker's for its driver `local`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from wherry.errors import InvalidRequest
from wherry.logfiles import limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options as they are written."""

    max_size: str = "20m"
    max_file: int = 5
    compress: bool = True


NAMES: Final = tuple(field.name.replace("_", "-") for field in fields(Options))


def check(defaults: Options, given: Mapping[str, str]) -> None:
    """Refuse unknown options and values that make no sense: InvalidRequest."""
    for name in given:
        if name not in NAMES:
            raise InvalidRequest(
                f"unknown log opt '{name}' for local log driver; there is {', '.join(NAMES)}"
            )
    limits(said(defaults, given))


def said(defaults: Options, given: Mapping[str, str]) -> dict[str, str]:
    """`given` over `defaults`, in the words that users write."""
    return {
        "max-size": defaults.max_size,
        "max-file": str(defaults.max_file),
        "compress": str(defaults.compress).lower(),
    } | dict(given)
