"""The driver: one journal entry per line. It does not read back; the engine keeps a copy for `docker logs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from wherry.errors import InvalidRequest
from wherry.spec import hookimpl
from wherry.spec.log import LogContext, LogSink
from wherry.spec.logattributes import attributes, check_attributes
from wherry.spec.logdelivery import RemoteSink
from wherry.spec.logtag import DEFAULT, check_tag, render_tag
from wherry_journald_log import options as settings
from wherry_journald_log.entry import Entries
from wherry_journald_log.journal import Journal


class JournaldLog:
    """Lines to systemd's journal. Opening does not connect: a container starts while the journal is restarted."""

    SPEC = (1, 0)
    Options = settings.Options

    def __init__(self, options: settings.Options | None = None) -> None:
        self.options = options or settings.Options()
        self.check({})

    @hookimpl
    def open(self, context: LogContext) -> LogSink:
        said = self._said(context.options)
        tag = render_tag(said["tag"] or DEFAULT, context)
        entries = Entries(context, tag, attributes(context, said))
        return RemoteSink(Journal(self.options.socket), entries.of, f"the journal at {self.options.socket}")

    @hookimpl
    def check(self, options: Mapping[str, str]) -> None:
        for name in options:
            if name not in settings.NAMES:
                raise InvalidRequest(
                    f"unknown log opt '{name}' for journald log driver; there is {', '.join(settings.NAMES)}"
                )
        said = self._said(options)
        check_tag(said["tag"])
        check_attributes(said)

    def _said(self, given: Mapping[str, str]) -> dict[str, str]:
        return {name.replace("_", "-"): value for name, value in asdict(self.options).items()} | dict(given)
