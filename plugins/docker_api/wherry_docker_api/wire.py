"""One client's connection: HTTP/1.1 by h11, on a plain socket.

    client                                   connection
    request head, body ────────────────────▶ Exchange: whole_body() or body()
    answer(Answer)     ◀────────────────────           one whole answer
    begin, write …, finish ◀────────────────           or one that comes in pieces
    hand_over()        ◀────────────────────           or: this is no HTTP any more, take the socket

No asyncio transport stands between us and the socket: a transport reads ahead, and what it has read could not be
handed over with the descriptor. h11 knows exactly which bytes lie behind the request.

Limits: a head of 64 KiB; a JSON body of 4 MiB; a head, or a JSON body, that has begun must be whole in 30 s. Bodies
that are streamed (images) may take as long as they need: they hold a thread of their own lane.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

import h11

from wherry_docker_api.answer import Answer, Malformed, refusal

HEAD_LIMIT: Final = 64 << 10
BODY_LIMIT: Final = 4 << 20
READ_SIZE: Final = 64 << 10
SLOW_SECONDS: Final = 30.0
DRAIN_SECONDS: Final = 2.0
DRAIN_LIMIT: Final = 4 << 20

Headers = Iterable[tuple[bytes, bytes]]
Respond = Callable[["Exchange"], Awaitable[None]]


class ClientGone(Exception):
    """The client closed the connection, or it broke: there is nobody to answer."""


class Connection:
    """A client. `uid` and `pid` are its, if it came by a unix socket; -1 and 0 otherwise."""

    def __init__(
        self, sock: socket.socket, loop: asyncio.AbstractEventLoop, headers: Headers, uid: int, pid: int
    ) -> None:
        self.socket, self.loop, self.uid, self.pid = sock, loop, uid, pid
        self.headers = tuple(headers)
        self.h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT - 1)
        self.handed_over = False
        self.idle = True
        """No request is being answered: closing the connection now hurts nobody."""
        self.closing = False

    async def run(self, respond: Respond) -> None:
        """Answer requests until the client closes, something is wrong, or the socket was handed over."""
        try:
            while not self.closing:
                exchange = await self._next()
                if exchange is None:
                    return
                self.idle = False
                await respond(exchange)
                if self.handed_over:
                    return
                self.idle = True
                if not await self._settle():
                    await self._linger()
                    return
        except ClientGone:
            pass
        finally:
            # After a hand-over only our name for the socket is closed: the engine's descriptor lives on.
            self.socket.close()

    async def _next(self) -> Exchange | None:
        """The next request; None when there is none. The wait for its first byte has no deadline, that for the rest has."""
        try:
            event = self.h11.next_event()
            if event is h11.NEED_DATA:
                await self.fill()
                event = self.h11.next_event()
            if event is h11.NEED_DATA:
                async with asyncio.timeout(SLOW_SECONDS):
                    event = await self.event()
        except TimeoutError:
            await self._refuse(Malformed("the head of the request took too long", 408))
            return None
        except h11.RemoteProtocolError as error:
            await self._refuse(_malformed(error))
            return None
        except Malformed as error:
            await self._refuse(error)
            return None
        return Exchange(self, event) if isinstance(event, h11.Request) else None

    async def event(self) -> Any:
        """The next event of the request that is being read. Raises Malformed."""
        try:
            while (event := self.h11.next_event()) is h11.NEED_DATA:
                if self.h11.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                    await self.send(self.h11.send(go_on))
                await self.fill()
            return event
        except h11.RemoteProtocolError as error:
            raise _malformed(error) from error

    async def fill(self) -> None:
        try:
            data = await self.loop.sock_recv(self.socket, READ_SIZE)
        except OSError as error:
            raise ClientGone from error
        self.h11.receive_data(data)

    async def send(self, data: bytes | None) -> None:
        try:
            await self.loop.sock_sendall(self.socket, data or b"")
        except OSError as error:
            raise ClientGone from error

    async def _refuse(self, error: Malformed) -> None:
        if self.h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await Exchange(self, None).answer(refusal(error), close=True)
            await self._linger()

    async def _settle(self) -> bool:
        """Whether another request may follow on this connection."""
        if self.h11.their_state is h11.SEND_BODY and self.h11.our_state is h11.DONE:
            # Answered without reading it all. What is small is read away, so that the connection can be kept.
            left = DRAIN_LIMIT
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    while left > 0 and isinstance(event := await self.event(), h11.Data):
                        left -= len(event.data)
            except (TimeoutError, Malformed):
                return False
        if self.h11.our_state is h11.DONE and self.h11.their_state is h11.DONE:
            self.h11.start_next_cycle()
            return True
        return False

    async def _linger(self) -> None:
        """Close so that the client can read our last answer: unread input would turn into a reset."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
            left = DRAIN_LIMIT
            async with asyncio.timeout(DRAIN_SECONDS):
                while left > 0 and (data := await self.loop.sock_recv(self.socket, READ_SIZE)):
                    left -= len(data)
        except (OSError, TimeoutError):
            pass


