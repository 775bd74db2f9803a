"""The tunnel between a websocket and a byte stream."""

import asyncio
import os
import socket

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong

from wherry_docker_api.websocket import Tunnel


async def talk() -> tuple[int, int, list[int]]:
    """(bytes of output, pongs, codes of close) that a client gets which asks for much, pings, and reads only then."""
    client, theirs = socket.socketpair()
    outer, inner = socket.socketpair()
    for each in (client, outer):
        each.setblocking(False)
    loop = asyncio.get_running_loop()
    tunnel = asyncio.ensure_future(Tunnel(theirs.detach(), b"", inner).run())
    protocol = Connection(ConnectionType.CLIENT)
    said = loop.create_task(loop.sock_sendall(outer, os.urandom(4 << 20)))
    # Until the tunnel waits for the client: then nothing more is taken from the stream.
    before = -1
    while (now := _waiting(client)) != before:
        before = now
        await asyncio.sleep(0.05)
    for _ in range(3):
        await loop.sock_sendall(client, protocol.send(Ping(payload=b"?")))
    await asyncio.sleep(0.1)
    size, pongs, codes = 0, 0, list[int]()
    while not codes:
        protocol.receive_data(await loop.sock_recv(client, 65536))
        for event in protocol.events():
            if isinstance(event, BytesMessage):
                size += len(event.data)
            elif isinstance(event, Pong):
                pongs += 1
            elif isinstance(event, CloseConnection):
                codes.append(event.code)
        if said.done() and size == 4 << 20 and pongs == 3:
            outer.close()
    await tunnel
    client.close()
    return size, pongs, codes


def _waiting(client: socket.socket) -> int:
    try:
        return len(client.recv(1 << 22, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


def test_a_ping_while_output_waits() -> None:
    """Answers to a client's own frames never get into, or lose, the output that waits for it."""
    assert asyncio.run(asyncio.wait_for(talk(), 30)) == (4 << 20, 3, [1000])
