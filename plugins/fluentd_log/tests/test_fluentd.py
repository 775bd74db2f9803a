"""The fluentd driver, held to the contract of log drivers, with a forward server of the test's own at the other end."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import msgpack
import pytest

from wherry.errors import InvalidRequest
from wherry.spec.log import LogContext
from wherry.testing.log import LogDriverContract, MakeContext, Writer, context_factory, eventually
from wherry_fluentd_log import FluentdLog

Received = tuple[bytes, int, dict[bytes, Any]]
"""(tag, time in nanoseconds, record)"""


class Server:
    """Speaks the forward protocol on loopback and on a unix socket, and keeps what comes by each connection.

    `answer` makes an acknowledgement of a message, or None to hang up instead.
    """

    def __init__(self, path: Path) -> None:
        self._received: list[list[Received]] = []
        self.answer: Callable[[dict[bytes, Any]], Any] = lambda options: {"ack": options[b"chunk"]}
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(path))
        self.unix.listen()
        for listener in (self.tcp, self.unix):
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        for listener in (self.tcp, self.unix):
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def records(self, container_id: str) -> list[Received]:
        """Those of a container, in order: connection by connection."""
        wanted = container_id.encode()
        return [r for each in list(self._received) for r in list(each) if r[2][b"container_id"] == wanted]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            self._received.append([])
            threading.Thread(target=self._serve, args=(accepted, self._received[-1]), daemon=True).start()

    def _serve(self, accepted: socket.socket, received: list[Received]) -> None:
        unpacker = msgpack.Unpacker(raw=True)
        with accepted:
            while data := _receive(accepted):
                unpacker.feed(data)
                for tag, entries, options in unpacker:
                    answer = self.answer(options) if b"chunk" in options else {}
                    if answer is None:
                        return
                    for when, record in entries:
                        seconds, rest = struct.unpack(">II", when.data)
                        received.append((tag, seconds * 10**9 + rest, record))
                    if answer:
                        accepted.sendall(msgpack.packb(answer))


def _receive(accepted: socket.socket) -> bytes:
    try:
        return accepted.recv(65536)
    except ConnectionResetError:
        return b""  # a client that did not like the answer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("fluentd") / "sock"
    server = Server(path)
    yield server
    server.close()


class TestFluentd(LogDriverContract):
    more: ClassVar[dict[str, str]] = {}

    @pytest.fixture
    def driver(self) -> FluentdLog:
        return FluentdLog()

    @pytest.fixture
    def context(self, tmp_path: Path, server: Server) -> MakeContext:
        self.server = server
        return context_factory(tmp_path, **self._address(server), **self.more)

    def _address(self, server: Server) -> dict[str, str]:
        return {"fluentd_address": f"127.0.0.1:{server.port}"}

    def received(self, driver: FluentdLog, context: LogContext) -> Sequence[bytes]:
        return [record[b"log"] for _, _, record in self.server.records(context.container_id)]

    def stored(self, data: bytes) -> bytes:
        return data.removesuffix(b"\n")


class TestFluentdWithAcknowledgements(TestFluentd):
    more: ClassVar[dict[str, str]] = {"fluentd_request_ack": "true"}


class TestFluentdOnAUnixSocket(TestFluentd):
    def _address(self, server: Server) -> dict[str, str]:
        return {"fluentd_address": f"unix://{server.unix.getsockname()}"}


def test_the_fields_of_a_record(server: Server, tmp_path: Path) -> None:
    """Whose line it is, by Docker's names; labels and variables that were asked for; the exact time; the tag."""
    make = context_factory(tmp_path, fluentd_address=f"tcp://127.0.0.1:{server.port}")
    made = replace(
        make(tag="docker.{{.Name}}", labels="role", env="AREA"), labels={"role": "front"}, env=("AREA=north",)
    )
    writer = Writer(FluentdLog().open(made), 1_767_225_600_123_456_789)
    writer.write("stdout", b"hello\n\xff\n")
    writer.batch("stderr", b"x" * 16384, partial=True)
    writer.sink.close()
    eventually(lambda: len(server.records(made.container_id)) == 3)
    first, second, third = server.records(made.container_id)
    assert first == (
        f"docker.{made.container_name}".encode(),
        1_767_225_600_123_456_789,
        {
            b"container_id": made.container_id.encode(),
            b"container_name": f"/{made.container_name}".encode(),
            b"source": b"stdout",
            b"log": b"hello",
            b"role": b"front",
            b"AREA": b"north",
        },
    )
    assert second[1:] == (1_767_225_600_123_456_790, first[2] | {b"log": b"\xff"})
    assert (third[2][b"source"], third[2][b"partial_message"]) == (b"stderr", b"true")


@pytest.mark.parametrize("trouble", ["hangs up", "says something else", "says nonsense"])
def test_what_is_not_acknowledged_is_sent_again(server: Server, tmp_path: Path, trouble: str) -> None:
    """A line whose acknowledgement does not come is held, and comes by the next connection."""
    make = context_factory(
        tmp_path,
        fluentd_address=f"127.0.0.1:{server.port}",
        fluentd_request_ack="true",
        fluentd_read_timeout="5s",
    )
    made = make()
    usual, tries = server.answer, 0

    def answer(options: dict[bytes, Any]) -> Any:
        nonlocal tries
        tries += 1
        if tries > 2:
            return usual(options)
        return {"hangs up": None, "says something else": {"ack": b"?"}, "says nonsense": "x" * 70_000}[
            trouble
        ]

    server.answer = answer
    try:
        sink = FluentdLog().open(made)
        Writer(sink).write("stdout", b"once more\n")
        sink.close()
    finally:
        server.answer = usual
    assert tries == 3
    eventually(lambda: b"once more" in [record[b"log"] for _, _, record in server.records(made.container_id)])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("fluentd-address", "udp://log:1"),
        ("fluentd-address", "unix://relative"),
        ("fluentd-address", "log:port"),
        ("fluentd-request-ack", "yes"),
        ("fluentd-read-timeout", "10"),
        ("fluentd-async", "maybe"),
        ("tag", "{{.Nope}}"),
        ("env-regex", "("),
    ],
)
def test_options_that_make_no_sense(option: str, value: str) -> None:
    """They are refused by name when a container is created."""
    with pytest.raises(InvalidRequest, match=option):
        FluentdLog().check({option: value})
