"""From a batch to syslog messages, one per line.

    (none)          <30>Jan  2 15:04:05 tag[42]: text                                the classic local form
    rfc3164         <30>Jan  2 15:04:05 host tag[42]: text
    rfc5424         <30>1 2026-01-02T15:04:05Z host tag 42 tag - text
    rfc5424micro    <30>1 2026-01-02T15:04:05.000000Z host tag 42 tag - text

What a container says on stdout is informational, on stderr an error. The process id is the writer's, as Docker's is.
Source: RFC 3164, RFC 5424, RFC 6587; the shapes are those of srslog, which Docker uses.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Final

from wherry.spec.log import Batch, Stream
from wherry_syslog_log.options import Format

_SEVERITIES: Final[dict[Stream, int]] = {"stdout": 6, "stderr": 3}
_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_NAME_LIMIT: Final = 48  # RFC 5424: APP-NAME
_ID_LIMIT: Final = 32  # MSGID


class Formatter:
    """Makes messages of one container; `tag` is rendered."""

    def __init__(self, form: Format, facility: int, tag: str) -> None:
        self._priorities: Final = {
            stream: facility << 3 | severity for stream, severity in _SEVERITIES.items()
        }
        self._tag: Final = tag
        self._host: Final = _printable(socket.gethostname(), 255)
        self._pid: Final = os.getpid()
        self._head: Final[Callable[[int, int], str]] = {
            "": self._classic,
            "rfc3164": self._rfc3164,
            "rfc5424": self._rfc5424,
            "rfc5424micro": self._rfc5424micro,
        }[form]

    def messages(self, batch: Batch) -> list[bytes]:
        """The lines of a batch as messages, without newlines."""
        # A batch spans microseconds: its lines share the time of the first.
        head = self._head(self._priorities[batch.stream], batch.time_ns).encode()
        return [head + line for line in batch.data.removesuffix(b"\n").split(b"\n")]

    def _classic(self, priority: int, time_ns: int) -> str:
        return f"<{priority}>{_stamp(time_ns)} {self._tag}[{self._pid}]: "

    def _rfc3164(self, priority: int, time_ns: int) -> str:
        return f"<{priority}>{_stamp(time_ns)} {self._host} {self._tag}[{self._pid}]: "

    def _rfc5424(self, priority: int, time_ns: int) -> str:
        return self._modern(priority, f"{_date(time_ns)}Z")

    def _rfc5424micro(self, priority: int, time_ns: int) -> str:
        return self._modern(priority, f"{_date(time_ns)}.{time_ns // 1000 % 1_000_000:06d}Z")

    def _modern(self, priority: int, when: str) -> str:
        name, message_id = _printable(self._tag, _NAME_LIMIT), _printable(self._tag, _ID_LIMIT)
        return f"<{priority}>1 {when} {self._host} {name} {self._pid} {message_id} - "


def _printable(text: str, limit: int) -> str:
    """`text` as a header field of RFC 5424: no spaces, `-` for nothing."""
    return "".join(sign if "!" <= sign <= "~" else "_" for sign in text[:limit]) or "-"


def _stamp(time_ns: int) -> str:
    # Local time, with English months whatever the locale: RFC 3164 has no other.
    when = time.localtime(time_ns // 1_000_000_000)
    return (
        f"{_MONTHS[when.tm_mon - 1]} {when.tm_mday:2d} {when.tm_hour:02d}:{when.tm_min:02d}:{when.tm_sec:02d}"
    )


def _date(time_ns: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ns // 1_000_000_000))
