"""The syslog driver, held to the contract of log drivers, with a real rsyslogd at the other end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from wherry.spec.log import LogContext
from wherry.testing.log import LogDriverContract, MakeContext, context_factory
from wherry_syslog_log import SyslogLog


class TestSyslogOnItsSocket(LogDriverContract):
    binary: ClassVar[bool] = False
    address: ClassVar[str] = "unixgram://{root}/log"
    format: ClassVar[str] = ""

    @pytest.fixture
    def driver(self) -> SyslogLog:
        return SyslogLog()

    @pytest.fixture
    def context(self, tmp_path: Path, rsyslog: Any) -> MakeContext:
        self.server = rsyslog
        address = self.address.format(root=rsyslog.root)
        return context_factory(tmp_path, syslog_address=address, syslog_format=self.format)

    def received(self, driver: SyslogLog, context: LogContext) -> Sequence[bytes]:
        lines: list[bytes] = self.server.lines(context)
        return lines

    def stored(self, data: bytes) -> bytes:
        return data.removesuffix(b"\n")


class TestSyslogByTcp(TestSyslogOnItsSocket):
    address = "tcp://127.0.0.1:5514"
    format = "rfc3164"


class TestSyslogByTcpInTheNewFormat(TestSyslogOnItsSocket):
    address = "tcp://localhost:5514"
    format = "rfc5424micro"
