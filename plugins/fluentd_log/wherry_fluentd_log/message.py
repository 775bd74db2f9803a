"""From a batch to one message of Fluentd's forward protocol: [tag, [[time, record], …], options].

Times are exact to the nanosecond (EventTime). With acknowledgements each message has a `chunk` that the server says
back. Source: Fluentd "Forward Protocol Specification v1.5"; the fields of a record are Docker's.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Mapping
from typing import Any, Final

import msgpack

from wherry.spec.log import Batch, LogContext
from wherry_fluentd_log.options import Destination


class Messages:
    """Makes messages of one container."""

    def __init__(self, context: LogContext, tag: str, attributes: Mapping[str, str], to: Destination) -> None:
        self._tag: Final = tag
        self._precise: Final = to.precise
        self._acknowledged: Final = to.acknowledged
        self._shared: Final[dict[str, Any]] = {
            **attributes,
            "container_id": context.container_id,
            "container_name": f"/{context.container_name}",
        }

    def of(self, batch: Batch) -> list[bytes]:
        """The message of a batch."""
        shared = self._shared | {"source": batch.stream}
        if batch.partial:
            shared["partial_message"] = "true"
        entries = [
            [self._time(record.time_ns), shared | {"log": record.data.removesuffix(b"\n")}]
            for record in batch.records()
        ]
        options: dict[str, Any] = {"size": len(entries)}
        if self._acknowledged:
            options["chunk"] = base64.b64encode(os.urandom(16)).decode()
        # Bytes that are no text go as they are: `use_bin_type=False` is how the protocol's strings are written.
        packed = msgpack.packb([self._tag, entries, options], use_bin_type=False)
        assert isinstance(packed, bytes)
        return [packed]

    def _time(self, time_ns: int) -> Any:
        seconds, rest = divmod(time_ns, 1_000_000_000)
        return msgpack.ExtType(0, struct.pack(">II", seconds, rest)) if self._precise else seconds
