"""The gelf driver, held to the contract of log drivers, with a server of the test's own at the other end."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from wherry.errors import InvalidRequest
from wherry.spec.log import LogContext
from wherry.testing.log import LogDriverContract, MakeContext, Writer, context_factory, eventually
from wherry_gelf_log import GelfLog
from wherry_gelf_log.options import Options

SO_RCVBUFFORCE = 33
"""<asm-generic/socket.h>"""


class Server:
    """Takes GELF by UDP and TCP on one port of loopback, and keeps what comes by each connection."""

    def __init__(self) -> None:
        self._received: list[list[dict[str, Any]]] = [[]]
        self._chunks: dict[bytes, dict[int, bytes]] = {}
        self.stream = socket.create_server(("127.0.0.1", 0))
        self.port = self.stream.getsockname()[1]
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self.datagrams.bind(("127.0.0.1", self.port))
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._receive, self._accept)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self.datagrams.sendto(b"end", ("127.0.0.1", self.port))
        self.stream.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self.stream.close()
        self.datagrams.close()

    def messages(self, container_id: str) -> list[dict[str, Any]]:
        """Those of a container, in order: connection by connection."""
        return [m for each in list(self._received) for m in list(each) if m["_container_id"] == container_id]

    def _receive(self) -> None:
        while (data := self.datagrams.recv(65536)) != b"end":
            if data.startswith(b"\x1e\x0f"):
                parts = self._chunks.setdefault(data[2:10], {})
                parts[data[10]] = data[12:]
                if len(parts) < data[11]:
                    continue
                data = b"".join(parts[number] for number in range(data[11]))
            if data.startswith(b"\x1f\x8b"):
                data = gzip.decompress(data)
            elif not data.startswith(b"{"):
                data = zlib.decompress(data)
            self._received[0].append(json.loads(data))

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self.stream.accept()
            except OSError:
                return
            self._received.append([])
            threading.Thread(target=self._serve, args=(accepted, self._received[-1]), daemon=True).start()

    def _serve(self, accepted: socket.socket, received: list[dict[str, Any]]) -> None:
        rest = b""
        with accepted:
            while data := accepted.recv(65536):
                *whole, rest = (rest + data).split(b"\0")
                received += map(json.loads, whole)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


class TestGelfByUdp(LogDriverContract):
    binary: ClassVar[bool] = False
    transport: ClassVar[str] = "udp"
    more: ClassVar[dict[str, str]] = {}

    @pytest.fixture
    def driver(self) -> GelfLog:
        return GelfLog()

    @pytest.fixture
    def context(self, tmp_path: Path, server: Server) -> MakeContext:
        self.server = server
        address = f"{self.transport}://127.0.0.1:{server.port}"
        return context_factory(tmp_path, gelf_address=address, **self.more)

    def received(self, driver: GelfLog, context: LogContext) -> Sequence[bytes]:
        return [message["short_message"].encode() for message in self.server.messages(context.container_id)]

    def stored(self, data: bytes) -> bytes | None:
        return data.removesuffix(b"\n") or None


class TestGelfByUdpWithZlib(TestGelfByUdp):
    more: ClassVar[dict[str, str]] = {"gelf_compression_type": "zlib", "gelf_compression_level": "9"}


class TestGelfByUdpUncompressed(TestGelfByUdp):
    more: ClassVar[dict[str, str]] = {"gelf_compression_type": "none"}


class TestGelfByTcp(TestGelfByUdp):
    transport = "tcp"


def test_the_fields_of_a_message(server: Server, tmp_path: Path) -> None:
    """Whose line it is, by Docker's names; labels and variables that were asked for; level by stream."""
    make = context_factory(tmp_path, gelf_address=f"tcp://127.0.0.1:{server.port}")
    made = replace(
        make(tag="{{.Name}}", labels="role", env="AREA"), labels={"role": "front"}, env=("AREA=north",)
    )
    writer = Writer(GelfLog().open(made), 1_767_225_600_123_456_789)
    writer.write("stdout", b"hello\n")
    writer.write("stderr", b"\xff\n")
    writer.batch("stdout", b"x" * 16384, partial=True)
    writer.sink.close()
    eventually(lambda: len(server.messages(made.container_id)) == 3)
    first, second, third = server.messages(made.container_id)
    expected = {
        "version": "1.1",
        "host": socket.gethostname(),
        "short_message": "hello",
        "timestamp": 1_767_225_600.123456,
        "level": 6,
        "_container_id": made.container_id,
        "_container_name": made.container_name,
        "_image_name": "busybox",
        "_command": "sh -c echo hi",
        "_tag": made.container_name,
        "_role": "front",
        "_AREA": "north",
    }
    assert {name: first.get(name) for name in expected} == expected
    assert (second["short_message"], second["level"]) == ("\ufffd", 3)
    assert third["_partial_message"] == "true"


def test_what_is_too_long_for_udp_is_said(server: Server, tmp_path: Path) -> None:
    """A message of more than 128 datagrams is refused and counted by the keeper."""
    make = context_factory(
        tmp_path, gelf_address=f"udp://127.0.0.1:{server.port}", gelf_compression_type="none", labels="big"
    )
    made = replace(make(), labels={"big": "x" * 190_000})
    sink = GelfLog().open(made)
    with pytest.raises(InvalidRequest, match="too long for UDP"):
        Writer(sink).write("stdout", b"lost\n")
    sink.close()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("gelf-address", "graylog:12201"),
        ("gelf-address", "udp://graylog"),
        ("gelf-compression-type", "lz4"),
        ("gelf-compression-level", "10"),
        ("tag", "{{.Nope}}"),
        ("labels-regex", "("),
    ],
)
def test_options_that_make_no_sense(option: str, value: str) -> None:
    """They are refused when a container is created, and so is a container without an address."""
    driver = GelfLog(Options(gelf_address="udp://127.0.0.1:12201"))
    driver.check({})
    with pytest.raises(InvalidRequest, match=option.removeprefix("gelf-").replace("-type", " type")):
        driver.check({option: value})
    with pytest.raises(InvalidRequest, match="gelf-address"):
        GelfLog().check({"tag": "x"})
