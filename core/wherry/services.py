"""What drivers get of the engine: `wherry.spec.services.Services` for the daemon, the launcher and keepers.

A driver's line goes to a *sink*: in the daemon the process's log, in a keeper a message to the daemon.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

Level = Literal["debug", "info", "warning", "error"]
Sink: TypeAlias = Callable[[Level, str, Mapping[str, Any]], None]

_LEVELS: dict[Level, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def to_logging(level: Level, message: str, fields: Mapping[str, Any]) -> None:
    """The daemon's sink: the logger `wherry`, fields appended as `name=value`."""
    logger = logging.getLogger("wherry")
    if logger.isEnabledFor(_LEVELS[level]):
        logger.log(
            _LEVELS[level], "%s", " ".join([message, *(f"{k}={v}" for k, v in fields.items() if v != "")])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverLog:
    """`spec.services.Log`: lines of one driver, each with the same fields first."""

    sink: Sink
    fields: Mapping[str, Any] = field(default_factory=dict)

    def debug(self, message: str, **fields: Any) -> None:
        self.sink("debug", message, {**self.fields, **fields})

    def info(self, message: str, **fields: Any) -> None:
        self.sink("info", message, {**self.fields, **fields})

    def warning(self, message: str, **fields: Any) -> None:
        self.sink("warning", message, {**self.fields, **fields})

    def error(self, message: str, **fields: Any) -> None:
        self.sink("error", message, {**self.fields, **fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineServices:
    """`spec.services.Services`. `bound` gives the same services with more fields in every line of the log."""

    engine_id: str
    cgroup_parent: str
    sink: Sink = to_logging
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> DriverLog:
        return DriverLog(sink=self.sink, fields=self.fields)

    def bound(self, **fields: Any) -> EngineServices:
        return replace(self, fields={**self.fields, **fields})
