"""What comes over time, between the engine's threads and a client.

`batches`: a `Stream` of the engine as batches of items, without a thread per client.
`Upload`: the body of a request as a blocking file, for a thread that reads an archive.
`download`: what a thread writes into a file, as the body of an answer.

Between loop and thread stands a socket pair: whoever is slower holds the other up, in the kernel.
"""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, BinaryIO, Final, TypeVar, cast

from wherry.errors import InvalidRequest
from wherry.spec.frontend import Stream
from wherry_docker_api.answer import Malformed
from wherry_docker_api.call import Call
from wherry_docker_api.wire import ClientGone, Headers

T = TypeVar("T")

PIECE: Final = 64 << 10


async def batches(call: Call, stream: Stream) -> AsyncGenerator[Sequence[Any], None]:
    """Batches of items until the stream ends or the client goes. The caller closes the stream."""
    loop = asyncio.get_running_loop()
    news = asyncio.Event()
    gone = False

    def ready() -> None:
        try:
            loop.call_soon_threadsafe(news.set)
        except RuntimeError:
            pass  # the loop was closed: nobody listens any more

    def hangup() -> None:
        nonlocal gone
        gone = True
        news.set()

    unwatch = call.exchange.on_hangup(hangup)
    try:
        stream.on_ready(ready)
        while not gone:
            news.clear()
            items = await call.door.read(stream.read)
            if items is None:
                return
            if items:
                yield items
            else:
                await news.wait()
        raise ClientGone
    finally:
        unwatch()


async def relay(call: Call, stream: Stream, encode: Callable[[Any], bytes], content_type: bytes) -> None:
    """Answer with everything that a stream gives, each item encoded, until it or the client ends."""
    try:
        await call.exchange.begin(content_type)
        async with aclosing(batches(call, stream)) as found:
            async for items in found:
                await call.exchange.write(b"".join(map(encode, items)))
        await call.exchange.finish()
    finally:
        stream.close()


async def first_done(call: Call, future: Any) -> Any:
    """The result of an engine's future. Raises ClientGone as soon as the client goes."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    gone = False

    def hangup() -> None:
        nonlocal gone
        gone = True
        done.set()

    def ready(_: Any) -> None:
        try:
            loop.call_soon_threadsafe(done.set)
        except RuntimeError:
            pass  # the loop was closed: nobody waits any more

    unwatch = call.exchange.on_hangup(hangup)
    try:
        # Not wrap_future: cancelling that would cancel the engine's own, under the thread that is about to answer it.
        future.add_done_callback(ready)
        await done.wait()
    finally:
        unwatch()
    if gone:
        raise ClientGone
    return future.result()


# ---- From the client into a thread


class Upload(io.RawIOBase):
    """The body of a request, for blocking reads. It ends when the body does; a body that breaks off is an error."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.broken = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._socket.recv_into(buffer)
        if not count and self.broken:
            raise InvalidRequest("the upload broke off before its end")
        return count

    def close(self) -> None:
        self._socket.close()
        super().close()


async def upload(call: Call, consume: Callable[[BinaryIO], T]) -> T:
    """`consume(file)`, in a thread, of the body of the request, as it comes."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    raw = Upload(theirs)

    def work() -> T:
        with io.BufferedReader(raw, PIECE) as file:
            return consume(cast("BinaryIO", file))

    result = call.door.work(work)
    feeding = loop.create_task(_feed(call, ours, raw))
    try:
        # Whoever is content with less than the whole, or refuses it, is not kept waiting for the rest.
        both: set[asyncio.Future[Any]] = {result, feeding}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if feeding.done() and (error := feeding.exception()) is not None:
            if isinstance(error, ClientGone | Malformed):
                await asyncio.wait({result})
            raise error
        return await result
    finally:
        if not feeding.done():
            raw.broken = True
            # A read that is cancelled may have taken bytes with it: nothing more can be understood after it.
            call.exchange.connection.closing = True
            feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        ours.close()
        if result.done() and not result.cancelled():
            result.exception()  # looked at: what came first was raised


async def _feed(call: Call, ours: socket.socket, raw: Upload) -> None:
    loop = asyncio.get_running_loop()
    try:
        async for piece in call.exchange.body():
            try:
                await loop.sock_sendall(ours, piece)
            except OSError:
                return  # the reader has enough
    except BaseException:
        raw.broken = True
        raise
    finally:
        try:
            ours.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the reader has closed


# ---- From a thread to the client


class Download(io.RawIOBase):
    """A file for blocking writes, whose bytes go to the client. A client that is gone is a BrokenPipeError."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._socket.sendall(data)
        return len(memoryview(data).cast("B"))


async def download(
    call: Call, produce: Callable[[BinaryIO], None], content_type: bytes, headers: Headers = ()
) -> None:
    """Answer with what `produce(file)` writes, in a thread. An error before its first byte is an answer of its own.

    `headers` go along; they are looked at when the first byte is there.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def work() -> None:
        with theirs, Download(theirs) as raw, io.BufferedWriter(raw, PIECE) as file:
            produce(cast("BinaryIO", file))

    result = call.door.work(work)
    try:
        piece = await loop.sock_recv(ours, PIECE)
        if not piece:
            await result
        await call.exchange.begin(content_type, headers=headers)
        while piece:
            await call.exchange.write(piece)
            piece = await loop.sock_recv(ours, PIECE)
        await result
        await call.exchange.finish()
    finally:
        ours.close()
        if not result.done():
            result.add_done_callback(lambda done: done.cancelled() or done.exception())
