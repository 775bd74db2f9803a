"""From a batch to GELF messages, one per line: JSON, version 1.1.

An empty line has no message: GELF wants a `short_message` with something in it, and servers drop the rest.
Source: GELF "Payload specification"; fields are Docker's.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

import orjson

from wherry.spec.log import Batch, LogContext, Stream

_LEVELS: Final[dict[Stream, bytes]] = {"stdout": b"6", "stderr": b"3"}


class Messages:
    """Makes messages of one container."""

    def __init__(self, context: LogContext, tag: str, attributes: Mapping[str, str]) -> None:
        shared = {f"_{name}": value for name, value in attributes.items()}
        shared |= {
            "_container_id": context.container_id,
            "_container_name": context.container_name,
            "_image_id": context.image_id,
            "_image_name": context.image_name,
            "_command": " ".join(context.command),
            "_tag": tag,
            "_created": context.created,
        }
        shared.pop("_id", None)  # reserved
        self._head: Final = orjson.dumps({"version": "1.1", "host": socket.gethostname(), **shared})[:-1]

    def of(self, batch: Batch) -> list[bytes]:
        """The messages of a batch. Times in seconds, with the microseconds that a float can hold."""
        level = b',"level":' + _LEVELS[batch.stream]
        if batch.partial:
            level += b',"_partial_message":"true"'
        messages = []
        for record in batch.records():
            text = record.data.removesuffix(b"\n").decode("utf-8", "replace")
            if text:
                when = b"%d.%06d" % divmod(record.time_ns // 1000, 1_000_000)
                messages.append(
                    b'%b%b,"timestamp":%b,"short_message":%b}' % (self._head, level, when, orjson.dumps(text))
                )
        return messages
