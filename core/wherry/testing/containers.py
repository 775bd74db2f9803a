"""What testing an exec driver takes: a small root file system, commands as Docker's defaults make them, and a keeper's part.

with PlayedKeeper(driver, rootfs) as keeper:
    result = keeper.run("echo", "hello")          Result(code=0, stdout=b"hello\\n", stderr=b"")
    box = keeper.start("sleep", "1000")
    keeper.exec(box, "ps")
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

from wherry.linux import capabilities, cgroups, mounts, processes
from wherry.spec.command import (
    Capabilities,
    Command,
    DeviceRule,
    Mount,
    Namespace,
    Namespaces,
    Process,
)
from wherry.spec.exec import ExecCapabilities, Started, State, Stats, Stdio

DEADLINE: Final = 20.0
PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STRICT: Final = ("nosuid", "noexec", "nodev")

MOUNTS: Final = (
    Mount(kind="proc", target="/proc", flags=_STRICT),
    Mount(kind="tmpfs", target="/dev", flags=("nosuid", "strictatime"), data="mode=755,size=65536k"),
    Mount(
        kind="devpts",
        target="/dev/pts",
        flags=("nosuid", "noexec"),
        data="newinstance,ptmxmode=0666,mode=0620,gid=5",
    ),
    Mount(kind="sysfs", target="/sys", flags=_STRICT, read_only=True),
    Mount(kind="cgroup", target="/sys/fs/cgroup", flags=_STRICT, read_only=True),
    Mount(kind="mqueue", target="/dev/mqueue", flags=_STRICT),
    Mount(kind="tmpfs", target="/dev/shm", source="shm", flags=_STRICT, data="mode=1777,size=65536k"),
)
"""What Docker mounts in every container."""
RULES: Final = (
    DeviceRule(allow=False),
    DeviceRule(allow=True, kind="c", access="m"),
    DeviceRule(allow=True, kind="b", access="m"),
    *(
        DeviceRule(allow=True, kind="c", major=major, minor=minor)
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
    ),
)
MASKED: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEFAULT_CAPABILITIES: Final = Capabilities(
    bounding=capabilities.DEFAULT, effective=capabilities.DEFAULT, permitted=capabilities.DEFAULT
)


class Driver(Protocol):
    """An exec driver, called directly: the hooks of ExecSpec."""

    def start(self, command: Command, stdio: Stdio) -> Started: ...
    def exec(self, state: State, process: Process, stdio: Stdio) -> Started: ...
    def kill(self, state: State, signal: int, everyone: bool) -> bool: ...
    def pause(self, state: State) -> None: ...
    def unpause(self, state: State) -> None: ...
    def pids(self, state: State) -> list[int]: ...
    def stats(self, state: State) -> Stats: ...
    def update(self, state: State, resources: Any) -> None: ...
    def oom_killed(self, state: State) -> bool: ...
    def clean(self, state: State) -> None: ...
    def owned(self) -> list[str]: ...
    def warm(self) -> None: ...
    def info(self) -> Any: ...
    def capabilities(self) -> ExecCapabilities: ...


class MakeRootfs(Protocol):
    """`rootfs(prepare)`: a new writable root with busybox in it, as a detached mount descriptor that the caller closes.

    `prepare` gets a directory whose content the root will have besides.
    """

    def __call__(self, prepare: Callable[[Path], None] | None = None) -> int: ...


def busybox_root(directory: Path) -> Path:
    """Fill `directory` with what busybox needs: Debian's static busybox, a name for each of its programs, empty places."""
    for name in ("bin", "etc", "proc", "dev", "sys", "tmp", "root", "home"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "tmp").chmod(0o1777)
    program = directory / "bin" / "busybox"
    shutil.copy("/bin/busybox", program)
    names = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout
    for name in names.split():
        if name != "busybox":
            (directory / "bin" / name).symlink_to("busybox")
    (directory / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
    )
    (directory / "etc" / "group").write_text(
        "root:x:0:\naudio:x:29:alice\nvideo:x:44:alice\nalice:x:1000:\nstaff:x:50:\n"
    )
    return directory


