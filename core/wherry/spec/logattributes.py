"""What a container's records say of it: `--log-opt labels=…`, `env=…` and their `-regex` forms.

Shared by the log drivers whose records have a place for it. Names and meaning are Docker's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from wherry.errors import InvalidRequest
from wherry.spec.log import LogContext

OPTIONS: Final = ("labels", "labels-regex", "env", "env-regex")


def check_attributes(options: Mapping[str, str]) -> None:
    """InvalidRequest for a regular expression that is none."""
    for name in ("labels-regex", "env-regex"):
        _regex(name, options.get(name, ""))


def attributes(context: LogContext, options: Mapping[str, str]) -> dict[str, str]:
    """The labels and variables of a container that `options` choose, by name or by regular expression; sorted."""
    environment = dict(entry.split("=", 1) for entry in context.env if "=" in entry)
    found = _chosen(dict(context.labels), options, "labels") | _chosen(environment, options, "env")
    return dict(sorted(found.items()))


def _chosen(values: Mapping[str, str], options: Mapping[str, str], option: str) -> dict[str, str]:
    wanted = set(options.get(option, "").split(","))
    pattern = options.get(f"{option}-regex", "")
    expression = _regex(f"{option}-regex", pattern) if pattern else None
    return {
        name: value
        for name, value in values.items()
        if name in wanted or (expression is not None and expression.search(name))
    }


def _regex(option: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InvalidRequest(f'log option {option}: "{pattern}" is no regular expression: {error}') from error
