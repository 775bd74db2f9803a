"""Log driver `none`: lines are read and dropped."""

from __future__ import annotations

from collections.abc import Mapping

from wherry.errors import InvalidRequest, Unsupported
from wherry.spec import hookimpl
from wherry.spec.log import Batch, LogContext, LogReader, LogSink, Query

__all__ = ["NoneLog"]


class NoneLog:
    """Keeps nothing. It answers `read` itself, so that the engine makes no copy either: that is what `none` asks for."""

    SPEC = (1, 0)

    @hookimpl
    def open(self, context: LogContext) -> LogSink:
        return NoSink()

    @hookimpl
    def read(self, context: LogContext, query: Query) -> LogReader:
        raise Unsupported("configured logging driver does not support reading")

    @hookimpl
    def check(self, options: Mapping[str, str]) -> None:
        for name in options:
            raise InvalidRequest(f"unknown log opt '{name}' for none log driver; it has no options")


class NoSink:
    """Where output ends."""

    local = True

    def write(self, batch: Batch) -> None:
        pass

    def close(self) -> None:
        pass
