"""attach with `logs=1`, and attach by websocket: what the docker program does not ask for, and other clients do."""

from __future__ import annotations

import base64
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong

from wherry.testing.daemon import Daemon, eventually


def connect(daemon: Daemon, request: str) -> socket.socket:
    """A connection on which `request` was sent and the head of the answer was read, and not a byte more: docker-py
    reads ahead, and loses what comes at once."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(100)
    sock.connect(daemon.host.removeprefix("unix://"))
    sock.sendall(request.encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return sock


def attach(daemon: Daemon, name: str, query: str) -> socket.socket:
    return connect(
        daemon,
        f"POST /v1.51/containers/{name}/attach?stdout=1&stderr=1&{query} HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\n"
        "Connection: Upgrade\r\nContent-Length: 0\r\n\r\n",
    )


def streams(sock: socket.socket) -> dict[int, bytes]:
    """All that comes until the end, by stream."""
    found: dict[int, bytes] = {1: b"", 2: b""}
    with sock, sock.makefile("rb") as file:
        while head := file.read(8):
            stream, length = struct.unpack(">BxxxI", head)
            found[stream] += file.read(length)
    return found


@pytest.mark.parametrize("driver", ["json-file", "local", "syslog"])
def test_what_was_said_before_and_what_is_said_now(daemon: Daemon, driver: str) -> None:
    """While a container counts as fast as it can, a client that attaches with the logs gets every number once."""
    options = ["--log-opt", f"syslog-address=unixgram://{daemon.root}/none"] if driver == "syslog" else []
    options += ["--log-opt", "mode=non-blocking"] if driver == "syslog" else []
    name = daemon.ok(
        *("run", "-di", "--log-driver", driver, *options, "busybox", "sh", "-c"),
        "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done; echo end >&2; read end",
    )
    eventually(lambda: daemon.ok("logs", "--tail", "2", name), "something is said")
    sock = attach(daemon, name, "logs=1&stream=1&stdin=1")
    sock.sendall(b"\n")
    found = streams(sock)
    assert found[1].split() == [b"%d" % number for number in range(1, 20001)]
    assert found[2] == b"end\n"


def test_an_unfinished_line_comes_too(daemon: Daemon) -> None:
    """A prompt has no newline, and is what a client that comes late wants to see."""
    name = daemon.ok(
        "run", "-dit", "busybox", "sh", "-c", "echo welcome; printf 'name: '; read x; echo hello $x"
    )
    eventually(lambda: daemon.ok("logs", name) == "welcome")
    with attach(daemon, name, "logs=1&stream=1&stdin=1") as sock:
        data = b""
        while b"name: " not in data:
            data += sock.recv(4096)
        sock.sendall(b"you\n")
        while more := sock.recv(4096):
            data += more
    assert data.replace(b"\r", b"") == b"welcome\nname: you\nhello you\n"


def test_only_the_logs(daemon: Daemon) -> None:
    """Without `stream` a client gets what there is and the end, whether the container runs or not."""
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", "echo said; sleep 1000")
    eventually(lambda: daemon.ok("logs", name) == "said")
    assert streams(attach(daemon, name, "logs=1")) == {1: b"said\n", 2: b""}
    daemon.ok("kill", name)
    eventually(lambda: daemon.inspect(name, "{{.State.Running}}") == "false")
    assert streams(attach(daemon, name, "logs=1")) == {1: b"said\n", 2: b""}


class WebSocket:
    """A client of the attach address that speaks websocket."""

    def __init__(self, daemon: Daemon, name: str, query: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock = connect(
            daemon,
            f"GET /v1.51/containers/{name}/attach/ws?{query} HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n",
        )
        self.protocol = Connection(ConnectionType.CLIENT)

    def send(self, event: object) -> None:
        self.sock.sendall(self.protocol.send(event))

    def events(self) -> Iterator[object]:
        """Until the other side says that it goes."""
        while True:
            data = self.sock.recv(65536)
            assert data, "the connection was closed without a word"
            self.protocol.receive_data(data)
            for event in self.protocol.events():
                yield event
                if isinstance(event, CloseConnection):
                    return


def test_websocket(daemon: Daemon) -> None:
    """Input and output in messages, pings are answered, and the end of the container is a close of its own."""
    name = daemon.ok("run", "-di", "busybox", "cat")
    web = WebSocket(daemon, name, "stream=1&stdin=1&stdout=1&stderr=1")
    web.send(Ping(payload=b"?"))
    web.send(BytesMessage(data=b"hello\n"))
    data, pongs = b"", 0
    for event in web.events():
        if isinstance(event, BytesMessage):
            data += bytes(event.data)
        pongs += isinstance(event, Pong)
        if data == b"hello\n" and pongs:
            break
    threading.Thread(target=daemon.ok, args=("kill", name)).start()
    codes = [event.code for event in web.events() if isinstance(event, CloseConnection)]
    assert codes == [1000]
    web.sock.close()


def test_a_websocket_client_that_goes(daemon: Daemon) -> None:
    """Its close is answered; the container goes on, and another client can attach."""
    name = daemon.ok("run", "-dit", "busybox", "cat")
    web = WebSocket(daemon, name, "stream=1&stdin=1&stdout=1")
    web.send(CloseConnection(code=1000))
    assert [event.code for event in web.events() if isinstance(event, CloseConnection)] == [1000]
    web.sock.close()
    again = WebSocket(daemon, name, "stream=1&stdin=1&stdout=1")
    again.send(BytesMessage(data=b"still there\n"))
    data = b""
    for event in again.events():
        data += bytes(event.data) if isinstance(event, BytesMessage) else b""
        if b"still there" in data:
            break
    again.sock.close()
    assert daemon.inspect(name, "{{.State.Running}}") == "true"


def test_what_is_no_websocket(daemon: Daemon) -> None:
    """A plain request is told what is missing."""
    name = daemon.ok("create", "busybox", "true")
    answer = subprocess.run(
        ["curl", "-s", "--unix-socket", daemon.host.removeprefix("unix://"), f"http://d/containers/{name}/attach/ws"],
        capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    assert "Upgrade: websocket" in answer
