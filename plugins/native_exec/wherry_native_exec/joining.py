"""Another process in a running container: wherry-init, spawned by the keeper, goes in with nothing to give away."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from wherry.errors import Conflict, InvalidRequest
from wherry.linux import capabilities, cgroups, namespaces, processes, terminal
from wherry.spec.command import Command, Process
from wherry.spec.exec import Started, State, Stdio
from wherry_native_exec import builder, owners, program, users
from wherry_native_exec.blob import EVERYTHING, Blob, Flag, Mode
from wherry_native_exec.filters import Filters
from wherry_native_exec.line import Line, pair

_TIMEOUT: Final = 5.0
"""Seconds in which wherry-init is there, and again until the program runs. A keeper does nothing else meanwhile, so that
a container which stops who comes in stops its own output. It takes one or two milliseconds."""
_ENDING: Final = 1.0
"""Seconds in which what was killed has ended. In a frozen cgroup it cannot, and does so later."""


@dataclass(slots=True, kw_only=True)
class Held:
    """What the keeper keeps of a container for execs to come. Descriptors are its own."""

    command: Command
    root: int
    """The root directory, with the container's mounts on it."""
    devpts: int | None
    process: int
    """A pidfd of process 1."""
    mounts: int | None = None
    """The mount namespace that `root` and `devpts` are in, where process 1 lives in a copy of it."""

    def close(self) -> None:
        for fd in (self.root, self.devpts, self.process, self.mounts):
            if fd is not None:
                os.close(fd)


def join(
    held: Held, state: State, process: Process, stdio: Stdio, filters: Filters, flags: Flag
) -> tuple[Started, list[str]]:
    """Make a process in the container, up to its barrier: (what the keeper gets, warnings)."""
    if not process.argv or not process.argv[0]:
        raise InvalidRequest("No exec command specified")
    pid = int(state["pid"])
    group = cgroups.at(str(state["cgroup"]))
    if not processes.is_alive(pid, int(state["start_time"])):
        raise Conflict(f"container {str(state['id'])[:12]} is not running")
    if group.is_frozen():
        raise Conflict(f"Container {state['id']!s} is paused, unpause the container before exec")
    chosen = filters.of(process)
    identity = users.look_up(held.root, process.user, process.groups)
    maps = held.command.namespaces.id_maps if held.command.namespaces.user.kind != "host" else None
    with ExitStack() as undo, ExitStack() as always:
        master = None
        if process.tty:
            if held.devpts is None:
                raise Conflict("a terminal was asked for, and the container has no devpts mount")
            master, slave = terminal.open_pair(held.devpts)
            undo.callback(os.close, master)
            always.callback(os.close, slave)
            if process.console_size is not None:
                terminal.set_size(master, *process.console_size)
            streams = (slave, slave, slave)
        else:
            streams = builder.plain_streams(stdio)
        ours, theirs = pair()
        undo.callback(ours.close)
        always.callback(theirs.close)
        entrance = group.entrance_of(pid)
        always.callback(entrance.close)
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        always.callback(os.close, proc)
        blob = Blob(
            mode=Mode.EXEC,
            flags=flags,
            control=theirs.fileno(),
            streams=streams,
            proc=proc,
            target=held.process,
            join=_namespaces(held.command),
            tasks=entrance.tasks,
            into=-1 if entrance.into is None else entrance.into,
            owner=owners.check(maps, identity),
            filter=chosen,
            extra_environment=builder.extra_environment(process.env, identity),
            usable=usable_capabilities() if maps is None else EVERYTHING,
        )
        packed = builder.pack_to_memory(blob.pack(process, identity))
        always.callback(os.close, packed)
        executable = program.sealed()
        always.callback(os.close, executable)
        line = Line(ours, process.argv[0], process.cwd, "/" not in process.argv[0], "the process")
        line.label = process.apparmor or process.selinux_label
        line.helpers.append(_spawn(executable, packed, blob))
        theirs.close()  # or the end of the line would never be heard
        _wait(line)
        undo.pop_all()
    assert line.pid is not None
    # The exec's state is its own: the container's cgroup, and this process's number.
    own = {**state, "pid": line.pid, "start_time": processes.start_time(line.pid)}
    release = partial(line.go, _TIMEOUT)
    started = Started(pid=line.pid, watch=line.pid, state=own, release=release, console=master)
    return started, line.warnings


def _spawn(executable: int, packed: int, blob: Blob) -> int:
    # A duplicate onto itself is how a descriptor is inherited by this child and by no other.
    actions = [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (packed, *builder.inherited(blob))]
    return os.posix_spawn(
        f"/proc/self/fd/{executable}", ["wherry-init"], {"W": str(packed)}, file_actions=actions
    )


def _wait(line: Line) -> None:
    """Until the process is at its barrier. On an error all that was made is dead and reaped."""
    try:
        line.until_ready(_TIMEOUT)
    except BaseException:
        end_all(line)
        raise
    reap(line)


def _namespaces(command: Command) -> int:
    """Flags of those that the container does not share with the host."""
    flags = namespaces.CLONE_NEWNS
    for kind in ("net", "ipc", "pid", "uts", "cgroup", "user"):
        if getattr(command.namespaces, kind).kind != "host":
            flags |= namespaces.FLAGS[kind]
    return flags


def end_all(line: Line) -> None:
    """End all children that the line names or will name, and reap them, as far as they can die now."""
    _kill(line)
    line.drain(_ENDING)
    _kill(line)  # who was named last
    if line.pid is not None:
        line.helpers.append(line.pid)
    reap(line)


def _kill(line: Line) -> None:
    for pid in (*line.helpers, *([] if line.pid is None else [line.pid])):
        os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is nobody else's


def reap(line: Line) -> None:
    """Wait for the helpers, which end by themselves or were killed.

    One that cannot end now, in a frozen cgroup, is left to the keeper, which reaps all its children.
    """
    deadline = time.monotonic() + _ENDING
    for pid in line.helpers:
        try:
            while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
                processes.wait(pid, deadline - time.monotonic())
        except ChildProcessError:
            pass  # somebody else reaped it
    line.helpers.clear()


@lru_cache(maxsize=1)
def usable_capabilities() -> int:
    """What this process could hand on."""
    return capabilities.of("self", "Prm")
