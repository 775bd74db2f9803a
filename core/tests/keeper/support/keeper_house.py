"""Keepers around real host processes, without isolation: a `House` is an engine's worth of them."""

from __future__ import annotations

import os
import queue
import signal
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wherry.keeper.client import Keeper, Keepers, attached
from wherry.keeper.protocol import Setup, Warm
from wherry.plugins import Resolved
from wherry.spec.command import Command, Process
from wherry.spec.frontend import Attachment
from wherry.spec.log import LogContext

LOGS = ("PlainLog", "ThreadedLog", "FailingLog", "BlockingLog", "LazyLog")


def resolved(kind: str, attribute: str) -> Resolved:
    return Resolved(kind=kind, name=attribute.lower(), module="keeper_test_drivers", attribute=attribute)  # type: ignore[arg-type]


WARM = Warm(
    engine_id="00c0ffee",
    cgroup_parent="/none",
    exec_drivers=(resolved("exec", "HostExec"),),
    log_drivers=tuple(resolved("log", name) for name in LOGS),
)

ENV = (f"PATH={os.environ['PATH']}", "TERM=dumb")


def until(condition: Callable[[], Any], timeout: float = 10.0, what: str = "the condition") -> Any:
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout} s"
        time.sleep(0.002)
    return answer


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass
class Watched:
    """A container: its keeper and the events that came from it."""

    house: House
    id: str
    keeper: Keeper
    directory: Path
    events: queue.Queue[Mapping[str, Any]]
    past: list[Mapping[str, Any]] = field(default_factory=list)
    pid: int = 0

    def event(self, name: str, timeout: float = 10.0, **fields: Any) -> Mapping[str, Any]:
        """The next event of this name with these fields, those between are kept in `past`."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                event = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(
                    f"no {name} {fields} within {timeout} s; there were {self.past}"
                ) from None
            self.past.append(event)
            if event["event"] == name and fields.items() <= event.items():
                return event

    def run(self, *argv: str, release: bool = True, **choices: Any) -> Watched:
        self.start(*argv, **choices)
        if release:
            self.keeper.release()
        return self

    def start(
        self,
        *argv: str,
        tty: bool = False,
        log: str | None = "PlainLog",
        copy: str | None = None,
        attach: Sequence[Attachment] = (),
        log_options: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        console_size: tuple[int, int] | None = None,
        held: Sequence[int] = (),
        deadline: float = 20.0,
        **choices: Any,
    ) -> None:
        root = os.open("/", os.O_PATH)
        descriptors = [root, *(a.descriptor for a in attach), *held]
        setup = Setup(
            command=Command(
                id=self.id,
                rootfs=0,
                process=Process(argv=argv, env=ENV, tty=tty, console_size=console_size),
                options=options or {},
            ),
            exec_driver=resolved("exec", "HostExec"),
            log_driver=None if log is None else resolved("log", log),
            log_context=LogContext(
                container_id=self.id, container_name="c", directory=self.directory, options=log_options or {}
            ),
            copy_driver=None if copy is None else resolved("log", copy),
            copy_context=LogContext(
                container_id=self.id, container_name="c", directory=self.directory / "log-cache"
            ),
            exit_path=self.directory / "exit.json",
            attachments=tuple(attached(a, 1 + i) for i, a in enumerate(attach)),
            held=tuple(range(1 + len(attach), len(descriptors))),
            **choices,
        )
        try:
            self.pid = self.keeper.start(setup, descriptors, deadline).pid
        finally:
            os.close(root)
            for attachment in attach:
                os.close(attachment.descriptor)

    def exec(
        self, *argv: str, tty: bool = False, stdin: bool = False, attach: Attachment | None = None
    ) -> str:
        exec_id = uuid.uuid4().hex
        self.keeper.exec(exec_id, Process(argv=argv, env=ENV, tty=tty), attach, stdin)
        return exec_id

    def batches(self) -> list[tuple[str, int, bool, bytes]]:
        """What is in the log: (stream, time, partial, data)."""
        found = []
        data = (self.directory / "plain.log").read_bytes()
        while data:
            head, _, data = data.partition(b"\n")
            stream, when, partial, length = head.decode().split()
            found.append((stream, int(when), partial == "1", data[: int(length)]))
            data = data[int(length) + 1 :]
        return found

    def logged(self, stream: str = "stdout") -> bytes:
        return b"".join(data for name, _, _, data in self.batches() if name == stream)


@dataclass
class Peer:
    """The client's side of an attached socket, read to its end by a thread."""

    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    reader: threading.Thread | None = None

    def read_on(self) -> Peer:
        def read() -> None:
            while True:
                try:
                    data = self.socket.recv(65536)
                except OSError:
                    return
                if not data:
                    return
                self.received.extend(data)

        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()
        return self

    def end(self, timeout: float = 10.0) -> bytes:
        """Everything, once the other side has ended."""
        if self.reader is None:
            self.read_on()
        assert self.reader is not None
        self.reader.join(timeout)
        assert not self.reader.is_alive(), (
            f"no end of the stream within {timeout} s; got {bytes(self.received[-200:])!r}"
        )
        return bytes(self.received)

    def streams(self, timeout: float = 10.0) -> tuple[bytes, bytes]:
        """(stdout, stderr) out of the frames."""
        data, found = self.end(timeout), {1: b"", 2: b""}
        while data:
            stream, length = struct.unpack(">BxxxI", data[:8])
            assert len(data) >= 8 + length
            found[stream] += data[8 : 8 + length]
            data = data[8 + length :]
        return found[1], found[2]


class House:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: dict[str, queue.Queue[Mapping[str, Any]]] = {}
        self.keepers = Keepers(root / "run", WARM, self._hear)
        self.pids: set[int] = set()
        self.trouble: Exception | None = None
        self.launchers = [self.keepers.launcher_pid]
        self._sockets: list[socket.socket] = []

    def _hear(self, container_id: str, event: Mapping[str, Any]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.events.setdefault(container_id, queue.Queue()).put(event)

    def container(self) -> Watched:
        container_id = uuid.uuid4().hex * 2
        directory = self.root / container_id
        directory.mkdir()
        return self._watched(container_id, self.keepers.spawn(container_id))

    def adopt(self, container_id: str) -> Watched | None:
        keeper = self.keepers.adopt(container_id)
        return None if keeper is None else self._watched(container_id, keeper)

    def _watched(self, container_id: str, keeper: Keeper) -> Watched:
        self.pids.add(keeper.pid)
        events = self.events.setdefault(container_id, queue.Queue())
        return Watched(self, container_id, keeper, self.root / container_id, events)

    def leave_and_return(self) -> None:
        """The daemon ends and another one begins."""
        self.keepers.close()
        self.events.clear()
        self.keepers = Keepers(self.root / "run", WARM, self._hear)
        self.launchers.append(self.keepers.launcher_pid)

    def client(self, **choices: Any) -> tuple[Peer, Attachment]:
        ours, theirs = socket.socketpair()
        self._sockets.append(ours)
        wanted = replace(Attachment(descriptor=theirs.detach(), stdout=True, stderr=True), **choices)
        return Peer(ours), wanted

    def close(self) -> None:
        self.keepers.close()
        for ours in self._sockets:
            ours.close()
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        until(lambda: not any(is_alive(pid) for pid in [*self.pids, *self.launchers]), what="everybody's end")
