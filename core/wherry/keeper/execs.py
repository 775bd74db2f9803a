"""The execs of one container: many at once, each with its own streams and clients.

An exec's exit is told, and seen, before its clients are let go: whoever sees the end of the output and asks for the
exit code, gets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from wherry.errors import Conflict, InvalidRequest, NotFound
from wherry.keeper.children import Children
from wherry.keeper.exits import exit_code
from wherry.keeper.line import Line, Request
from wherry.keeper.loop import Loop
from wherry.keeper.protocol import Attached, parse
from wherry.keeper.stdio import streams_for
from wherry.keeper.streams import Streams
from wherry.linux import processes, terminal
from wherry.plugins import Driver
from wherry.spec.command import Process

LINGER: Final = 0.2
"""Seconds after an exec's exit in which others that have its output open may still write."""

SEEN: Final = 1.0
"""Seconds that clients wait at most for the daemon to see an exit."""

PATIENCE: Final = 60.0
"""Seconds that an exec's client may leave its output unread."""

KEPT: Final = 256
"""Exit codes of ended execs that `status` still has."""


class Exec:
    """One exec, from its start until its clients are gone."""

    def __init__(self, exec_id: str, streams: Streams, note: Any) -> None:
        self.exec_id = exec_id
        self.about = {} if note is None else {"note": note}
        """What the daemon that started it would have the next daemon know of it."""
        self.streams = streams
        self.pid = self.watch = 0
        self.exited = False
        self.read_out = False
        self.seen = False


class Execs:
    def __init__(self, loop: Loop, line: Line, children: Children, settled: Callable[[], None]) -> None:
        self._loop = loop
        self._line = line
        self._children = children
        self._settled = settled
        self._execs: dict[str, Exec] = {}
        self._ended: dict[str, dict[str, Any]] = {}

    @property
    def idle(self) -> bool:
        return not self._execs

    def status(self) -> dict[str, Any]:
        """Exec id → {"pid"} of those that run, {"code"} of the last that ended; with {"note"} what came with `exec`."""
        running = {e.exec_id: {"pid": e.pid, **e.about} for e in self._execs.values() if not e.exited}
        return {**self._ended, **running}

    def start(self, driver: Driver, state: Mapping[str, Any], request: Request) -> dict[str, Any]:
        exec_id = str(request.fields["exec_id"])
        if exec_id in self._execs:
            raise Conflict(f"exec instance {exec_id} runs already")
        process = parse(request.fields["process"], Process)
        stdin = bool(request.fields.get("stdin"))
        streams = Streams(
            self._loop,
            log=None,
            left=lambda why: self._client_left(exec_id, why),
            tty=process.tty,
            input_once=True,
        )
        attached = request.fields.get("attachment")
        if attached is not None:
            wanted = parse(attached, Attached)
            streams.attach(wanted, request.take(wanted.descriptor), patience=PATIENCE)
        made = Exec(exec_id, streams, request.fields.get("note"))
        try:
            with streams_for(tty=process.tty, stdin=stdin, output=attached is not None) as (stdio, ends):
                started = driver.call("exec", state=state, process=process, stdio=stdio)
            made.pid, made.watch = started.pid, started.watch
            streams.open(ends, started.console, stdin=stdin)
            started.release()
        except Exception as error:
            # What was made ends by itself, and is reaped without being waited for.
            streams.finish()
            streams.say(f"{error}\r\n".encode())
            # A moment later, so that the daemon has the answer when the client sees the end.
            self._loop.after(0.02, streams.part)
            raise
        self._execs[exec_id] = made
        self._children.watch(made.watch, partial(self._exited, made))
        self._line.tell("exec-start", exec_id=exec_id, pid=made.pid)
        return {"pid": made.pid, "start_time": processes.start_time(made.pid)}

    def resize(self, exec_id: str, rows: int, columns: int) -> None:
        found = self._execs.get(exec_id)
        if found is None or found.exited:
            raise NotFound("exec instance", exec_id)
        console = found.streams.console
        if console is None:
            raise InvalidRequest(f"exec instance {exec_id} has no terminal")
        terminal.set_size(console, rows, columns)

    def drop(self) -> None:
        """Let go of everything, at the container's end."""
        for made in list(self._execs.values()):
            made.streams.finish()
            made.streams.drop()
        self._execs.clear()

    def _exited(self, made: Exec, status: int) -> None:
        code, signal = exit_code(status)
        made.exited = True
        self._ended[made.exec_id] = {"code": code, **made.about}
        while len(self._ended) > KEPT:
            self._ended.pop(next(iter(self._ended)))
        self._line.tell_surely(
            "exec-exit",
            {"exec_id": made.exec_id, "code": code, "signal": signal, **made.about},
            partial(self._was_seen, made),
        )
        if self._line.connected:
            self._loop.after(SEEN, partial(self._was_seen, made))
        else:
            made.seen = True
        made.streams.read_out()
        made.streams.on_end(partial(self._was_read, made))
        if not made.read_out:
            self._loop.after(LINGER, partial(self._enough, made))

    def _enough(self, made: Exec) -> None:
        """Others still have the output open. What the exec itself wrote is only left unread for a lagging client."""
        made.streams.read_out()
        if made.streams.held_up:
            self._loop.after(LINGER, partial(self._enough, made))
        else:
            self._was_read(made)

    def _was_seen(self, made: Exec) -> None:
        made.seen = True
        self._part(made)

    def _was_read(self, made: Exec) -> None:
        if not made.read_out:
            made.read_out = True
            made.streams.finish()
            self._part(made)

    def _part(self, made: Exec) -> None:
        if made.seen and made.read_out:
            made.streams.part()
            self._forget(made)

    def _client_left(self, exec_id: str, why: str) -> None:
        if why == "detached":
            self._line.tell("detached", exec_id=exec_id)
        elif why:
            self._line.report("warning", f"a client of exec {exec_id[:12]} was cut: {why}", {})
        made = self._execs.get(exec_id)
        if made is not None:
            self._forget(made)

    def _forget(self, made: Exec) -> None:
        over = made.seen and made.read_out and made.streams.abandoned
        if over and self._execs.pop(made.exec_id, None) is not None:
            self._settled()
