"""What a container uses, once or every second. Source: API 1.51 ContainerStats; moby `daemon/stats.go`."""

from __future__ import annotations

import asyncio
from typing import Final

from wherry.errors import Conflict, NotFound
from wherry.spec.frontend import Usage
from wherry_docker_api.answer import JSON, Answer, encode, json
from wherry_docker_api.call import Call, Route
from wherry_docker_api.render.usage import sample
from wherry_docker_api.wire import ClientGone

INTERVAL: Final = 1.0
"""Seconds between two samples."""


async def stats(call: Call) -> Answer | None:
    view = call.engine.inspect(call.name)
    if call.query.flag("stream", default=True):
        await _stream(call, view.name, view.id)
        return None
    if call.version >= (1, 41) and call.query.flag("one-shot"):
        return json(sample(view.name, view.id, await _usage(call, view.id), None))
    # Without a stream clients want a CPU share all the same, and that takes two samples.
    before = await _usage(call, view.id)
    if before is not None:
        await asyncio.sleep(INTERVAL)
    now = await _usage(call, view.id)
    return json(sample(view.name, view.id, now, before if now else None))


async def _stream(call: Call, name: str, container_id: str) -> None:
    gone = asyncio.Event()
    await call.exchange.begin(JSON)
    unwatch = call.exchange.on_hangup(gone.set)
    before: Usage | None = None
    try:
        while True:
            now = await _usage(call, container_id)
            await call.exchange.write(
                encode(sample(name, container_id, now, before if now else None)) + b"\n"
            )
            before = now
            try:
                async with asyncio.timeout(INTERVAL):
                    await gone.wait()
                raise ClientGone
            except TimeoutError:
                pass
            try:
                name = call.engine.inspect(container_id).name
            except NotFound:
                break
    finally:
        unwatch()
    await call.exchange.finish()


async def _usage(call: Call, container_id: str) -> Usage | None:
    """None of a container that does not run: dockerd answers zeros then."""
    if call.engine.inspect(container_id).status not in ("running", "paused"):
        return None
    try:
        return await call.door.read(call.engine.usage, container_id)
    except (Conflict, NotFound):
        return None  # it ended just now


ROUTES: Final[tuple[Route, ...]] = (("GET", "/containers/{name}/stats", stats),)
