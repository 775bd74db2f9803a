"""The driver: Docker's json-file format, readable back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wherry.logfiles import Form, LineReader, LineSink, limits
from wherry.spec import hookimpl
from wherry.spec.log import LogContext, LogReader, LogSink, Query
from wherry_jsonfile_log import options as settings
from wherry_jsonfile_log.decode import Decoder
from wherry_jsonfile_log.encode import Encoder

FORM: Final = Form(decoder=Decoder)


class JsonFileLog:
    """One file per container, `<id>-json.log` in its directory, and the full ones before it."""

    SPEC = (1, 0)
    Options = settings.Options

    def __init__(self, options: settings.Options | None = None) -> None:
        self.options = options or settings.Options()
        settings.check(self.options, {})

    @hookimpl
    def open(self, context: LogContext) -> LogSink:
        words = settings.said(self.options, context.options)
        encoder = Encoder(settings.attributes(context, words))
        return LineSink(_path(context), encoder, FORM, limits(words))

    @hookimpl
    def read(self, context: LogContext, query: Query) -> LogReader:
        return LineReader(_path(context), FORM, query)

    @hookimpl
    def path(self, context: LogContext) -> str:
        return str(_path(context))

    @hookimpl
    def check(self, options: Mapping[str, str]) -> None:
        settings.check(self.options, options)


def _path(context: LogContext) -> Path:
    return context.directory / f"{context.container_id}-json.log"
