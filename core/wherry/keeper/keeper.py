"""The process that stays with a container: starts it, owns its streams, records its exit, and goes.

    waiting ── start ──▶ made ── release ──▶ running ── process 1 ends ──▶ draining ──▶ (the process ends)
       │                  │  └── release fails ─▶ failed
       └── the daemon is lost before `release`: everything is killed, the exit recorded

After `release` it needs no daemon: output is logged, the exit is recorded. It is one loop in one thread; only a log
sink that is not local has a thread of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from wherry.errors import Conflict, InvalidRequest, StartFailed, WherryError
from wherry.keeper.attach import Client
from wherry.keeper.birth import seal_imports
from wherry.keeper.children import Children
from wherry.keeper.execs import SEEN, Execs
from wherry.keeper.exits import exit_code, write_exit
from wherry.keeper.line import Answer, Line, Request
from wherry.keeper.loop import Loop
from wherry.keeper.memory import MemoryWatch
from wherry.keeper.ports import HeldPorts
from wherry.keeper.protocol import PROTOCOL, Attached, ExitRecord, Held, Phase, Setup, from_json, parse
from wherry.keeper.pump import CLOSING, LogPump
from wherry.keeper.resolver import Resolver
from wherry.keeper.stdio import streams_for
from wherry.keeper.streams import Streams
from wherry.linux import processes, terminal
from wherry.linux.sockets import Channel
from wherry.plugins import Driver, Resolved
from wherry.spec.command import with_descriptors
from wherry.spec.exec import Started
from wherry.spec.log import LogSink

DRAINING: Final = 10.0
"""Seconds that output is read after process 1's end while others of the container live on."""

EMPTY: Final = 1.0
"""Seconds that it is read after the last of them ended: somebody outside has it open."""

TICK: Final = 0.1
FINISHING: Final = 5.0
"""Seconds that a connected daemon has to record an exit."""

LATE: Final = 2.0
"""Seconds after which slow clients and execs do not hold up `drained`."""

LOGGED: Final = 0.01
"""Seconds between two `logged` events."""

Drivers = Callable[[Resolved], Driver]
Voice = Callable[[str, str, Mapping[str, Any]], None]