def overlay_rootfs(lower: Path, directory: Path) -> MakeRootfs:
    """A maker of writable roots over one read-only `lower`; what containers write goes below `directory`."""

    def make(prepare: Callable[[Path], None] | None = None) -> int:
        here = directory / secrets.token_hex(4)
        for name in ("upper", "work"):
            (here / name).mkdir(parents=True)
        if prepare is not None:
            prepare(here / "upper")
        return mounts.overlay([lower], here / "upper", here / "work")

    return make


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a container ended: exit code as `os.waitstatus_to_exitcode` has it (negative: a signal)."""

    code: int
    stdout: bytes
    stderr: bytes = b""


@dataclass(slots=True, kw_only=True)
class Box:
    """A process that the played keeper started, with the keeper's ends of its streams."""

    started: Started
    command: Command
    rootfs: int | None
    stdin: int | None = None
    outputs: dict[int, bytearray] = field(default_factory=dict)
    stdout: int | None = None
    stderr: int | None = None
    code: int | None = None

    @property
    def state(self) -> State:
        return self.started.state

    @property
    def pid(self) -> int:
        return self.started.pid

    @property
    def console(self) -> int:
        assert self.started.console is not None
        return self.started.console


class PlayedKeeper:
    """Plays the keeper for several containers at once, and leaves nothing behind, whatever a test did."""

    def __init__(self, driver: Driver, rootfs: MakeRootfs) -> None:
        self.driver = driver
        self.rootfs = rootfs
        self.parent = f"/wherry-test-{secrets.token_hex(4)}"
        self.boxes: list[Box] = []

    def __enter__(self) -> PlayedKeeper:
        processes.set_subreaper(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for box in self.boxes:
            if box.rootfs is not None and box.code is None:
                self.driver.kill(box.state, signal.SIGKILL, True)
        # Execs first: process 1 of a pid namespace ends only when all others there were reaped.
        for box in sorted(self.boxes, key=lambda box: box.rootfs is not None):
            self.end(box)
        for each in (self.parent + "/containers", self.parent):
            cgroups.remove_empty(each)
        processes.set_subreaper(False)

    # ---- commands --------------------------------------------------------------------------------------------------
    def process(self, *argv: str, **changes: Any) -> Process:
        """A process as Docker's defaults make it."""
        return replace(Process(argv=argv, env=(PATH,), capabilities=DEFAULT_CAPABILITIES), **changes)

    def command(
        self, *argv: str, root: int | None = None, process: Process | None = None, **changes: Any
    ) -> Command:
        """A command as Docker's defaults make it; `root` is the rootfs descriptor, a new one by default."""
        name = secrets.token_hex(32)
        plain = Command(
            id=name,
            rootfs=self.rootfs() if root is None else root,
            process=self.process(*argv) if process is None else process,
            hostname=name[:12],
            mounts=MOUNTS,
            device_rules=RULES,
            masked_paths=MASKED,
            readonly_paths=READONLY,
            cgroup=f"{self.parent}/containers/{name}",
            namespaces=Namespaces(net=Namespace(kind="own")),
        )
        return replace(plain, **changes)

    # ---- running ---------------------------------------------------------------------------------------------------
    def prepare(self, command: Command) -> Box:
        """Start up to the barrier."""
        try:
            box = self._streams(command.process, lambda stdio: self.driver.start(command, stdio), command)
        except BaseException:
            os.close(command.rootfs)
            raise
        self.boxes.append(box)
        return box

    def start(self, *argv: str, **changes: Any) -> Box:
        """A running container."""
        box = self.prepare(self.command(*argv, **changes))
        try:
            box.started.release()
        except BaseException:
            self.end(box)
            raise
        return box

    def run(self, *argv: str, stdin: bytes = b"", **changes: Any) -> Result:
        """A container from start to end."""
        return self.finish(self.start(*argv, **changes), stdin)

    def shell(self, script: str, **changes: Any) -> Result:
        """`sh -c script`."""
        return self.run("sh", "-c", script, **changes)

    def prepare_exec(self, box: Box, process: Process) -> Box:
        inner = self._streams(process, lambda stdio: self.driver.exec(box.state, process, stdio), box.command)
        self.boxes.append(inner)
        return inner

    def exec(self, box: Box, *argv: str, stdin: bytes = b"", **changes: Any) -> Result:
        """Another process in a container, from start to end."""
        inner = self.prepare_exec(box, self.process(*argv, **changes))
        try:
            inner.started.release()
        except BaseException:
            self._wait(inner)
            self._close(inner)
            raise
        return self.finish(inner, stdin)

    def finish(self, box: Box, stdin: bytes = b"") -> Result:
        """Feed it, read all that it writes, wait for its end; a container is cleaned up."""
        if box.stdin is not None:
            if stdin:
                os.write(box.stdin, stdin)
            os.close(box.stdin)
            box.stdin = None
        elif stdin:
            os.write(box.console, stdin)
        self._read_all(box)
        code = self._wait(box)
        result = Result(code=code, stdout=self.written(box, 1), stderr=self.written(box, 2))
        self.end(box)
        return result

    def read_until(self, box: Box, words: bytes) -> bytes:
        """Read until these words came on its stdout (or terminal). AssertionError at the deadline, with what came."""
        deadline = time.monotonic() + DEADLINE
        while words not in self.written(box, 1):
            assert self._read_some(box, deadline), f"no {words!r} in {box.outputs}"
        return self.written(box, 1)

    def end(self, box: Box) -> None:
        """Kill what still runs, reap it, give everything back."""
        if box.code is None:
            if box.rootfs is None:
                try:
                    os.kill(box.started.watch, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            else:
                self.driver.kill(box.state, signal.SIGKILL, True)
            self._wait(box)
        self._close(box)
        if box.rootfs is not None:
            self.driver.clean(box.state)
            os.close(box.rootfs)
            box.rootfs = None

    def written(self, box: Box, number: int) -> bytes:
        """What was read so far of stdout (1; a terminal's output too) or stderr (2)."""
        return bytes(box.outputs.get(number, b""))

    # ---- parts -----------------------------------------------------------------------------------------------------
    def _streams(self, process: Process, act: Callable[[Stdio], Started], command: Command) -> Box:
        rootfs = command.rootfs if process is command.process else None
        if process.tty:
            started = act(Stdio())
            return Box(started=started, command=command, rootfs=rootfs, stdout=started.console)
        pairs = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        try:
            started = act(Stdio(stdin=pairs[0][0], stdout=pairs[1][1], stderr=pairs[2][1]))
        except BaseException:
            for pair in pairs:
                for fd in pair:
                    os.close(fd)
            raise
        for fd in (pairs[0][0], pairs[1][1], pairs[2][1]):
            os.close(fd)
        return Box(
            started=started,
            command=command,
            rootfs=rootfs,
            stdin=pairs[0][1],
            stdout=pairs[1][0],
            stderr=pairs[2][0],
        )

    def _read_all(self, box: Box) -> None:
        deadline = time.monotonic() + DEADLINE
        while self._read_some(box, deadline):
            pass

    def _read_some(self, box: Box, deadline: float) -> bool:
        """One read of whatever is ready. False: all streams have ended."""
        open_now = {fd: number for fd, number in ((box.stdout, 1), (box.stderr, 2)) if fd is not None}
        if not open_now:
            return False
        ready, _, _ = select.select(list(open_now), [], [], max(deadline - time.monotonic(), 0))
        assert ready, f"the container wrote {box.outputs} and then nothing until the deadline"
        for fd in ready:
            number = open_now[fd]
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b""  # EIO: nobody has the terminal's other side open
            if data:
                box.outputs.setdefault(number, bytearray()).extend(data)
            elif number == 1:
                box.stdout = None
                self._done(box, fd)
            else:
                box.stderr = None
                self._done(box, fd)
        return True

    def _done(self, box: Box, fd: int) -> None:
        if fd != box.started.console:
            os.close(fd)

    def _wait(self, box: Box) -> int:
        """Its exit code, within the deadline."""
        if box.code is None:
            deadline = time.monotonic() + DEADLINE
            fd = os.pidfd_open(box.started.watch)
            try:
                assert select.select([fd], [], [], deadline - time.monotonic())[0], "the process does not end"
            finally:
                os.close(fd)
            box.code = os.waitstatus_to_exitcode(os.waitpid(box.started.watch, 0)[1])
        return box.code

    def _close(self, box: Box) -> None:
        for fd in {box.stdin, box.stdout, box.stderr, box.started.console} - {None}:
            assert fd is not None
            os.close(fd)
        box.stdin = box.stdout = box.stderr = None
        box.started = replace(box.started, console=None)


# ---- what is left behind -------------------------------------------------------------------------------------------
def descriptors() -> dict[int, str]:
    """This process's open descriptors."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # the listing's own
    return found


def children() -> list[int]:
    """This process's children, zombies too."""
    return [int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]


def poll(condition: Callable[[], bool], what: str, timeout: float = DEADLINE) -> None:
    """Wait until `condition` holds. AssertionError, saying `what`, at the deadline."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, what
        select.select([], [], [], 0.005)


def cgroups_below(path: str) -> Sequence[str]:
    """Containers' cgroups that exist below a parent."""
    return [name for name in cgroups.children(path) if len(name) == 64]


def lines(data: bytes) -> Iterator[str]:
    """Output as text, line by line."""
    yield from data.decode(errors="replace").replace("\r\n", "\n").splitlines()
