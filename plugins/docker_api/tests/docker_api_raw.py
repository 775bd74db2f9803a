"""A client that sends what it is told to, byte for byte, and reads HTTP back."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        found = self.json
        assert list(found) == ["message"]
        return str(found["message"])


class Wire:
    """One connection."""

    def __init__(self, path: str, timeout: float = 10) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.buffer = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def more(self) -> bytes:
        data = self.sock.recv(65536)
        self.buffer += data
        return data

    def head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self.buffer:
            assert self.more(), f"closed within the head: {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(first.split()[1]), headers

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            assert self.more(), "closed within the body"
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            assert self.more(), "closed within a line"
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def chunks(self) -> Iterator[bytes]:
        while size := int(self.line(), 16):
            yield self.exactly(size)
            self.line()
        self.line()

    def reply(self, method: str = "GET") -> Reply:
        status, headers = self.head()
        if headers.get("transfer-encoding") == "chunked":
            body = b"".join(self.chunks())
        elif method == "HEAD" or status in (204, 304):
            body = b""
        else:
            body = self.exactly(int(headers["content-length"]))
        return Reply(status, headers, body)

    def rest(self) -> bytes:
        while self.more():
            pass
        return self.buffer

    def frames(self) -> list[tuple[int, bytes]]:
        """Frames of the stream format until the end."""
        data, found = self.rest(), []
        while data:
            size = int.from_bytes(data[4:8], "big")
            assert data[1:4] == b"\0\0\0"
            assert len(data) >= 8 + size
            found.append((data[0], data[8 : 8 + size]))
            data = data[8 + size :]
        return found


class Raw:
    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, timeout: float = 10) -> Wire:
        return Wire(self.path, timeout)

    def ask(self, method: str, target: str, body: Any = None, headers: str = "") -> Reply:
        """One request. `body`: bytes as they are, anything else as JSON."""
        with self.open() as wire:
            wire.send(request(method, target, body, headers))
            return wire.reply(method)

    def get(self, target: str) -> Any:
        reply = self.ask("GET", target)
        assert reply.status == 200, reply
        return reply.json


def request(method: str, target: str, body: Any = None, headers: str = "") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: docker\r\n{headers}"
    if body is None:
        return f"{head}\r\n".encode()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
