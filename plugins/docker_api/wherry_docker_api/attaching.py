"""Attach: a client's connection becomes the streams of a process.

    client                          front                               engine
    POST …/attach  Upgrade: tcp ──▶ inspect: is there such a container?
                   ◀─ 101 UPGRADED  (or 200, for a client that did not ask to upgrade)
                                    dup(2) of the socket, what came early ─▶ attach ─▶ the container's keeper
    stdin, output  ◀═══════════════════════════════════════════════════════════════▶

After the head an error can no longer be an answer; so what can be known is checked before it.
Source: API 1.51 ContainerAttach; moby `postContainersAttach`.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Final

from wherry.errors import Conflict
from wherry.spec.container import ContainerView
from wherry.spec.frontend import Attachment
from wherry_docker_api.call import Call, Route
from wherry_docker_api.frames import MULTIPLEXED, RAW
from wherry_docker_api.websocket import Tunnel, accept


async def attach(call: Call) -> None:
    view = await _attachable(call)
    multiplexed = not view.config.tty
    descriptor, early = await call.exchange.hand_over(hijack_head(call, multiplexed))
    attachment = replace(_wanted(call), descriptor=descriptor, early=early, multiplexed=multiplexed)
    await call.door.work(call.engine.attach, view.id, attachment)


async def _attachable(call: Call) -> ContainerView:
    """The container, if one may attach to it. Conflict says why not."""
    await call.exchange.whole_body()
    view = call.engine.inspect(call.name)
    # The id in these sentences is how the `docker` program finds out why.
    if view.status == "paused":
        raise Conflict(f"container {view.id} is paused, unpause the container before attach")
    if view.status == "restarting":
        raise Conflict(f"container {view.id} is restarting, wait until the container is running")
    return view


def _wanted(call: Call) -> Attachment:
    query = call.query
    return Attachment(
        descriptor=-1,
        stdin=query.flag("stdin"),
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        logs=query.flag("logs"),
        stream=query.flag("stream"),
        detach_keys=query.text("detachKeys"),
    )


def hijack_head(call: Call, multiplexed: bool) -> bytes:
    """The head behind which the connection is no HTTP any more."""
    if b"upgrade" not in call.exchange.headers:
        return b"HTTP/1.1 200 OK\r\nContent-Type: " + RAW + b"\r\n\r\n"
    kind = MULTIPLEXED if multiplexed and call.version >= (1, 42) else RAW
    head = [b"HTTP/1.1 101 UPGRADED", b"Content-Type: " + kind, b"Connection: Upgrade", b"Upgrade: tcp"]
    head += [name + b": " + value for name, value in call.exchange.connection.headers]
    return b"\r\n".join(head) + b"\r\n\r\n"


async def attach_websocket(call: Call) -> None:
    """The same by websocket: output comes in binary messages, both streams as they come. API ContainerAttachWebsocket."""
    view = await _attachable(call)
    descriptor, early = await call.exchange.hand_over(accept(call))
    inner, theirs = socket.socketpair()
    # The tunnel first: output that is replayed before the engine answers needs somebody who reads it.
    tunnel = asyncio.ensure_future(Tunnel(descriptor, early, inner).run())
    attachment = replace(_wanted(call), descriptor=theirs.detach(), multiplexed=False)
    try:
        await call.door.work(call.engine.attach, view.id, attachment)
        await tunnel
    finally:
        tunnel.cancel()


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/containers/{name}/attach/ws", attach_websocket),
    ("POST", "/containers/{name}/attach", attach),
)
