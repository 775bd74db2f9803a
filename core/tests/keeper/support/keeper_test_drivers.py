"""Drivers for the keeper's tests: processes without isolation, and logs that collect, fail, lag or block."""

from __future__ import annotations

import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from typing import Any

from wherry.errors import CommandNotExecutable, CommandNotFound
from wherry.linux import processes
from wherry.spec import hookimpl
from wherry.spec.command import Command, Process, Resources
from wherry.spec.exec import ExecCapabilities, Started, Stats, Stdio
from wherry.spec.log import Batch, LogContext


class HostExec:
    """Runs host programs: a fork, a session, a barrier, an execve. `pids` are those of its session."""

    @hookimpl
    def start(self, command: Command, stdio: Stdio) -> Started:
        if command.options.get("hang"):
            time.sleep(float(command.options["hang"]))
        return _spawn(command.process, stdio)

    @hookimpl
    def exec(self, state: Mapping[str, Any], process: Process, stdio: Stdio) -> Started:
        return _spawn(process, stdio)

    @hookimpl
    def kill(self, state: Mapping[str, Any], signal: int, everyone: bool) -> bool:
        members = self.pids(state) if everyone else [state["pid"]]
        for pid in members:
            try:
                os.kill(pid, signal)
            except ProcessLookupError:
                pass
        return bool(members)

    @hookimpl
    def pids(self, state: Mapping[str, Any]) -> list[int]:
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    if os.getsid(int(entry)) == state["pid"] and processes.state(int(entry)) not in "ZX":
                        found.append(int(entry))
                except ProcessLookupError:
                    pass
        return found

    @hookimpl
    def pause(self, state: Mapping[str, Any]) -> None: ...

    @hookimpl
    def unpause(self, state: Mapping[str, Any]) -> None: ...

    @hookimpl
    def stats(self, state: Mapping[str, Any]) -> Stats:
        return Stats()

    @hookimpl
    def update(self, state: Mapping[str, Any], resources: Resources) -> None: ...

    @hookimpl
    def oom_killed(self, state: Mapping[str, Any]) -> bool:
        return False

    @hookimpl
    def clean(self, state: Mapping[str, Any]) -> None: ...

    @hookimpl
    def owned(self) -> list[str]:
        return []

    @hookimpl
    def warm(self) -> None: ...

    @hookimpl
    def info(self) -> Mapping[str, str]:
        return {}

    @hookimpl
    def capabilities(self) -> ExecCapabilities:
        return ExecCapabilities()


def _spawn(process: Process, stdio: Stdio) -> Started:
    barrier, opener = os.pipe2(os.O_CLOEXEC)
    trouble, teller = os.pipe2(os.O_CLOEXEC)
    master = slave = None
    if process.tty:
        master, slave = pty.openpty()
        if process.console_size is not None:
            ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", *process.console_size, 0, 0))
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(process, stdio, slave, barrier, opener, teller, parent)
        finally:
            os._exit(125)
    for descriptor in (barrier, teller, slave):
        if descriptor is not None:
            os.close(descriptor)

    def release() -> None:
        os.close(opener)
        answer = os.read(trouble, 16)
        os.close(trouble)
        if answer:
            number = int(answer)
            name = process.argv[0]
            if number == 2:
                raise CommandNotFound(f'exec: "{name}": executable file not found in $PATH')
            raise CommandNotExecutable(f'exec: "{name}": permission denied')

    return Started(pid=pid, watch=pid, state={"pid": pid}, release=release, console=master)


def _become(
    process: Process,
    stdio: Stdio,
    slave: int | None,
    barrier: int,
    opener: int,
    teller: int,
    parent: int,
) -> None:
    os.close(opener)
    os.setsid()
    processes.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(125)
    signal.set_wakeup_fd(-1)
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    if slave is not None:
        ioctl(slave, termios.TIOCSCTTY, 0)
        ends = [slave] * 3
    else:
        assert stdio.stdin is not None and stdio.stdout is not None and stdio.stderr is not None
        ends = [stdio.stdin, stdio.stdout, stdio.stderr]
    for number, end in enumerate(ends):
        os.dup2(end, number)
    os.read(barrier, 1)
    try:
        os.execvpe(process.argv[0], process.argv, dict(item.split("=", 1) for item in process.env))
    except OSError as error:
        os.write(teller, str(error.errno).encode())
    os._exit(127)


@dataclass
class PlainSink:
    """`<stream> <time> <partial> <length>` and the data, for each batch: nothing is lost on the way to a test."""

    path: Path
    local: bool

    def __post_init__(self) -> None:
        self.file = self.path.open("ab", buffering=0)

    def write(self, batch: Batch) -> None:
        head = f"{batch.stream} {batch.time_ns} {int(batch.partial)} {len(batch.data)}\n"
        self.file.write(head.encode() + batch.data + b"\n")

    def close(self) -> None:
        self.file.write(b"closed 0 0 0\n\n")
        self.file.close()


class PlainLog:
    @hookimpl
    def open(self, context: LogContext) -> PlainSink:
        return PlainSink(context.directory / "plain.log", local=True)


class ThreadedLog:
    @hookimpl
    def open(self, context: LogContext) -> PlainSink:
        return PlainSink(context.directory / "plain.log", local=False)


class FailingLog:
    """`open` fails where the option says so; else every second write does."""

    @hookimpl
    def open(self, context: LogContext) -> Any:
        if context.options.get("fail") == "open":
            raise RuntimeError("no log today")
        return FailingSink(context.directory / "plain.log", local=context.options.get("local") == "1")


@dataclass
class FailingSink(PlainSink):
    count: int = 0

    def write(self, batch: Batch) -> None:
        self.count += 1
        if self.count % 2:
            raise OSError(28, "No space left on device")
        PlainSink.write(self, batch)


class BlockingLog:
    """Each write waits while the file `block` is in the container's directory."""

    @hookimpl
    def open(self, context: LogContext) -> Any:
        return BlockingSink(context.directory / "plain.log", local=False)


class BlockingSink(PlainSink):
    def write(self, batch: Batch) -> None:
        while (self.path.parent / "block").exists():
            time.sleep(0.005)
        PlainSink.write(self, batch)


class LazyLog:
    """Imports in `write`, which a keeper refuses."""

    @hookimpl
    def open(self, context: LogContext) -> Any:
        return LazySink(context.directory / "plain.log", local=True)


class LazySink(PlainSink):
    def write(self, batch: Batch) -> None:
        import xmlrpc.client  # noqa: F401

        PlainSink.write(self, batch)
