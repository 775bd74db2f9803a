"""What a container has written. Source: API 1.51 ContainerLogs; moby `httputils/write_log_stream.go`.

Without a terminal each record is a frame of the stream format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wherry.errors import InvalidRequest
from wherry.spec.log import Query, Record
from wherry_docker_api.call import Call, Route
from wherry_docker_api.flow import relay
from wherry_docker_api.frames import MULTIPLEXED, RAW, STREAMS, head
from wherry_docker_api.words import stamp


async def logs(call: Call) -> None:
    query = call.query
    stdout, stderr = query.flag("stdout"), query.flag("stderr")
    if not (stdout or stderr):
        raise InvalidRequest("Bad parameters: you must choose at least one stream")
    wanted = Query(
        since_ns=query.time_ns("since") or 0,
        until_ns=query.time_ns("until"),
        tail=_tail(call),
        stdout=stdout,
        stderr=stderr,
    )
    multiplexed = not call.engine.inspect(call.name).config.tty
    stream = await call.door.read(call.engine.logs, call.name, wanted, query.flag("follow"))
    kind = MULTIPLEXED if multiplexed and call.version >= (1, 42) else RAW
    await relay(call, stream, _encoder(multiplexed, query.flag("timestamps"), query.flag("details")), kind)


def _tail(call: Call) -> int | None:
    """How many records from the end; all, for `all` and for a negative number, as dockerd has it."""
    if call.query.text("tail", "all") == "all":
        return None
    number = call.query.number("tail")
    return None if number is None or number < 0 else number


def _encoder(multiplexed: bool, timestamps: bool, details: bool) -> Callable[[Record], bytes]:
    """A record as the client wants it. `details` are attributes, of which a record here has none: a space."""

    def line(record: Record) -> bytes:
        data = b" " + record.data if details else record.data
        return stamp(record.time_ns).encode() + b" " + data if timestamps else data

    def frame(record: Record) -> bytes:
        data = line(record)
        return head(STREAMS[record.stream], len(data)) + data

    return frame if multiplexed else line


ROUTES: Final[tuple[Route, ...]] = (("GET", "/containers/{name}/logs", logs),)
