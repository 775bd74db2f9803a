"""The driver: one GELF message per line. It cannot read back; the engine keeps a copy for `docker logs`."""

from __future__ import annotations

from collections.abc import Mapping

from wherry.spec import hookimpl
from wherry.spec.log import LogContext, LogSink
from wherry.spec.logattributes import attributes
from wherry.spec.logdelivery import RemoteSink
from wherry.spec.logtag import DEFAULT, render_tag
from wherry_gelf_log import options as settings
from wherry_gelf_log.message import Messages
from wherry_gelf_log.wires import wire


class GelfLog:
    """Opening does not connect, so that no container waits to start for its log server."""

    SPEC = (1, 0)
    Options = settings.Options

    def __init__(self, options: settings.Options | None = None) -> None:
        self.options = options or settings.Options()
        settings.check(self.options, {})

    @hookimpl
    def open(self, context: LogContext) -> LogSink:
        words = settings.said(self.options, context.options)
        to = settings.destination(words)
        tag = render_tag(words["tag"] or DEFAULT, context)
        messages = Messages(context, tag, attributes(context, words))
        return RemoteSink(wire(to), messages.of, f"GELF at {to}")

    @hookimpl
    def check(self, options: Mapping[str, str]) -> None:
        settings.check(self.options, options)
