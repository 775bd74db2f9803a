"""From a batch to journal entries, one per line, in the journal's native protocol.

    MESSAGE=hello\\n                        a field of text
    MESSAGE\\n<8 bytes, length>...\\n        a field that holds a newline, or any bytes

Names of fields are Docker's, so that `journalctl CONTAINER_NAME=web` finds what it finds there.
Source: systemd "Native Journal Protocol"; Docker's "Journald logging driver".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Final

from wherry.spec.log import Batch, LogContext, Stream

_PRIORITIES: Final[dict[Stream, bytes]] = {"stdout": b"6", "stderr": b"3"}
_NO_NAME: Final = re.compile(r"[^A-Z0-9_]")


class Entries:
    """Makes entries of one container; all that its entries share is made once."""

    def __init__(self, context: LogContext, tag: str, attributes: Mapping[str, str]) -> None:
        shared = {name_of(name): value for name, value in attributes.items()}
        shared |= {
            "CONTAINER_ID": context.container_id[:12],
            "CONTAINER_ID_FULL": context.container_id,
            "CONTAINER_NAME": context.container_name,
            "CONTAINER_TAG": tag,
            "IMAGE_NAME": context.image_name,
            "SYSLOG_IDENTIFIER": tag,
        }
        self._shared: Final = b"".join(field(name, value.encode()) for name, value in shared.items())

    def of(self, batch: Batch) -> list[bytes]:
        """The entries of a batch; the journal knows when they came, `CONTAINER_LOG_TIME_NS` when they were said."""
        entries = []
        priority = field("PRIORITY", _PRIORITIES[batch.stream])
        partial = field("CONTAINER_PARTIAL_MESSAGE", b"true") if batch.partial else b""
        for record in batch.records():
            line = record.data.removesuffix(b"\n")
            entries.append(
                b"".join(
                    (
                        field("MESSAGE", line),
                        priority,
                        partial,
                        b"CONTAINER_LOG_TIME_NS=%d\n" % record.time_ns,
                        self._shared,
                    )
                )
            )
        return entries


def name_of(text: str) -> str:
    """A label's or variable's name as the name of a field: upper case letters, digits, and `_` not in front."""
    return _NO_NAME.sub("_", text.upper()).lstrip("_0123456789")[:64] or "UNNAMED"


def field(name: str, value: bytes) -> bytes:
    """One field of an entry."""
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name.encode(), struct.pack("<Q", len(value)), value)
    return b"%b=%b\n" % (name.encode(), value)
