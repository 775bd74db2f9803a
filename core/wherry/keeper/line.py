"""The keeper's line to whoever is its daemon: a listening socket, one connection at a time, and what it must not miss.

The newest connection is the daemon's. Events that a daemon must have seen are kept until it says so, and are repeated
to the next one. A daemon that does not read is given up; the container does not notice.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wherry.errors import InvalidRequest, to_wire
from wherry.keeper.loop import HANGUP, READ, WRITE, Loop
from wherry.keeper.protocol import MESSAGE_LIMIT, UNREAD_LIMIT, from_json, to_json
from wherry.linux.sockets import BadMessage, Inbox, Message, Outbox, short_address

KEPT_LINES: Final = 32
"""Lines for the daemon's log that are kept while there is no daemon."""

KEPT_EVENTS: Final = 1000
"""Events that are kept until they are seen: exits of execs, above all."""


@dataclass(slots=True)
class Request:
    """A verb from the daemon. Whoever handles it owns the descriptors that it takes out; `Line` closes the others."""

    verb: str
    fields: dict[str, Any]
    descriptors: list[int] = field(default_factory=list)

    def take(self, position: int) -> int:
        """A descriptor of the message, to own."""
        if not 0 <= position < len(self.descriptors) or self.descriptors[position] < 0:
            raise InvalidRequest(f"the message has no descriptor {position}")
        taken, self.descriptors[position] = self.descriptors[position], -1
        return taken

    def close(self) -> None:
        for descriptor in self.descriptors:
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptors.clear()


@dataclass(slots=True)
class Answer:
    """The value of an answer together with descriptors to lend."""

    value: Any
    descriptors: tuple[int, ...] = ()


Handler = Callable[[Request], Any]


class Line:
    """`verbs` says who handles what; `hello` makes the first message; `lost` is called when the last daemon is gone."""

    def __init__(
        self,
        loop: Loop,
        verbs: Mapping[str, Handler],
        hello: Callable[[], Mapping[str, Any]],
        lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._verbs = verbs
        self._hello = hello
        self._lost = lost
        self._listener: socket.socket | None = None
        self._place: tuple[int, str] | None = None
        self._connection: socket.socket | None = None
        self._inbox: Inbox | None = None
        self._outbox: Outbox | None = None
        self._unseen: dict[int, tuple[dict[str, Any], Callable[[], None] | None]] = {}
        self._number = 0
        self._lines: deque[dict[str, Any]] = deque(maxlen=KEPT_LINES)

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def listen(self, directory: str, name: str) -> None:
        """Be found at `directory/name`, by root only."""
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        # Bound aside and renamed: nobody may connect before the mode is right.
        aside = f"{name}.new"
        for left in (aside, name):
            try:
                os.unlink(left, dir_fd=place)
            except FileNotFoundError:
                pass
        listener.bind(short_address(place, aside))
        os.chmod(aside, 0o600, dir_fd=place)
        listener.listen(8)
        os.rename(aside, name, src_dir_fd=place, dst_dir_fd=place)
        self._listener, self._place = listener, (place, name)
        self._loop.watch(listener.fileno(), READ, self._accept)

    def greet(self, connection: socket.socket) -> None:
        """From now on this connection is the daemon's: hello, then what nobody has seen yet."""
        if self._connection is not None:
            self._send({"event": "replaced"})
            self._hang_up()
        connection.setblocking(False)
        self._connection = connection
        self._inbox, self._outbox = Inbox(connection, MESSAGE_LIMIT), Outbox(connection, UNREAD_LIMIT)
        self._loop.watch(connection.fileno(), READ, self._ready)
        self._send({"hello": dict(self._hello())})
        for event, _ in list(self._unseen.values()):
            self._send(event)
        while self._lines and self._connection is not None:
            self._send(self._lines.popleft())

    def tell(self, event: str, **fields: Any) -> None:
        """An event that may be missed."""
        self._send({"event": event, **fields})

    def tell_surely(
        self, event: str, fields: Mapping[str, Any], seen: Callable[[], None] | None = None
    ) -> int:
        """An event that is repeated until a daemon has seen it; then `seen` is called. Answers its number."""
        self._number += 1
        message = {"event": event, **fields, "seen": self._number}
        self._unseen[self._number] = (message, seen)
        while len(self._unseen) > KEPT_EVENTS:
            self._unseen.pop(next(iter(self._unseen)))
        self._send(message)
        return self._number

    def report(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """A line for the daemon's log; the last ones are kept for the next daemon."""
        line = {"event": "log-line", "level": level, "message": message, "fields": dict(fields)}
        if self._connection is None:
            self._lines.append(line)
        else:
            self._send(line)

    def close(self) -> None:
        """Not be found any more, and hang up."""
        if self._listener is not None and self._place is not None:
            self._loop.forget(self._listener.fileno())
            place, name = self._place
            try:
                os.unlink(name, dir_fd=place)
            except FileNotFoundError:
                pass
            os.close(place)
            self._listener.close()
            self._listener = self._place = None
        if self._connection is not None:
            self._hang_up()

    def _accept(self, events: int) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.greet(connection)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        while self._connection is not None:
            assert self._inbox is not None
            try:
                message = self._inbox.receive()
                request = None if message is None else _request(message)
            except (EOFError, BadMessage, ValueError, OSError):
                self._lose()
                return
            if request is None:
                break
            self._handle(request)
        if events & HANGUP and not events & READ and self._connection is not None:
            self._lose()

    def _handle(self, request: Request) -> None:
        call = request.fields.get("call")
        try:
            if request.verb == "seen":
                _, seen = self._unseen.pop(int(request.fields["number"]), (None, None))
                if seen is not None:
                    seen()
                return
            handler = self._verbs.get(request.verb)
            if handler is None:
                raise InvalidRequest(f'this keeper does not know the verb "{request.verb}"')
            value = handler(request)
        except Exception as error:
            if call is not None:
                self._send({"answer": call, "error": to_wire(error)})
            else:
                self.report("error", f"{request.verb} failed: {type(error).__name__}: {error}", {})
        else:
            lent: tuple[int, ...] = ()
            if isinstance(value, Answer):
                value, lent = value.value, value.descriptors
            if call is not None:
                self._send({"answer": call, "value": value}, lent)
        finally:
            request.close()

    def _send(self, message: Mapping[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        if self._outbox is None:
            return
        try:
            self._outbox.put(to_json(message), descriptors)
        except BlockingIOError:
            self._lose()
            return
        self._flush()

    def _flush(self) -> None:
        assert self._outbox is not None and self._connection is not None
        try:
            done = self._outbox.flush()
        except OSError:
            self._lose()
            return
        self._loop.watch(self._connection.fileno(), READ if done else READ | WRITE, self._ready)

    def _lose(self) -> None:
        self._hang_up()
        # Not from within whoever just wanted to tell something.
        self._loop.after(0, self._lost)

    def _hang_up(self) -> None:
        assert self._connection is not None and self._inbox is not None
        self._loop.forget(self._connection.fileno())
        assert self._outbox is not None
        self._inbox.close()
        self._outbox.close()
        self._connection.close()
        self._connection = self._inbox = self._outbox = None


def _request(message: Message) -> Request:
    try:
        fields = from_json(message.body)
    except ValueError:
        for descriptor in message.descriptors:
            os.close(descriptor)
        raise
    return Request(str(fields.get("verb", "")), fields, list(message.descriptors))
