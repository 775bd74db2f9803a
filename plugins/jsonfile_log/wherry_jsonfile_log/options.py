"""What a user may set: names and meaning are Docker's, the defaults are bounded.

An option may come from `wherry.toml` (`[log.json-file]`), from the daemon's `--log-opt` or from the container's; the
later beats the earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

from wherry.errors import InvalidRequest
from wherry.logfiles.limits import limits
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


NAMES: Final = tuple(field.name.replace("_", "-") for field in fields(Options))


def check(defaults: Options, given: Mapping[str, str]) -> None:
    """Refuse unknown options and values that make no sense: InvalidRequest."""
    for name in given:
        if name not in NAMES:
            raise InvalidRequest(
                f"unknown log opt '{name}' for json-file log driver; there is {', '.join(NAMES)}"
            )
    words = said(defaults, given)
    limits(words)
    check_attributes(words)
    check_tag(words["tag"])


def said(defaults: Options, given: Mapping[str, str]) -> dict[str, str]:
    """`given` over `defaults`, under the names and in the words that users write."""
    words = {name.replace("_", "-"): value for name, value in asdict(defaults).items()}
    return {name: _word(value) for name, value in words.items()} | dict(given)


def attributes(context: LogContext, words: Mapping[str, str]) -> dict[str, str]:
    """What every record of this container carries as `attrs`: its chosen labels, environment and tag."""
    found = chosen(context, words)
    tag = render_tag(words["tag"], context)
    return dict(sorted((found | ({"tag": tag} if tag else {})).items()))


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
