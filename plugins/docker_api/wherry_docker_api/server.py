"""Accepting clients, and leaving: stop accepting, let answers finish, at most for two seconds."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from wherry.spec.frontend import Engine
from wherry_docker_api.addresses import listen
from wherry_docker_api.answer import refusal
from wherry_docker_api.door import Door
from wherry_docker_api.routing import Router, Version, show
from wherry_docker_api.wire import ClientGone, Connection, Exchange

log = logging.getLogger(__name__)

LEAVE_SECONDS: Final = 2.0
CONNECTIONS: Final = 8192
"""More clients wait in the kernel's queue until one leaves."""


class Server:
    """Serves one engine on some addresses, in one event loop."""

    def __init__(
        self, engine: Engine, loop: asyncio.AbstractEventLoop, *, group: str, version: Version
    ) -> None:
        self._loop = loop
        self._group = group
        self._router = Router(engine, Door(loop), version)
        self._leave = asyncio.Event()
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._clients: dict[asyncio.Task[None], Connection] = {}
        self._answering: dict[Connection, Exchange] = {}
        self._headers = (
            (b"Api-Version", show(version).encode()),
            (b"Docker-Experimental", b"false"),
            (b"Ostype", b"linux"),
            # Clients take the operating system from this header, in this form.
            (b"Server", f"Docker/{engine.version()} (linux)".encode("ascii", "replace")),
        )

    async def serve(self, addresses: Sequence[str], ready: Callable[[], None]) -> None:
        """Listen and answer until `stop`."""
        with ExitStack() as cleanup:
            listeners = listen(addresses, self._group, cleanup)
            accepting = [self._loop.create_task(self._accept(listener)) for listener in listeners]
            try:
                ready()
                await self._leave.wait()
            finally:
                await _end(accepting)
        await self._finish()

    def stop(self) -> None:
        """End `serve`; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._leave.set)
        except RuntimeError:
            pass  # the loop has ended

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await self._room.acquire()
            try:
                sock, _ = await self._loop.sock_accept(listener)
            except OSError as error:
                self._room.release()
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    log.error("cannot accept a client: %s; trying again in a second", error.strerror)
                    await asyncio.sleep(1)
                continue  # otherwise the client left before we could say hello
            connection = Connection(sock, self._loop, self._headers, *_caller(sock))
            task = self._loop.create_task(connection.run(self._respond))
            self._clients[task] = connection
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._room.release()
        del self._clients[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a client's connection failed in an unforeseen way", exc_info=error)

    async def _respond(self, exchange: Exchange) -> None:
        self._answering[exchange.connection] = exchange
        try:
            answer = await self._router.answer(exchange)
            if answer is not None:
                await exchange.answer(answer)
        except ClientGone:
            raise
        except Exception as error:
            if exchange.begun:
                # Its head is out: all that is left is to break it off, so that nobody takes it for whole.
                log.warning("an answer to %s %r broke off: %s", exchange.method, exchange.target, error)
                raise ClientGone from error
            await exchange.answer(refusal(error))
        finally:
            del self._answering[exchange.connection]

    async def _finish(self) -> None:
        for task, connection in list(self._clients.items()):
            exchange = self._answering.get(connection)
            connection.closing = True
            if connection.idle or (exchange is not None and exchange.streaming):
                task.cancel()
        tasks = list(self._clients)
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVE_SECONDS)
        await _end(list(self._clients))


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_UCRED: Final = struct.Struct("iII")


def _caller(sock: socket.socket) -> tuple[int, int]:
    """(uid, pid) of who connected: SO_PEERCRED, unix(7); (-1, 0) by TCP."""
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return -1, 0
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return uid, pid
