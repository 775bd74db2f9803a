"""The line between the keeper and what becomes a process of the container: one socket, one message each.

builder or wherry-init                         keeper
    D (flags) + descriptors ─────────────────▶           a builder's: its devpts, the terminal's master
    J (an error of ours, as JSON) ───────────▶           a builder failed
    W, E (step, errno) ──────────────────────▶           wherry-init warns, or failed
    H, P (pid) ──────────────────────────────▶           one more helper to wait for; the process
    R ───────────────────────────────────────▶           it is at its barrier
                                      ◀────── G          go
    E, or the end of the line ───────────────▶           it could not be executed, or it runs
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Final

from wherry.errors import (
    CommandNotExecutable,
    CommandNotFound,
    StartFailed,
    Unavailable,
    WherryError,
    from_wire,
    to_wire,
)
from wherry.linux import limits
from wherry.linux.cgroups import Entrance

_REPORT: Final = struct.Struct("=IiIi")
_LARGEST: Final = 65536
TERMINAL: Final = 1
DEVPTS: Final = 2
"""Flags of D: which descriptors come along, in this order."""

_STEPS: Final = {
    1: "wherry-init cannot read what it was told",
    2: "cannot enter the cgroup",
    3: "cannot make a cgroup namespace",
    4: "cannot join the container's namespaces",
    5: "cannot set a resource limit",
    6: "cannot set oom_score_adj",
    7: "cannot set the security label",
    8: "cannot make the process",
    9: "cannot mount /proc",
    10: "cannot attach a mount below /proc",
    11: "cannot mask a path",
    12: "cannot make a path read-only",
    13: "cannot set up stdin, stdout and stderr",
    14: "cannot begin a session",
    15: "cannot take the terminal",
    16: "cannot change to the working directory",
    17: "cannot drop capabilities from the bounding set",
    18: "cannot set supplementary groups",
    19: "cannot set user and group",
    20: "cannot set no-new-privileges",
    21: "cannot set the seccomp filter",
    22: "cannot set capabilities",
    23: "the working directory is outside of the container",
    24: "cannot execute",
    25: "cannot make a session keyring; the container shares the launcher's, which is empty",
    26: "cannot have the scheduling of the kernel's default",
    27: "cannot reset securebits; set-user-id programs may not work",
}
"""`enum step` of wherry-init.c, as sentences."""
_LIMIT: Final = 5
_LABEL: Final = 7
_CWD: Final = 16
_EXECUTE: Final = 24


@dataclass(slots=True)
class Line:
    """The keeper's end, and what was heard on it so far."""

    socket: socket.socket
    argument: str
    """The program's name, for messages."""
    cwd: str
    searched: bool
    label: str = ""
    """Of AppArmor or SELinux, for messages."""
    pid: int | None = None
    helpers: list[int] = field(default_factory=list)
    ready: bool = False
    terminal: int | None = None
    devpts: int | None = None
    warnings: list[str] = field(default_factory=list)

    def until_ready(self, timeout: float | None = None) -> None:
        """Listen until a process is at its barrier. Raises what went wrong; Unavailable after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (self.ready and self.pid is not None):
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                    raise Unavailable(f"no process within {timeout:g} s; the container does not answer")
            if not self._hear():
                raise StartFailed("the container's first process ended before it could be started")

    def go(self) -> None:
        """Open the barrier; returns when the program runs. CommandNotFound, CommandNotExecutable: it does not."""
        try:
            self.socket.send(b"G")
        except (BrokenPipeError, ConnectionResetError):
            raise StartFailed("the container's first process ended before it was told to go") from None
        try:
            while self._hear():
                pass
        finally:
            self.socket.close()

    def drain(self, timeout: float | None = None) -> bool:
        """After a failure: say no more, and hear who else is to be waited for. False: not silent after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # nobody is there
        while True:
            if deadline is not None:
                left = max(deadline - time.monotonic(), 0)
                if not select.select([self.socket], [], [], left)[0]:
                    return False
            try:
                if not self._hear():
                    return True
            except WherryError:
                continue  # the first error is the one to tell

    def _hear(self) -> bool:
        """Take one message; False at the end of the line."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, _LARGEST, 2)
        except ConnectionResetError:
            return False
        if not data:
            return False
        kind = data[:1]
        if kind == b"D":
            self._take(data[1], descriptors)
        elif kind == b"J":
            raise from_wire(json.loads(data[1:]))
        else:
            self._report(*_REPORT.unpack(data))
        return True

    def _take(self, flags: int, descriptors: list[int]) -> None:
        if flags & TERMINAL:
            self.terminal = descriptors.pop(0)
        if flags & DEVPTS:
            self.devpts = descriptors.pop(0)

    def _report(self, kind: int, number: int, step: int, value: int) -> None:
        letter = chr(kind)
        if letter == "H":
            self.helpers.append(value)
        elif letter == "P":
            self.pid = value
        elif letter == "R":
            self.ready = True
        elif letter == "W":
            what = _STEPS.get(step, "wherry-init")
            if step == _LIMIT:
                what = f"cannot raise the limit {limits.NAMES.get(value, value)} that far"
            self.warnings.append(f"{what}: {os.strerror(number)}")
        elif step == _LABEL:
            raise StartFailed(
                f'unable to start container process: cannot apply the security label "{self.label}": '
                f"{os.strerror(number).lower()}; is that profile loaded?"
            )
        else:
            raise failure(number, step, bool(value), self.argument, self.cwd, self.searched)


def failure(number: int, step: int, exists: bool, argument: str, cwd: str, searched: bool) -> StartFailed:
    """The error for a step of wherry-init that failed. Docker's clients match some of the words."""
    words = os.strerror(number).lower() if number else "failed"
    if step == _CWD:
        text = f'unable to start container process: chdir to cwd ("{cwd}") failed: {words}'
        return (
            CommandNotFound(text) if number in (errno.ENOENT, errno.ENOTDIR) else CommandNotExecutable(text)
        )
    if step != _EXECUTE:
        return StartFailed(f"unable to start container process: {_STEPS.get(step, f'step {step}')}: {words}")
    prefix = f'unable to start container process: exec: "{argument}": '
    if number == errno.ENOENT and searched and not exists:
        return CommandNotFound(f"{prefix}executable file not found in $PATH")
    if number in (errno.ENOENT, errno.ENOTDIR):
        # The file is there, and what its first line or its header names is not.
        what = words if exists else f"stat {argument}: {words}"
        return CommandNotFound(prefix + what)
    return CommandNotExecutable(prefix + words)


