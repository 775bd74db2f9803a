"""`NativeExec`: the exec driver `native`. One object in the daemon and, forked with the launcher, one in each keeper."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal as signals
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wherry.errors import Conflict, InvalidRequest, NotFound, Unavailable
from wherry.linux import capabilities, cgroups, processes
from wherry.spec import hookimpl
from wherry.spec.command import Command, Process, Resources
from wherry.spec.exec import ExecCapabilities, OomWatch, Started, State, Stats, Stdio
from wherry.spec.services import Services
from wherry_native_exec import program
from wherry_native_exec.blob import Flag
from wherry_native_exec.filters import Filters
from wherry_native_exec.joining import Held, join
from wherry_native_exec.neighbours import procfs_is_made_from_outside
from wherry_native_exec.starting import refusal, start

_VERSION: Final = "0.1.0"
_KILL_TIMEOUT: Final = 10.0


class NativeExec:
    """Containers by the kernel's own calls. `root`: a directory of its own, for compiled seccomp filters."""

    SPEC = (1, 0)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Options:
        """The table `[exec.native]` of the configuration."""

        session_keyring: bool = True
        """Each process has a session keyring of its own. Off: all share one that is empty, and not the host's."""

    def __init__(self, root: Path, options: Options | None = None, services: Services | None = None) -> None:
        chosen = options or NativeExec.Options()
        self._flags = Flag(0) if chosen.session_keyring else Flag.SHARED_KEYRING
        self._filters = Filters(root / "seccomp")
        self._services = services
        self._held: dict[str, Held] = {}

    # ---- in the keeper ---------------------------------------------------------------------------------------------
    @hookimpl
    def start(self, command: Command, stdio: Stdio) -> Started:
        _refuse(command)
        started, held, warnings = start(command, stdio, self._filters, self._flags)
        self._held[command.id] = held
        self._warn(warnings, command.id)
        return started

    @hookimpl
    def exec(self, state: State, process: Process, stdio: Stdio) -> Started:
        held = self._held.get(str(state["id"]))
        if held is None:
            raise Unavailable("the container was not started by this keeper; nothing can be executed in it")
        started, warnings = join(held, state, process, stdio, self._filters, self._flags)
        self._warn(warnings, str(state["id"]))
        return started

    # ---- in the daemon ---------------------------------------------------------------------------------------------
    @hookimpl
    def kill(self, state: State, signal: int, everyone: bool) -> bool:
        group = _group(state)
        if everyone:
            # Process 1 by itself too: one that sees the host's cgroups may have left its own, and with it all end.
            first = _send(state, signals.SIGKILL)
            try:
                return group.kill(_KILL_TIMEOUT) or first
            except TimeoutError as error:
                raise Unavailable(str(error)) from error
        sent = _send(state, signal)
        if sent and signal == signals.SIGKILL and group.is_frozen():
            group.thaw()
        return sent

    @hookimpl
    def pause(self, state: State) -> None:
        try:
            _group(state).freeze()
        except FileNotFoundError as error:
            raise _gone(state) from error
        except TimeoutError as error:
            raise Unavailable(str(error)) from error

    @hookimpl
    def unpause(self, state: State) -> None:
        _group(state).thaw()

    @hookimpl
    def pids(self, state: State) -> list[int]:
        return _group(state).pids()

    @hookimpl
    def stats(self, state: State) -> Stats:
        try:
            found = _group(state).counters()
        except FileNotFoundError as error:
            raise _gone(state) from error
        return Stats(**{field.name: getattr(found, field.name) for field in dataclasses.fields(found)})

    @hookimpl
    def update(self, state: State, resources: Resources) -> None:
        group = _group(state)
        try:
            group.limit(resources, restore=True)
        except FileNotFoundError as error:
            raise _gone(state) from error
        except OSError as error:
            if error.errno == errno.EBUSY and resources.memory is not None:
                found = group.counters()
                raise Conflict(
                    f"unable to set memory limit to {resources.memory} (current usage: {found.memory_usage}, "
                    f"peak usage: {found.memory_max})"
                ) from error
            raise InvalidRequest(f"the kernel refuses the new limits: {refusal(error)}") from error

    @hookimpl
    def oom_killed(self, state: State) -> int:
        return _group(state).oom_kills()

    @hookimpl
    def oom_watch(self, state: State) -> OomWatch | None:
        group = _group(state)
        try:
            return OomWatch(descriptor=group.oom_notice(), certain=group.version == 1)
        except OSError:
            return None  # no memory controller here, or the cgroup is gone already

    @hookimpl
    def clean(self, state: State) -> None:
        held = self._held.pop(str(state["id"]), None)
        if held is not None:
            held.close()
        _group(state).remove()

    @hookimpl
    def owned(self) -> list[str]:
        return [] if self._services is None else cgroups.children(self._services.cgroup_parent)

    @hookimpl
    def warm(self) -> None:
        program.content()
        cgroups.hierarchies()
        processes.boot_id()
        capabilities.last()
        self._filters.warm()
        procfs_is_made_from_outside()

    @hookimpl
    def info(self) -> Mapping[str, str]:
        version = str(cgroups.hierarchies().version)
        return {"Version": _VERSION, "Cgroup Driver": "cgroupfs", "Cgroup Version": version}

    @hookimpl
    def capabilities(self) -> ExecCapabilities:
        return ExecCapabilities(user_namespaces=True)

    def _warn(self, warnings: Sequence[str], container: str) -> None:
        if self._services is not None:
            for warning in warnings:
                self._services.log.warning(warning, container=container)


def _refuse(command: Command) -> None:
    if command.namespaces.user.kind != "host" and command.namespaces.id_maps is None:
        raise InvalidRequest("a user namespace needs maps of ids")
    if not command.process.argv or not command.process.argv[0]:
        raise InvalidRequest("no command specified")


def _group(state: State) -> cgroups.Cgroup:
    return cgroups.at(str(state["cgroup"]))


def _gone(state: State) -> NotFound:
    return NotFound("container", str(state["id"]), f"container {str(state['id'])[:12]} is not running")


def _send(state: State, signal: int) -> bool:
    """Send process 1 a signal; False: it is gone."""
    fd = _open(state)
    if fd is None:
        return False
    try:
        processes.pidfd_send_signal(fd, signal)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def _open(state: State) -> int | None:
    """A descriptor of process 1, if it still is that process: by number, start time and boot."""
    if state["boot_id"] != processes.boot_id():
        return None
    pid = int(state["pid"])
    try:
        fd = processes.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if processes.is_alive(pid, int(state["start_time"])):
        return fd
    os.close(fd)
    return None
