"""Docker's API with nothing between: requests on the daemon's socket, quicker than a client program, and as odd as wanted.

api = Api(daemon.root / "sock")
api.ask("POST", "/containers/create", {"Image": "busybox"})     (201, {"Id": …})
api.execute("name", ["echo", "hi"])                             Executed(code=0, stdout=b"hi\\n", stderr=b"")
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """How an exec ended."""

    code: int | None
    stdout: bytes
    stderr: bytes


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._address))


@dataclass(frozen=True, slots=True)
class Api:
    """A client of the daemon at `address`; each request has a connection of its own."""

    address: Path

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, decoded JSON, or the text where it is none). `body`: bytes as they are, all else as JSON."""
        connection = _Connection(self.address)
        try:
            content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text) if text else None
        except ValueError:
            return answer.status, text.decode(errors="replace")

    def execute(self, container: str, argv: list[str], **options: Any) -> Executed:
        """An exec from its making to its exit code, as `docker exec` does it; `options` as ExecCreate names them."""
        wanted = {"Cmd": argv, "AttachStdout": True, "AttachStderr": True, **options}
        status, made = self.ask("POST", f"/containers/{container}/exec", wanted)
        assert status == 201, (status, made)
        streams = self.start_exec(made["Id"])
        _, found = self.ask("GET", f"/exec/{made['Id']}/json")
        return Executed(code=found["ExitCode"], stdout=streams[1], stderr=streams[2])

    def start_exec(self, exec_id: str) -> dict[int, bytes]:
        """Start an exec and read what it writes to the end: 1 and 2, the streams. AssertionError: it was refused."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.address))
            body = b'{"Detach": false, "Tty": false}'
            connection.sendall(
                b"POST /exec/%b/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %d\r\n\r\n%b"
                % (exec_id.encode(), len(body), body)
            )
            whole = b""
            while part := connection.recv(65536):
                whole += part
        head, _, rest = whole.partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")), whole[:2000]
        streams = {1: b"", 2: b""}
        while rest:
            stream, size = struct.unpack_from(">BxxxI", rest)
            streams[stream] += rest[8 : 8 + size]
            rest = rest[8 + size :]
        return streams