# ---- the other end, while it is still Python -----------------------------------------------------------------------
def tell_error(end: socket.socket, error: BaseException) -> None:
    """Say why there will be no process."""
    wire = to_wire(error)
    wire["message"] = wire["message"][: _LARGEST // 8]
    end.send(b"J" + json.dumps(wire).encode())


@dataclass(frozen=True, slots=True)
class Means:
    """What a builder needs for its last steps: the program to execute, and the ways into the cgroup."""

    program: int
    entrance: Entrance


def send_means(keepers_end: socket.socket, means: Means) -> None:
    """Hand a builder its means: the keeper makes them while the builder makes namespaces."""
    into = [] if means.entrance.into is None else [means.entrance.into]
    flags = bytes([ord("C"), len(into)])
    socket.send_fds(keepers_end, [flags], [means.program, *into, *means.entrance.tasks])


def receive_means(end: socket.socket) -> Means:
    """Wait for the keeper's word that the cgroup is there. The descriptors are this process's."""
    data, descriptors, _, _ = socket.recv_fds(end, 2, 64)
    if not data:
        raise StartFailed("the start was given up")
    program, *rest = descriptors
    into = rest.pop(0) if data[1] else None
    return Means(program, Entrance(tasks=tuple(rest), into=into))


def tell_descriptors(end: socket.socket, terminal: int | None, devpts: int | None) -> None:
    """Hand the keeper what only a builder could open."""
    flags = (TERMINAL if terminal is not None else 0) | (DEVPTS if devpts is not None else 0)
    socket.send_fds(end, [bytes([ord("D"), flags])], [fd for fd in (terminal, devpts) if fd is not None])