class Exchange:
    """One request and its answer."""

    def __init__(self, connection: Connection, request: h11.Request | None) -> None:
        self.connection = connection
        self.method = request.method.decode("ascii") if request else ""
        self.target: bytes = request.target if request else b""
        self.headers: dict[bytes, bytes] = dict(request.headers) if request else {}
        """By lower-case name."""
        self.begun = False
        self.streaming = False
        """The answer has no end of its own, or one that may be long in coming."""

    # what the client sent

    async def whole_body(self, limit: int = BODY_LIMIT) -> bytes:
        """The body. Malformed (413) if it is longer than `limit` bytes, (408) if it is slow."""
        pieces: list[bytes] = []
        left = limit
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                async for piece in self.body():
                    left -= len(piece)
                    if left < 0:
                        raise Malformed(f"the body of the request is larger than {limit >> 20} MiB", 413)
                    pieces.append(piece)
        except TimeoutError:
            raise Malformed("the body of the request took too long", 408) from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        connection = self.connection
        while connection.h11.their_state is h11.SEND_BODY:
            event = await connection.event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif not isinstance(event, h11.EndOfMessage):
                raise ClientGone

    # what we answer

    async def answer(self, answer: Answer, *, close: bool = False) -> None:
        """Send a whole answer."""
        self.begun = True
        http = self.connection.h11
        headers = [*self.connection.headers, *answer.headers, (b"Date", _date())]
        if answer.content_type:
            headers.append((b"Content-Type", answer.content_type))
        if answer.status not in (204, 304):
            headers.append((b"Content-Length", b"%d" % len(answer.body)))
        if close:
            headers.append((b"Connection", b"close"))
        data = _data(
            http.send(h11.Response(status_code=answer.status, headers=headers, reason=_reason(answer.status)))
        )
        if answer.body and self.method != "HEAD":
            data += _data(http.send(h11.Data(data=answer.body)))
        await self.connection.send(data + _data(http.send(h11.EndOfMessage())))

    async def begin(self, content_type: bytes, status: int = 200, headers: Headers = ()) -> None:
        """Send the head of an answer that comes in pieces, at once."""
        self.begun = self.streaming = True
        every = [*self.connection.headers, *headers, (b"Date", _date()), (b"Content-Type", content_type)]
        await self.connection.send(
            self.connection.h11.send(h11.Response(status_code=status, headers=every, reason=_reason(status)))
        )

    async def write(self, data: bytes) -> None:
        """Send a piece; returns when the kernel has taken it."""
        if data:
            await self.connection.send(self.connection.h11.send(h11.Data(data=data)))

    async def finish(self) -> None:
        """Send the end of an answer that came in pieces."""
        await self.connection.send(self.connection.h11.send(h11.EndOfMessage()))
        self.streaming = False

    async def hand_over(self, head: bytes) -> tuple[int, bytes]:
        """Send `head`, then give the socket away: (a descriptor of it, what came behind the request).

        The descriptor is the caller's. It is not blocking. The body must have been read. Nothing is read from or
        written to the connection afterwards.
        """
        self.begun = self.streaming = True
        connection = self.connection
        early = bytes(connection.h11.trailing_data[0])
        await connection.send(head)
        descriptor = os.dup(connection.socket.fileno())
        connection.handed_over = True
        return descriptor, early

    def on_hangup(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` once if the client closes while nothing is read from it; answers how to stop watching."""
        sock, loop = self.connection.socket, self.connection.loop
        number = sock.fileno()

        def look() -> None:
            try:
                gone = not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                gone = True
            loop.remove_reader(number)  # what came may be the next request: it waits, and we stop looking
            if gone:
                callback()

        def unwatch() -> None:
            loop.remove_reader(number)

        loop.add_reader(number, look)
        return unwatch


def _malformed(error: h11.RemoteProtocolError) -> Malformed:
    # h11 has 501 for what it does not know of HTTP; it is the client's fault all the same.
    status = error.error_status_hint if error.error_status_hint < 500 else 400
    return Malformed(f"the request is no valid HTTP: {error}", status)


def _data(data: bytes | None) -> bytes:
    return data or b""


def _reason(status: int) -> bytes:
    return _REASONS.get(status, b"Unknown")


_REASONS: Final = {
    200: b"OK", 201: b"Created", 204: b"No Content", 304: b"Not Modified", 400: b"Bad Request", 403: b"Forbidden",
    404: b"Not Found", 408: b"Request Timeout", 409: b"Conflict", 410: b"Gone", 413: b"Content Too Large",
    431: b"Request Header Fields Too Large", 500: b"Internal Server Error", 501: b"Not Implemented",
    503: b"Service Unavailable",
}  # fmt: skip

_DAYS: Final = "Mon Tue Wed Thu Fri Sat Sun".split()
_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_dated: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """Now, as HTTP writes it: RFC 9110, 5.6.7. By hand: strftime(3) would follow the locale."""
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        t = time.gmtime(now)
        text = (
            f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} "
            f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"
        )
        _dated = (now, text.encode())
    return _dated[1]