class Keeper:
    """The keeper from the inside. `drivers` makes a driver of its resolved name; `hear` is given whatever drivers say."""

    def __init__(self, loop: Loop, drivers: Drivers, hear: Callable[[Voice], None], version: str) -> None:
        self._loop = loop
        self._version = version
        self._drivers = drivers
        self.phase: Phase = "waiting"
        self._children = Children()
        self.line = Line(
            loop,
            {
                "start": self._start,
                "release": self._release,
                "attach": self._attach,
                "attach-go": self._attach_go,
                "exec": self._exec,
                "resize": self._resize,
                "exec-resize": self._exec_resize,
                "status": lambda request: self.status(),
                "follow-log": self._follow_log,
                "held": lambda request: Answer(len(self._held), tuple(self._held)),
                "publish": self._publish,
                "resolve": self._resolve,
                "finish": self._finish,
            },
            self._hello,
            self._lost,
        )
        hear(self._say)
        self._execs = Execs(loop, self.line, self._children, self._advance)
        self._log = LogPump(lambda level, sentence: self.line.report(level, sentence, {}), self._noticed)
        self._container_id = ""
        self._started: Started | None = None
        self._start_time = 0
        self._driver: Driver | None = None
        self._memory: MemoryWatch | None = None
        self._exit_path = Path()
        self._patience = 0.0
        self._streams = Streams(loop, log=None, left=self._client_left, tty=False, input_once=False)
        self._held: list[int] = []
        self._waiting: dict[int, Client] = {}
        self._number = 0
        self._ports = HeldPorts(loop, self.line.report)
        self._resolver = Resolver(loop)
        self._size: tuple[int, int] | None = None
        self._following = False
        self._unnoticed = self._noticing = False
        self._exit: ExitRecord | None = None
        self._failure = ""
        # What has happened on the way out.
        self._exit_time = 0.0
        self._empty_since: float | None = None
        self._read_out = self._log_closed = self._seen = self._parted = False
        self._late = self._drained = self._finished = self._leaving = False

    def watch(self, container_id: str, directory: str, connection: socket.socket) -> None:
        """Become this container's keeper."""
        self._container_id = container_id
        self.line.listen(directory, f"{container_id}.sock")
        self._loop.watch_children(self._children.reap)
        self.line.greet(connection)

    # ---- what the daemon asks --------------------------------------------------------------------------------------
    def status(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "pid": 0 if self._started is None else self._started.pid,
            "start_time": self._start_time,
            "state": {} if self._started is None else self._started.state,
            "exit": self._exit,
            "log": self._log.counters(),
            "execs": self._execs.status(),
        }

    def _hello(self) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "version": self._version,
            "pid": os.getpid(),
            "start_time": processes.start_time(os.getpid()),
            "container_id": self._container_id,
            "status": self.status(),
        }

    def _start(self, request: Request) -> dict[str, Any]:
        self._expect("waiting", "start")
        setup = parse(request.fields["setup"], Setup)
        driver = self._driver = self._drivers(setup.exec_driver)
        log_driver = self._drivers(setup.log_driver) if setup.log_driver is not None else None
        command = with_descriptors(setup.command, request.descriptors)
        tty = command.process.tty
        # Until the start has succeeded, whatever fails leaves the keeper good for nothing.
        self.phase = "failed"
        self._streams = Streams(
            self._loop,
            log=self._log,
            left=self._client_left,
            tty=tty,
            input_once=setup.stdin_once,
        )
        with ExitStack() as undo:
            undo.callback(self._streams.drop)
            for wanted in setup.attachments:
                self._streams.attach(wanted, request.take(wanted.descriptor), patience=setup.client_patience)
            with streams_for(tty=tty, stdin=setup.open_stdin) as (stdio, ends):
                # Before anything that may make a thread: drivers fork Python here, once.
                started: Started = driver.call("start", command=command, stdio=stdio)
            undo.callback(self._kill, driver, started)
            self._streams.open(ends, started.console, stdin=setup.open_stdin)
            undo.callback(self._streams.finish)
            if log_driver is not None:
                copy = self._open_copy(setup)
                self._log.open(
                    log_driver.call("open", context=setup.log_context),
                    post=self._loop.post,
                    roomy=self._streams.settle,
                    mode=setup.log_mode,
                    limit=setup.max_buffer_size,
                    copy=copy,
                )
            self._held = [request.take(position) for position in setup.held]
            undo.callback(self._ports.close)
            self._ports.take(request, setup.published)
            if setup.name_server is not None:
                undo.callback(self._resolver.close)
                self._resolver.take(request, setup.name_server)
            undo.pop_all()
        self._started, self._start_time = started, processes.start_time(started.pid)
        self._memory = MemoryWatch(self._loop, self.line, driver, started.state)
        # Of the setup, which may be large, only small things are kept.
        self._exit_path, self._patience = setup.exit_path, setup.client_patience / 10
        self._children.watch(started.watch, self._exited)
        if self._size is not None and started.console is not None:
            terminal.set_size(started.console, *self._size)
        self.phase = "made"
        seal_imports()
        return {"pid": started.pid, "start_time": self._start_time, "state": started.state}

    def _open_copy(self, setup: Setup) -> LogSink | None:
        if setup.copy_driver is None or setup.copy_context is None:
            return None
        try:
            setup.copy_context.directory.mkdir(mode=0o700, exist_ok=True)
            copy: LogSink = self._drivers(setup.copy_driver).call("open", context=setup.copy_context)
        except (OSError, WherryError) as error:
            self.line.report("error", f"there will be no local copy of the log: {error}", {})
            return None
        return copy

    def _release(self, request: Request) -> None:
        self._expect("made", "release")
        assert self._started is not None and self._driver is not None and self._memory is not None
        try:
            self._started.release()
        except Exception as error:
            self.phase = "failed"
            self._failure = str(error)
            self._kill(self._driver, self._started)
            self._record(error.exit_code if isinstance(error, StartFailed) else StartFailed.exit_code, None)
            self._streams.finish()
            self._loop.after(0.02, self._streams.part)
            raise
        self.phase = "running"
        # After the answer: nobody has to wait for it.
        self._loop.post(self._memory.begin)

    def _attach(self, request: Request) -> Held | None:
        if self.phase not in ("made", "running"):
            raise Conflict(f"container {self._container_id[:12]} is not running")
        wanted = parse(request.fields["attachment"], Attached)
        client = self._streams.attach(wanted, request.take(wanted.descriptor), patience=self._patience)
        if not wanted.hold:
            return None
        self._number += 1
        self._waiting[self._number] = client
        return Held(
            client=self._number,
            last_ns=self._log.last_ns,
            stdout=self._log.unfinished(1) if wanted.stdout else b"",
            stderr=self._log.unfinished(2) if wanted.stderr else b"",
        )

    def _attach_go(self, request: Request) -> None:
        client = self._waiting.pop(int(request.fields["client"]), None)
        if client is not None:
            client.go()
            self._loop.after(0, self._advance)

    def _exec(self, request: Request) -> dict[str, Any]:
        self._expect("running", "exec")
        assert self._driver is not None and self._started is not None
        return self._execs.start(self._driver, self._started.state, request)

    def _resize(self, request: Request) -> None:
        size = (int(request.fields["rows"]), int(request.fields["columns"]))
        if self.phase == "waiting":
            self._size = size  # there is no terminal yet: it begins with this size
            return
        console = self._streams.console
        if console is None:
            raise InvalidRequest(f"container {self._container_id[:12]} has no terminal")
        terminal.set_size(console, *size)

    def _exec_resize(self, request: Request) -> None:
        self._execs.resize(
            str(request.fields["exec_id"]), int(request.fields["rows"]), int(request.fields["columns"])
        )

    def _resolve(self, request: Request) -> None:
        if self._leaving or self.phase not in ("made", "running"):
            raise Conflict(f"container {self._container_id[:12]} is not running")
        self._resolver.resolve(request)

    def _publish(self, request: Request) -> None:
        if self._leaving or self.phase not in ("made", "running"):
            raise Conflict(f"container {self._container_id[:12]} is not running")
        self._ports.publish(request)

    def _follow_log(self, request: Request) -> None:
        self._following = bool(request.fields["on"])

    def _finish(self, request: Request) -> None:
        self._finished = self._seen = True
        if self.phase == "made":
            assert self._driver is not None and self._started is not None
            self.phase = "failed"
            self._kill(self._driver, self._started)
            self._streams.finish()
            self._streams.part()
        if self.phase in ("waiting", "failed"):
            self._leave()
        else:
            self._advance()

    def _expect(self, phase: Phase, verb: str) -> None:
        if self._exit is not None:
            raise StartFailed(f"the container ended (exit code {self._exit.code}) before {verb}")
        if self.phase != phase:
            raise Conflict(f"{verb} is for a keeper that is {phase}; this one is {self.phase}")

    # ---- what the container does -----------------------------------------------------------------------------------
    def _exited(self, status: int) -> None:
        code, number = exit_code(status)
        if self.phase == "failed":
            return  # its release said so already, with a better reason
        self.phase = "draining"
        self._record(code, number)
        assert self._exit is not None
        self.line.tell_surely("exit", record_fields(self._exit), self._was_seen)
        self._loop.after(SEEN, self._was_seen)
        self._loop.after(FINISHING, self._advance)
        self._loop.after(LATE, self._be_late)
        self._exit_time = time.monotonic()
        self._streams.read_out()
        self._streams.on_end(self._was_read)
        if not self._read_out:
            self._loop.after(TICK, self._drain)

    def _record(self, code: int, number: int | None) -> None:
        assert self._memory is not None
        kills = 0
        try:
            kills = self._memory.kills()
        except WherryError as error:
            self.line.report("warning", f"whether memory ran out is not known: {error}", {})
        self._memory.close()
        self._exit = ExitRecord(
            code=code,
            signal=number,
            time_ns=time.time_ns(),
            boot_id=processes.boot_id(),
            oom_killed=kills > 0,
            error=self._failure,
        )
        try:
            write_exit(self._exit_path, self._exit)
        except OSError as error:
            self.line.report("error", f"the exit record could not be written: {error}", {})

    def _drain(self) -> None:
        """Output is still open: somebody of the container lives on, or somebody outside has it."""
        if self._read_out:
            return
        if self._streams.held_up:
            self._loop.after(TICK, self._drain)  # the client's patience is the bound
            return
        now = time.monotonic()
        if self._empty_since is None and not self._members():
            self._empty_since = now
        ended = self._empty_since is not None and now - self._empty_since >= EMPTY
        if ended or now - self._exit_time >= DRAINING:
            self._streams.read_out()
            self._was_read()
        else:
            self._loop.after(TICK, self._drain)

    def _members(self) -> Sequence[int]:
        assert self._driver is not None and self._started is not None
        try:
            found: Sequence[int] = self._driver.call("pids", state=self._started.state)
        except WherryError:
            return ()  # its cgroup is gone already
        return found

    def _was_read(self) -> None:
        if not self._read_out:
            self._read_out = True
            self._streams.finish()
            self._log.close(self._was_logged)
            self._loop.after(CLOSING, self._was_logged)

    def _was_logged(self) -> None:
        self._log_closed = True
        self._advance()

    def _was_seen(self) -> None:
        self._seen = True
        self._advance()

    def _be_late(self) -> None:
        self._late = True
        self._advance()

    def _advance(self) -> None:
        """Take the next steps of the way out for which all is done that must come before."""
        if self.phase != "draining" or not self._read_out or self._leaving:
            return
        if not self._parted and (self._seen or not self.line.connected):
            self._parted = True
            self._streams.part()
        if not self._parted or not self._log_closed:
            return
        quiet = self._streams.quiet and self._execs.idle
        if not self._drained and (quiet or self._late):
            self._drained = True
            self.line.tell("drained", log=self._log.counters())
        waited = time.monotonic() - self._exit_time >= FINISHING
        # Whose daemon still sends what was logged before has not had the end yet; it has patience, and no more.
        self._waiting = {number: client for number, client in self._waiting.items() if not client.closed}
        if self._drained and not self._waiting and (self._finished or not self.line.connected or waited):
            self._leave()

    def _leave(self) -> None:
        """Be found no more and hold nothing; end when the last client has what it waits for."""
        self._leaving = True
        self.line.close()
        for descriptor in self._held:
            os.close(descriptor)
        self._held.clear()
        self._ports.close()
        self._resolver.close()
        self._execs.drop()
        if self._streams.abandoned:
            self._loop.stop()

    def _client_left(self, why: str) -> None:
        if why == "detached":
            self.line.tell("detached")
        elif why:
            self.line.report("warning", f"an attached client was cut: {why}", {})
        if self._leaving and self._streams.abandoned:
            self._loop.stop()
        self._advance()

    def _lost(self) -> None:
        """There is no daemon."""
        self._following = False
        while self._waiting:
            self._waiting.popitem()[1].go()  # whoever was to send the rest is gone
        if self.line.connected:
            return
        if self.phase == "made":
            assert self._driver is not None and self._started is not None
            self._failure = "the daemon ended before the container was started"
            self._kill(self._driver, self._started)
        elif self.phase in ("waiting", "failed"):
            self._streams.drop()
            self._leave()
        else:
            self._advance()

    def _kill(self, driver: Driver, started: Started) -> None:
        try:
            driver.call("kill", state=started.state, signal=signal.SIGKILL, everyone=True)
        except WherryError as error:
            self.line.report("warning", f"the driver could not kill what it started: {error}", {})
        try:
            os.kill(started.watch, signal.SIGKILL)  # our child, not reaped yet: the number is still its own
        except ProcessLookupError:
            pass

    def _noticed(self) -> None:
        """Something was logged: tell it, but not each time."""
        if not self._following:
            return
        if self._noticing:
            self._unnoticed = True
            return
        self._noticing, self._unnoticed = True, False
        self.line.tell("logged", **self._log.counters())
        self._loop.after(LOGGED, self._notice)

    def _notice(self) -> None:
        self._noticing = False
        if self._unnoticed:
            self._noticed()

    def _say(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        # A driver may speak from a thread of its own.
        self._loop.post(lambda: self.line.report(level, message, fields))


def record_fields(record: ExitRecord) -> dict[str, Any]:
    """An exit record as the fields of an event."""
    return {
        "code": record.code,
        "signal": record.signal,
        "time_ns": record.time_ns,
        "boot_id": record.boot_id,
        "oom_killed": record.oom_killed,
        "error": record.error,
    }


def make_ready(drivers: Drivers, hear: Callable[[Voice], None], version: str) -> Callable[[Channel], None]:
    """A keeper without a container. What is answered makes it the keeper of the container that the first message on
    a channel names, to its end."""
    loop = Loop(lambda error: hear_failure(keeper, error))
    keeper = Keeper(loop, drivers, hear, version)

    def keep(channel: Channel) -> None:
        fields = from_json(channel.receive(timeout=30.0).body)
        keeper.watch(str(fields["id"]), str(fields["directory"]), channel.connection)
        loop.run()

    return keep


def hear_failure(keeper: Keeper, error: Exception) -> None:
    """A fault of ours is reported and does not end the container."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
    keeper.line.report("error", f"a fault in the keeper: {type(error).__name__}: {error}", {"where": where})
