"""The driver: lines to a syslog server. It cannot read back; the engine keeps a copy for `docker logs`."""

from __future__ import annotations

from collections.abc import Mapping

from wherry.spec import hookimpl
from wherry.spec.log import LogContext, LogSink
from wherry.spec.logdelivery import RemoteSink
from wherry.spec.logtag import render_tag
from wherry_syslog_log import options as settings
from wherry_syslog_log.connection import Connection
from wherry_syslog_log.message import Formatter


class SyslogLog:
    """One message per line. Opening does not connect, so that no container waits to start for its log server."""

    SPEC = (1, 0)
    Options = settings.Options

    def __init__(self, options: settings.Options | None = None) -> None:
        self.options = options or settings.Options()
        settings.check(self.options, {})

    @hookimpl
    def open(self, context: LogContext) -> LogSink:
        destination = settings.understand(self.options, context.options)
        tag = render_tag(destination.tag, context)
        return RemoteSink(
            Connection(destination),
            Formatter(destination.format, destination.facility, tag).messages,
            f"syslog at {destination.address}",
        )

    @hookimpl
    def check(self, options: Mapping[str, str]) -> None:
        settings.check(self.options, options)
