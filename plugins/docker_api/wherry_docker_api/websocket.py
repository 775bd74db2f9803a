"""A websocket in front of a byte stream: what the client sends is written to it, what comes out goes to the client.

    client ══ frames ══▶ Tunnel ══ bytes ══▶ a socket pair ══▶ the engine
    client ◀═ binary ═══ Tunnel ◀═ bytes ═══

One reader at a time stands on either side, so that whoever is slow holds the other up. Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from wherry.errors import InvalidRequest
from wherry_docker_api.call import Call

PIECE: Final = 64 << 10
_VERSION: Final = b"13"
_NORMAL: Final = 1000


def accept(call: Call) -> bytes:
    """The head that makes the client's connection a websocket. InvalidRequest: the client did not ask for one."""
    headers = call.exchange.headers
    words = {word.strip().lower() for word in headers.get(b"upgrade", b"").split(b",")}
    key = headers.get(b"sec-websocket-key", b"")
    if b"websocket" not in words or len(key) != 24:
        raise InvalidRequest("this address speaks websocket: send Upgrade: websocket and Sec-WebSocket-Key")
    if headers.get(b"sec-websocket-version", b"").strip() != _VERSION:
        raise InvalidRequest("the websocket protocol's version must be 13")
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    lines.append(b"Sec-WebSocket-Accept: " + generate_accept_token(key))
    lines += [name + b": " + value for name, value in call.exchange.connection.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


class Tunnel:
    """A client that speaks websocket, and `inner`, a stream socket; both are closed at the end of `run`."""

    def __init__(self, descriptor: int, early: bytes, inner: socket.socket) -> None:
        self._client: Final = socket.socket(fileno=descriptor)
        self._inner: Final = inner
        self._early = early
        self._protocol: Final = Connection(ConnectionType.SERVER)
        self._loop: Final = asyncio.get_running_loop()
        self._turn: Final = asyncio.Lock()
        for each in (self._client, inner):
            each.setblocking(False)

    async def run(self) -> None:
        """Until the stream has ended and the client was told, or the client is gone."""
        typing = self._loop.create_task(self._typed())
        try:
            await self._said()
        finally:
            typing.cancel()
            await asyncio.gather(typing, return_exceptions=True)
            self._client.close()
            self._inner.close()

    async def _said(self) -> None:
        try:
            while data := await self._loop.sock_recv(self._inner, PIECE):
                await self._send(BytesMessage(data=data))
            await self._send(CloseConnection(code=_NORMAL))
        except (OSError, LocalProtocolError):
            pass  # the client is gone, or has said that it goes

    async def _typed(self) -> None:
        try:
            data = self._early
            while True:
                if data:
                    self._protocol.receive_data(data)
                    for event in self._protocol.events():
                        if not await self._take(event):
                            return
                data = await self._loop.sock_recv(self._client, PIECE)
                if not data:
                    return
        except (OSError, RemoteProtocolError, LocalProtocolError):
            pass  # for the stream it is all the same: nobody types any more
        finally:
            try:
                self._inner.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it had ended

    async def _take(self, event: Event) -> bool:
        """False: the client says that it goes."""
        if isinstance(event, BytesMessage | TextMessage):
            data = event.data
            await self._loop.sock_sendall(
                self._inner, data.encode() if isinstance(data, str) else bytes(data)
            )
        elif isinstance(event, Ping):
            await self._send(event.response())
        elif isinstance(event, CloseConnection):
            await self._send(event.response())
            self._inner.shutdown(socket.SHUT_RDWR)
            return False
        return True

    async def _send(self, event: Event) -> None:
        """Whole frames, one after another: output, and what answers the client's own frames, come from two tasks."""
        async with self._turn:
            await self._loop.sock_sendall(self._client, self._protocol.send(event))
