"""One HTTP exchange with the daemon, on a socket of its own: small, quick to import, and able to be hijacked.

`http.client` costs 15 ms to import, and hides the bytes that follow a 101: what is read too far here is handed on.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from wherry.errors import InvalidRequest

DEFAULT_HOST: Final = "unix:///run/wherry.sock"
Upload: TypeAlias = Callable[[Callable[[bytes], None]], object]
"""A function that is given what writes a piece of the body; a piece has at least one byte."""

READ_SIZE: Final = 64 * 1024
HEAD_LIMIT: Final = 256 * 1024

_HINTS: Final[dict[type[Exception], str]] = {
    ConnectionRefusedError: "Is the daemon running? Start it with `wherry daemon`, or name another with -H",
    FileNotFoundError: "Is the daemon running? Start it with `wherry daemon`, or name another with -H",
    PermissionError: "Only root and the group of the socket may use it",
}


class DaemonError(Exception):
    """What went wrong between here and the daemon, or what it answered: `status` is 0 if there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Response:
    """An answer whose head was read. Its body is read once, by one of the methods."""

    def __init__(
        self, connection: socket.socket, status: int, headers: Mapping[str, str], early: bytes
    ) -> None:
        self.socket, self.status, self.headers, self._buffer = connection, status, headers, early
        self.bodiless = status in (204, 304)

    def hijack(self) -> tuple[socket.socket, bytes]:
        """The socket, the caller's from now on, and what was already read from it."""
        return self.socket, self._buffer

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes, in pieces of no particular size. Closes the socket at the end."""
        with self.socket:
            if self.bodiless:
                return
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                yield from self._chunked()
                return
            length = self.headers.get("content-length")
            if length is None:
                while data := self._some():
                    yield data
                return
            left = int(length)
            while left > 0 and (data := self._some(left)):
                left -= len(data)
                yield data
            if left:
                raise DaemonError("the daemon closed the connection in the middle of its answer")

    def body(self) -> bytes:
        return b"".join(self.chunks())

    def values(self) -> Iterator[Any]:
        """JSON values of a stream, one per line."""
        rest = b""
        for chunk in self.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)
        if rest.strip():
            yield json.loads(rest)

    def _chunked(self) -> Iterator[bytes]:
        while True:
            left = int(self._line().partition(b";")[0] or b"0", 16)
            if left == 0:
                while self._line():
                    pass  # trailers
                return
            while left and (data := self._some(left)):
                left -= len(data)
                yield data
            if left:
                raise DaemonError("the daemon closed the connection in the middle of its answer")
            self._line()

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self.socket.recv(READ_SIZE)
            if not data:
                raise DaemonError("the daemon closed the connection in the middle of its answer")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def _some(self, limit: int = READ_SIZE) -> bytes:
        if self._buffer:
            data, self._buffer = self._buffer[:limit], self._buffer[limit:]
            return data
        return self.socket.recv(min(limit, READ_SIZE))


class Client:
    """A daemon at an address: `unix:///path` or `tcp://host:port`."""

    def __init__(self, host: str = "") -> None:
        self.host = host or os.environ.get("WHERRY_HOST") or os.environ.get("DOCKER_HOST") or DEFAULT_HOST

    def call(self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """One request with a JSON answer, decoded; None where there is no body."""
        data = self.open(method, path, query, body).body()
        return json.loads(data) if data.strip() else None

    def open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        *,
        upload: Iterable[bytes] | Upload | None = None,
        hijack: bool = False,
    ) -> Response:
        """One request; returns when the head of the answer is there. Raises DaemonError for an answer of 400 or more.

        `body` is sent as JSON, `upload` as it is, chunked: pieces, or a function that writes them. `hijack` asks for a raw
        stream in both directions.
        """
        headers = {"Host": "wherry", "User-Agent": "wherry"}
        data = b""
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if upload is not None:
            headers |= {"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}
        elif method != "GET":
            headers["Content-Length"] = str(len(data))
        if hijack:
            headers |= {"Connection": "Upgrade", "Upgrade": "tcp"}
        head = f"{method} {path}{_query(query)} HTTP/1.1\r\n" + "".join(
            f"{k}: {v}\r\n" for k, v in headers.items()
        )
        connection = self._connect()
        try:
            sent = self._send(connection, (head + "\r\n").encode() + data, upload)
            response = _answer(connection)
            response.bodiless |= method == "HEAD"
        except OSError as error:
            connection.close()
            raise DaemonError(
                f"the connection to the daemon at {self.host} broke: {error.strerror}"
            ) from error
        if response.status >= 400:
            raise DaemonError(f"Error response from daemon: {_message(response)}", response.status)
        if not sent:
            raise DaemonError(f"the daemon at {self.host} stopped reading in the middle of the upload")
        return response

    def _send(self, connection: socket.socket, data: bytes, upload: Iterable[bytes] | Upload | None) -> bool:
        # A daemon that refuses an upload answers and closes while we still write: its answer says why.
        try:
            send(connection, data)
            if upload is not None:

                def write(piece: bytes) -> None:
                    send(connection, b"%x\r\n%b\r\n" % (len(piece), piece))

                if callable(upload):
                    upload(write)
                else:
                    for piece in upload:
                        write(piece)
                send(connection, b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _connect(self) -> socket.socket:
        scheme, separator, rest = self.host.partition("://")
        if not separator or scheme not in ("unix", "tcp", "http"):
            raise InvalidRequest(
                f'"{self.host}" is no address of a daemon; write unix:///path or tcp://host:port'
            )
        try:
            if scheme == "unix":
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.connect(rest)
                return connection
            name, _, port = rest.rstrip("/").rpartition(":")
            return socket.create_connection((name.strip("[]") or "localhost", int(port)))
        except (OSError, ValueError) as error:
            why = str(getattr(error, "strerror", None) or error)
            hint = _HINTS.get(type(error), why[:1].upper() + why[1:])
            raise DaemonError(f"Cannot connect to the wherry daemon at {self.host}. {hint}.") from error


def send(connection: socket.socket, data: bytes) -> None:
    """sendall(), but a peer that is gone is a BrokenPipeError and never a SIGPIPE."""
    view = memoryview(data)
    while view:
        view = view[connection.send(view, socket.MSG_NOSIGNAL) :]


def part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def _query(query: Mapping[str, Any] | None) -> str:
    pairs = []
    for name, value in (query or {}).items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is None or each == "" or each is False:
                continue
            text = "1" if each is True else json.dumps(each) if isinstance(each, dict) else str(each)
            pairs.append(f"{name}={quote(text, safe='')}")
    return "?" + "&".join(pairs) if pairs else ""


def _answer(connection: socket.socket) -> Response:
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        data = connection.recv(READ_SIZE)
        if not data:
            raise DaemonError("the daemon closed the connection without an answer")
        buffer += data
        if len(buffer) > HEAD_LIMIT and b"\r\n\r\n" not in buffer:
            raise DaemonError("what answers there does not speak HTTP")
    head, _, early = buffer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise DaemonError("what answers there does not speak HTTP")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    return Response(connection, int(rest[:3]), headers, early)


def _message(response: Response) -> str:
    data = response.body()
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace").strip() or f"status {response.status}"
