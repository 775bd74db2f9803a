"""What an exec driver is: it turns a `Command` into a process, and knows that process's cgroup.

Two halves, in two processes. `start` and `exec` are called in the container's *keeper*: single-threaded, warm, forked
for this container, and the parent (by subreaping) of what they make. All else is called in the *daemon*, as a function
of `state` and the kernel, so that it works while the keeper is frozen, dead or of another version.

The life of a container, as a driver sees it:

    keeper                                   daemon
    start(command, stdio) ─▶ Started         (state is recorded)
    started.release()        the barrier opens, the program runs
    exec(state, process, stdio) ─▶ Started   pids(state), stats(state), pause, unpause, update
    (waits for started.watch)                kill(state, signal)
                                             clean(state)

A driver class is called with those of `root`, `options`, `services` that its signature names:
`root: pathlib.Path`, a directory of its own below the exec root (a tmpfs, void at a new boot); `options`: an instance
of the class attribute `Options` (a dataclass) if it has one; `services: wherry.spec.services.Services`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from wherry.spec.command import Command, Process, Resources
from wherry.spec.markers import hookspec

SPEC = (1, 0)

State: TypeAlias = Mapping[str, Any]
"""A small JSON value that a driver finds its container by again: pid, start time, cgroup, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stdio:
    """The process's side of its streams, as open descriptors; the keeper closes them after `start` or `exec`.

    Without a terminal all three are given. With one (`Process.tty`) all are None: the driver opens a terminal from
    the container's own devpts and answers with its master as `Started.console`.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A process that is made and waits at its barrier.

    `pid` is process 1's in the host's pid namespace; `watch` the child of the keeper whose exit status is the
    container's (often the same). `state` is stored with the container. `release` opens the barrier and returns when
    the program has been executed; it raises CommandNotFound or CommandNotExecutable where it could not be, after which
    `watch` ends by itself. `console` is the terminal's master, the keeper's to close.
    """

    pid: int
    watch: int
    state: State
    release: Callable[[], None]
    console: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counters of a cgroup. Times in nanoseconds, sizes in bytes; raw tables keep the kernel's own words."""

    cpu_total: int = 0
    cpu_user: int = 0
    cpu_system: int = 0
    cpu_per_core: tuple[int, ...] = ()
    cpu_throttling: Mapping[str, int] = dataclasses.field(default_factory=dict)
    memory_usage: int = 0
    memory_max: int = 0
    memory_limit: int = 0
    memory_failures: int = 0
    memory_raw: Mapping[str, int] = dataclasses.field(default_factory=dict)
    pids_current: int = 0
    pids_limit: int = 0
    blkio: Mapping[str, tuple[tuple[int, int, str, int], ...]] = dataclasses.field(default_factory=dict)
    """`io_service_bytes_recursive`, … → (major, minor, operation, value)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OomWatch:
    """A descriptor that polls as readable, or with EPOLLPRI, when memory ran out; reading it from its start quiets it."""

    descriptor: int
    certain: bool
    """Whether each wake says that memory ran out; if not, only that `oom_killed` may have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecCapabilities:
    """What this driver can do, as data: the engine turns a lack into a refusal when a container is created."""

    tty: bool = True
    pause: bool = True
    update: bool = True
    exec: bool = True
    init: bool = True
    privileged: bool = True
    user_namespaces: bool = False
    seccomp: bool = True
    shared_pid: bool = True
    shared_ipc: bool = True


class ExecSpec:
    """The hooks of an exec driver. All are required but those that say otherwise."""

    @hookspec(firstresult=True)
    def start(self, command: Command, stdio: Stdio) -> Started:
        """Make the container's cgroup, namespaces, mounts and process 1, waiting at its barrier. In the keeper.

        On an error nothing is left behind: no cgroup, no process. May block. Raises StartFailed and its kin.
        Since 1.0. Source: reference `populateCommand`, `waitForStart`.
        """

    @hookspec(firstresult=True)
    def exec(self, state: State, process: Process, stdio: Stdio) -> Started:
        """Make another process in a running container, waiting at its barrier. In the keeper; must not block.

        The `state` of what it returns is not stored with the container. Since 1.0.
        """

    @hookspec(firstresult=True)
    def kill(self, state: State, signal: int, everyone: bool) -> bool:
        """Send `signal` to process 1, or with `everyone` SIGKILL to all in the cgroup until it is empty (bounded).

        Answers whether anything was there to kill; what is gone is no error. Frozen containers are killed as well.
        In the daemon. Since 1.0.
        """

    @hookspec(firstresult=True)
    def pause(self, state: State) -> None:
        """Freeze every process. Idempotent. Since 1.0."""

    @hookspec(firstresult=True)
    def unpause(self, state: State) -> None:
        """Thaw. Idempotent. Since 1.0."""

    @hookspec(firstresult=True)
    def pids(self, state: State) -> list[int]:
        """Host pids of every process in the container; empty when it is gone. Since 1.0."""

    @hookspec(firstresult=True)
    def stats(self, state: State) -> Stats:
        """The cgroup's counters now. Raises NotFound when it is gone. Since 1.0."""

    @hookspec(firstresult=True)
    def update(self, state: State, resources: Resources) -> None:
        """Apply new limits: a field that is None stays as it is. All or nothing as far as the kernel lets. Since 1.0."""

    @hookspec(firstresult=True)
    def oom_killed(self, state: State) -> int:
        """How many processes of this container, execs too, the kernel killed for lack of memory. Since 1.0."""

    @hookspec(firstresult=True)
    def oom_watch(self, state: State) -> OomWatch | None:
        """Notice when memory runs out, so that it is told at once. In the keeper, which closes the descriptor.

        Optional. Without it the engine asks `oom_killed` when the container has ended. Since 1.0.
        """

    @hookspec(firstresult=True)
    def clean(self, state: State) -> None:
        """Remove what `start` made outside the processes: cgroups. After the end of the container; idempotent. Since 1.0."""

    @hookspec(firstresult=True)
    def owned(self) -> list[str]:
        """Ids of containers of which anything of this driver (a cgroup) exists under this engine's cgroup parent. Since 1.0."""

    @hookspec(firstresult=True)
    def warm(self) -> None:
        """Import and prepare what `start` will need; called once in the launcher before it forks. Since 1.0."""

    @hookspec(firstresult=True)
    def info(self) -> Mapping[str, str]:
        """Facts for `docker info`: driver version, cgroup version. Since 1.0."""

    @hookspec(firstresult=True)
    def capabilities(self) -> ExecCapabilities:
        """What this driver can do. Since 1.0."""
