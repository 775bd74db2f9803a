"""How a container comes to be, seen from its keeper: cgroup, builder, process 1 at its barrier; and how none of it is left."""

from __future__ import annotations

import gc
import os
from contextlib import ExitStack
from functools import partial
from typing import Final

from wherry.errors import Conflict, InvalidRequest, StartFailed
from wherry.linux import cgroups, processes
from wherry.spec.command import Command
from wherry.spec.exec import Started, Stdio
from wherry_native_exec import builder, program
from wherry_native_exec.blob import Flag
from wherry_native_exec.filters import Filters
from wherry_native_exec.joining import Held, end_all, reap, usable_capabilities
from wherry_native_exec.line import Line, Means, pair, send_means
from wherry_native_exec.neighbours import refuse_tracers

_TIMEOUT: Final = 10.0
"""Seconds from the barrier until the program runs: it may come from a slow disk."""


def start(command: Command, stdio: Stdio, filters: Filters, flags: Flag) -> tuple[Started, Held, list[str]]:
    """Make a container up to its barrier: (what the keeper gets, what later execs need, warnings)."""
    joined = command.namespaces.pid.descriptor
    if joined is not None:
        refuse_tracers(joined)
    chosen = filters.of(command.process)
    group = cgroups.at(command.cgroup)
    ours, theirs = pair()
    plan = builder.Plan(
        command=command,
        stdio=stdio,
        group=group,
        filter=chosen,
        flags=flags,
        usable=usable_capabilities(),
        keeper=os.getpid(),
    )
    child = os.fork()
    if child == 0:
        gc.disable()
        ours.close()
        builder.run(plan, theirs)
    theirs.close()
    argument = command.process.argv[0]
    line = Line(ours, argument, command.process.cwd, "/" not in argument, "the container's first process")
    line.label = command.process.apparmor or command.process.selinux_label
    line.helpers.append(child)
    with ExitStack() as undo:
        undo.callback(ours.close)
        # Undone last: a builder that still lived could come into a cgroup while it is being removed.
        undo_cgroup = undo.enter_context(ExitStack())
        undo.callback(_end, line)
        _create(group)
        undo_cgroup.callback(_remove, group)
        # The builder makes its namespaces meanwhile.
        _limit(group, command)
        _send_means(line, group)
        line.until_ready()
        reap(line)
        assert line.pid is not None
        held = Held(
            command=command,
            root=os.dup(command.rootfs),
            devpts=line.devpts,
            mounts=line.mounts,
            process=os.pidfd_open(line.pid),
        )
        state = {
            "id": command.id,
            "pid": line.pid,
            "start_time": processes.start_time(line.pid),
            "boot_id": processes.boot_id(),
            "cgroup": group.path,
        }
        undo.pop_all()
    release = partial(line.go, _TIMEOUT)
    started = Started(pid=line.pid, watch=line.pid, state=state, release=release, console=line.terminal)
    return started, held, line.warnings


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


def _limit(group: cgroups.Cgroup, command: Command) -> None:
    for rule in command.device_rules:
        if not rule.access or set(rule.access) - set("rwm"):
            raise InvalidRequest(f'"{rule.access}" is no access to a device: it is made of r, w and m')
    try:
        group.limit(command.resources)
        if command.device_rules or not command.process.privileged:
            group.allow_devices(command.device_rules)
    except OSError as error:
        raise InvalidRequest(f"the kernel refuses a limit of the container: {refusal(error)}") from error


def refusal(error: OSError) -> str:
    """Which file of a cgroup was refused what, without the cgroup's long path."""
    name = os.path.basename(str(error.filename or ""))
    return f"{name}: {error.strerror}" if name else str(error)


def _send_means(line: Line, group: cgroups.Cgroup) -> None:
    entrance = group.entrance()
    try:
        executable = program.sealed()
        try:
            send_means(line.socket, Means(executable, entrance))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the builder failed; why, is on the line
        finally:
            os.close(executable)
    finally:
        entrance.close()


def _end(line: Line) -> None:
    """Kill and reap whoever is on the other end of the line."""
    end_all(line)
    for fd in (line.terminal, line.devpts, line.mounts):
        if fd is not None:
            os.close(fd)


def _remove(group: cgroups.Cgroup) -> None:
    group.kill()
    group.remove()
