"""The driver: files in the container's directory, readable back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wherry.logfiles import Form, LineReader, LineSink, limits
from wherry.spec import hookimpl
from wherry.spec.log import LogContext, LogReader, LogSink, Query
from wherry_local_log import options as settings
from wherry_local_log.lines import Decoder, Encoder

FORM: Final = Form(decoder=Decoder)


class LocalLog:
    """`local-logs/container.log` in the container's directory, as with Docker, and the full ones before it."""

    SPEC = (1, 0)
    Options = settings.Options

    def __init__(self, options: settings.Options | None = None) -> None:
        self.options = options or settings.Options()
        settings.check(self.options, {})

    @hookimpl
    def open(self, context: LogContext) -> LogSink:
        path = _path(context)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return LineSink(path, Encoder(), FORM, limits(settings.said(self.options, context.options)))

    @hookimpl
    def read(self, context: LogContext, query: Query) -> LogReader:
        return LineReader(_path(context), FORM, query)

    @hookimpl
    def check(self, options: Mapping[str, str]) -> None:
        settings.check(self.options, options)


def _path(context: LogContext) -> Path:
    return context.directory / "local-logs" / "container.log"
