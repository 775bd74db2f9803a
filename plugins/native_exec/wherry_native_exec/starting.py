"""How a container comes to be, seen from its keeper: cgroup, builder, process 1 at its barrier; and how none of it is left."""

from __future__ import annotations

import gc
import os
import signal
import socket
from contextlib import ExitStack

from wherry.errors import Conflict, InvalidRequest, StartFailed
from wherry.linux import cgroups, processes
from wherry.spec.command import Command
from wherry.spec.exec import Started, Stdio
from wherry_native_exec import builder, program
from wherry_native_exec.filters import Filters, allows_clone
from wherry_native_exec.joining import Held, reap, usable_capabilities
from wherry_native_exec.line import Line


def start(command: Command, stdio: Stdio, filters: Filters) -> tuple[Started, Held, list[str]]:
    """Make a container up to its barrier: (what the keeper gets, what later execs need, warnings)."""
    chosen = filters.of(command.process)
    group = cgroups.at(command.cgroup)
    with ExitStack() as undo:
        undo.callback(_remove, group)
        _create(group)
        warnings = _limit(group, command)
        line, pid = _spawn(command, stdio, group, chosen, undo)
        held = Held(
            command=command,
            root=os.dup(command.rootfs),
            devpts=line.devpts,
            process=os.pidfd_open(pid),
        )
        state = {
            "id": command.id,
            "pid": pid,
            "start_time": processes.start_time(pid),
            "boot_id": processes.boot_id(),
            "cgroup": group.path,
        }
        undo.pop_all()
    started = Started(pid=pid, watch=pid, state=state, release=line.go, console=line.terminal)
    return started, held, warnings + line.warnings


def _create(group: cgroups.Cgroup) -> None:
    try:
        try:
            group.create()
        except FileExistsError:
            if group.pids():
                raise Conflict(f"the cgroup {group.path} is in use by running processes") from None
            group.remove()  # left by a start that was cut off
            group.create()
    except OSError as error:
        raise StartFailed(f"cannot make the cgroup {group.path}: {error}") from error


def _limit(group: cgroups.Cgroup, command: Command) -> list[str]:
    try:
        missing = group.limit(command.resources)
        if command.device_rules or not command.process.privileged:
            group.allow_devices(command.device_rules)
    except OSError as error:
        raise InvalidRequest(f"the kernel refuses a limit of the container: {error}") from error
    return [f"this kernel has no {file}; that limit is not applied" for file in missing]


def _spawn(
    command: Command, stdio: Stdio, group: cgroups.Cgroup, chosen: bytes, undo: ExitStack
) -> tuple[Line, int]:
    """Fork the builder and wait for process 1. On an error all that was forked is dead and reaped."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line = Line(ours, command.process.argv[0], command.process.cwd, "/" not in command.process.argv[0])
    entrance = group.entrance()
    program_fd = program.sealed()
    plan = builder.Plan(
        command=command,
        stdio=stdio,
        group=group,
        entrance=entrance,
        program=program_fd,
        filter=chosen,
        may_clone=allows_clone(chosen),
        usable=usable_capabilities(),
        keeper=os.getpid(),
    )
    try:
        child = os.fork()
        if child == 0:
            gc.disable()
            builder.run(plan, theirs)
    finally:
        theirs.close()
        entrance.close()
        os.close(program_fd)
    undo.callback(ours.close)
    try:
        line.until_ready()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        group.kill()
        line.drain()
        for fd in (line.terminal, line.devpts):
            if fd is not None:
                os.close(fd)
        reap([child, *line.helpers, *([line.pid] if line.pid is not None else [])])
        raise
    reap([child, *line.helpers])
    assert line.pid is not None
    return line, line.pid


def _remove(group: cgroups.Cgroup) -> None:
    group.kill()
    group.remove()
