"""The line between the keeper and what becomes a process of the container: one socket, one message each.

builder or wherry-init                         keeper
    D (flags) + descriptors ─────────────────▶           a builder's: its devpts, the terminal's master
    J (an error of ours, as JSON) ───────────▶           a builder failed
    W, E (step, errno) ──────────────────────▶           wherry-init warns, or failed
    H, P (pid) ──────────────────────────────▶           one more helper to wait for; the process
    R ───────────────────────────────────────▶           it is at its barrier
                                      ◀────── G          go
    E, or the end of the line ───────────────▶           it could not be executed, or it runs

Who speaks is told by the kernel (SCM_CREDENTIALS). Once the process is in a pid namespace where others live, somebody
there may stop it, or, allowed to trace, take its end of the line. So only helpers, which live in the host's, are heard
about pids, descriptors and errors of ours; a process is at the barrier when it says so itself; anybody may say that it
failed, since he could as well kill it; and no wait is for ever, since who has taken the end may never let it go.
"""

from __future__ import annotations

import array
import errno
import json
import os
import signal
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
from wherry.linux.waiting import readable

_REPORT: Final = struct.Struct("=IiIi")
_CREDENTIALS: Final = struct.Struct("=iII")
_ANCILLARY: Final = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(3 * array.array("i").itemsize)
_LARGEST: Final = 65536
TERMINAL: Final = 1
DEVPTS: Final = 2
MOUNTS: Final = 4
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
    28: "cannot enter the user namespace",
    29: "cannot make a mount namespace",
}
"""`enum step` of wherry-init.c, as sentences."""
_WARNINGS: Final = 64
"""That are kept: there are less than that many things to warn of."""
_LIMIT: Final = 5
_LABEL: Final = 7
_CWD: Final = 16
_EXECUTE: Final = 24


def pair() -> tuple[socket.socket, socket.socket]:
    """(the keeper's end, the other), for a `Line` and for who becomes the process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return ours, theirs


@dataclass(slots=True)
class Line:
    """The keeper's end, and what was heard on it so far."""

    socket: socket.socket
    argument: str
    """The program's name, for messages."""
    cwd: str
    searched: bool
    subject: str
    """What is made, for messages."""
    label: str = ""
    """Of AppArmor or SELinux, for messages."""
    pid: int | None = None
    helpers: list[int] = field(default_factory=list)
    """Children that live in the host's pid namespace, not reaped yet; the first is put here by who made it."""
    terminal: int | None = None
    devpts: int | None = None
    mounts: int | None = None
    """The mount namespace that the tree was made in, where the process gets a copy of it."""
    warnings: list[str] = field(default_factory=list)
    _at_barrier: set[int] = field(default_factory=set)

    def until_ready(self, timeout: float | None = None) -> None:
        """Listen until a process is at its barrier. Raises what went wrong; Unavailable after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.pid is None or self.pid not in self._at_barrier:
            if not self._ready(deadline):
                raise Unavailable(f"no process within {timeout:g} s; the container does not answer")
            if not self._hear():
                raise StartFailed(f"{self.subject} ended before it could be started")

    def go(self, timeout: float) -> None:
        """Open the barrier; returns when the program runs.

        CommandNotFound, CommandNotExecutable: it does not. Unavailable: it did not begin within `timeout` seconds.
        After an error it is killed: what is said to have failed must not run on.
        """
        assert self.pid is not None
        deadline = time.monotonic() + timeout
        try:
            self.socket.send(b"G")
            while self._ready(deadline):
                if not self._hear():
                    return
            raise Unavailable(f"{self.subject} did not begin to run within {timeout:g} s")
        except BaseException as error:
            os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is nobody else's
            if isinstance(error, (BrokenPipeError, ConnectionResetError)):
                raise StartFailed(f"{self.subject} ended before it was told to go") from None
            raise
        finally:
            self.socket.close()

    def drain(self, timeout: float) -> None:
        """After a failure: say no more, and hear for at most `timeout` seconds who else is to be waited for."""
        deadline = time.monotonic() + timeout
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # nobody is there
        while self._ready(deadline):
            try:
                if not self._hear():
                    return
            except WherryError:
                continue  # the first error is the one to tell

    def _ready(self, deadline: float | None) -> bool:
        """Whether there is something to hear, before the deadline. A flood does not put it off."""
        if deadline is None:
            return True
        left = deadline - time.monotonic()
        return left > 0 and readable(self.socket.fileno(), left)

    def _hear(self) -> bool:
        """Take one message; False at the end of the line."""
        try:
            data, ancillary, _, _ = self._receive()
        except ConnectionResetError:
            return False
        sender, descriptors = _unpack(ancillary)
        try:
            if data:
                self._take(sender, data, descriptors)
        finally:
            for fd in descriptors:
                os.close(fd)
        return bool(data)

    def _receive(self) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        try:
            return self.socket.recvmsg(_LARGEST, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # Told once, when the other end was closed with something of ours unread, and told before what it had said.
            return self.socket.recvmsg(_LARGEST, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)

    def _take(self, sender: int, data: bytes, descriptors: list[int]) -> None:
        trusted = sender in self.helpers
        if trusted and data[:1] == b"D":
            if data[1] & TERMINAL:
                self.terminal = descriptors.pop(0)
            if data[1] & DEVPTS:
                self.devpts = descriptors.pop(0)
            if data[1] & MOUNTS:
                self.mounts = descriptors.pop(0)
        elif trusted and data[:1] == b"J":
            raise from_wire(json.loads(data[1:]))
        elif len(data) == _REPORT.size:
            self._report(sender, trusted, *_REPORT.unpack(data))

    def _report(self, sender: int, trusted: bool, kind: int, number: int, step: int, value: int) -> None:
        if trusted and kind == ord("H"):
            self.helpers.append(value)
        elif trusted and kind == ord("P"):
            self.pid = value
        elif kind == ord("R"):
            self._at_barrier.add(sender)
        elif kind == ord("W") and len(self.warnings) < _WARNINGS:
            self.warnings.append(f"{_warning(step, value)}: {os.strerror(number)}")
        elif kind == ord("E") and step == _LABEL:
            raise StartFailed(
                f'unable to start container process: cannot apply the security label "{self.label}": '
                f"{os.strerror(number).lower()}; is that profile loaded?"
            )
        elif kind == ord("E"):
            raise failure(number, step, bool(value), self.argument, self.cwd, self.searched)


def _warning(step: int, value: int) -> str:
    if step == _LIMIT:
        return f"cannot raise the limit {limits.NAMES.get(value, value)} that far"
    return _STEPS.get(step, "wherry-init")


def _unpack(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, list[int]]:
    """(pid of the sender, 0 if it has none here; descriptors, the caller's to close)."""
    sender = 0
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        elif level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            sender = _CREDENTIALS.unpack(data)[0]
    return sender, list(descriptors)


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
    data, descriptors, _, _ = socket.recv_fds(end, 2, 64, socket.MSG_CMSG_CLOEXEC)
    if not data:
        raise StartFailed("the start was given up")
    program, *rest = descriptors
    into = rest.pop(0) if data[1] else None
    return Means(program, Entrance(tasks=tuple(rest), into=into))


def tell_descriptors(
    end: socket.socket, terminal: int | None, devpts: int | None, mounts: int | None
) -> None:
    """Hand the keeper what only a builder could open."""
    each = ((TERMINAL, terminal), (DEVPTS, devpts), (MOUNTS, mounts))
    flags = sum(flag for flag, fd in each if fd is not None)
    socket.send_fds(end, [bytes([ord("D"), flags])], [fd for _, fd in each if fd is not None])
