"""What a container has said before, for a client that attaches with `logs=1`: then what it says from now on follows
without a gap, and nothing comes twice.

    keeper                                   daemon
    attach, held ◀──────────────────────────
    ── last time, unfinished lines ────────▶ sends what was logged until then, and the unfinished lines
    (keeps output for the client)
    go ◀────────────────────────────────────
    sends what it kept, and goes on
"""

from __future__ import annotations

import os
import socket
from typing import Final

from wherry.container.container import Container
from wherry.errors import Conflict
from wherry.house import House
from wherry.keeper.attach import frame
from wherry.keeper.client import Keeper
from wherry.lifecycle.start import KEEPER_LEAVES, log_context
from wherry.logs.cache import open_reader
from wherry.spec.frontend import Attachment
from wherry.spec.log import Query, Stream

PATIENCE: Final = 60.0
"""Seconds that a client may leave what is replayed unread, before it is given up."""
_STREAMS: Final[dict[Stream, int]] = {"stdout": 1, "stderr": 2}


def attach_after_replay(house: House, container: Container, keeper: Keeper, attachment: Attachment) -> None:
    """Attach a client to a running container, with what was logged first. Takes over the descriptor."""
    try:
        try:
            held = keeper.attach_held(attachment)
        except Conflict:
            # It has just ended: what is in its log when its keeper has gone is all there will be.
            container.keeper_gone.wait(KEEPER_LEAVES)
            replay(house, container, attachment)
            return
        try:
            replay(house, container, attachment, until_ns=held.last_ns)
            _send(attachment, [("stdout", held.stdout), ("stderr", held.stderr)])
        finally:
            keeper.go(held)
    finally:
        os.close(attachment.descriptor)


def replay(house: House, container: Container, attachment: Attachment, until_ns: int | None = None) -> None:
    """Send a client what is in the log. OSError: it is gone, or reads nothing. The descriptor stays the caller's."""
    query = Query(until_ns=until_ns, stdout=attachment.stdout, stderr=attachment.stderr)
    reader = open_reader(house.log_driver(container), house.log_copy(), log_context(container), query)
    try:
        stop_at_end = getattr(reader, "stop_at_end", None)
        if stop_at_end is not None:
            stop_at_end()
        while records := reader.read():
            _send(attachment, [(record.stream, record.data) for record in records])
    finally:
        reader.close()


def _send(attachment: Attachment, pieces: list[tuple[Stream, bytes]]) -> None:
    parts = []
    for stream, data in pieces:
        if data:
            parts += [frame(_STREAMS[stream], len(data)), data] if attachment.multiplexed else [data]
    with socket.socket(fileno=os.dup(attachment.descriptor)) as client:
        client.settimeout(PATIENCE)
        client.sendall(b"".join(parts))
