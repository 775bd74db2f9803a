"""Processes: their descriptors, their identity over time, and what a process says about itself (prctl(2))."""

from __future__ import annotations

import ctypes
import os
import signal
from ctypes import c_int, c_uint, c_ulong
from functools import lru_cache
from pathlib import Path
from typing import Final

from wherry.linux import numbers
from wherry.linux.calls import declare, last_error, syscall
from wherry.linux.waiting import readable

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
CLOSE_RANGE_CLOEXEC: Final = 4
_MAX_FD: Final = 0xFFFFFFFF

_prctl = declare("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)


def _control(option: int, value: int) -> None:
    if _prctl(option, value, 0, 0, 0) == -1:
        raise last_error()


# ---- identity ------------------------------------------------------------------------------------------------------
def pidfd_open(pid: int) -> int:
    """A descriptor that stays this very process's: pidfd_open(2). ProcessLookupError: no such process."""
    return os.pidfd_open(pid)


def pidfd_send_signal(fd: int, number: int) -> None:
    """Send a signal to the process that `fd` stands for. ProcessLookupError: it has ended and was reaped."""
    signal.pidfd_send_signal(fd, number)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot: field 22 of /proc/<pid>/stat, proc(5).

    Together with the boot id it tells two processes of the same number apart. ProcessLookupError: no such process.
    """
    return int(_fields(pid)[19])


def state(pid: int) -> str:
    """One letter: R, S, D, T, Z, …, proc(5). ProcessLookupError: no such process."""
    return _fields(pid)[0]


def is_alive(pid: int, started: int) -> bool:
    """Whether the process that had this number and start time is there and no zombie."""
    try:
        fields = _fields(pid)
    except ProcessLookupError:
        return False
    return int(fields[19]) == started and fields[0] not in "ZX"


def wait(pid: int, timeout: float) -> bool:
    """Whether a process has ended within `timeout` seconds. ProcessLookupError: there is none of that number."""
    fd = os.pidfd_open(pid)
    try:
        return readable(fd, timeout)
    finally:
        os.close(fd)


@lru_cache(maxsize=1)
def boot_id() -> str:
    """The kernel's name for the time since this boot: /proc/sys/kernel/random/boot_id, random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _fields(pid: int) -> list[str]:
    """The fields of a stat file from the third on: the second, a name in brackets, may hold anything."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(fd, 1024)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"no process {pid}") from None
    return text.rpartition(b")")[2].decode("ascii").split()


# ---- of this process -----------------------------------------------------------------------------------------------
def set_subreaper(on: bool = True) -> None:
    """Become the parent of descendants whose own parent ends."""
    _control(_PR_SET_CHILD_SUBREAPER, int(on))


def set_parent_death_signal(number: int) -> None:
    """Get this signal when the thread that made this process ends; lost at a fork and at a change of ids."""
    _control(_PR_SET_PDEATHSIG, number)


def set_dumpable(on: bool) -> None:
    """Whether others of the same user may look into this process: ptrace(2), /proc/<pid>."""
    _control(_PR_SET_DUMPABLE, int(on))


def set_no_new_privileges() -> None:
    """Never gain privileges by execve again; cannot be undone."""
    _control(_PR_SET_NO_NEW_PRIVS, 1)


def set_name(name: str) -> None:
    """The name that `ps -o comm` shows; cut at 15 bytes."""
    text = ctypes.create_string_buffer(os.fsencode(name)[:15])
    _control(_PR_SET_NAME, ctypes.addressof(text))


def close_range(first: int, last: int = _MAX_FD, *, close_on_exec: bool = False) -> None:
    """Close all descriptors from `first` to `last`, or mark them close-on-exec: close_range(2)."""
    flags = CLOSE_RANGE_CLOEXEC if close_on_exec else 0
    if syscall(numbers.CLOSE_RANGE, c_uint(first), c_uint(last), c_uint(flags)) == -1:
        raise last_error()
