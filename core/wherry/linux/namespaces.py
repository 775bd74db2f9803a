"""Namespaces: leaving them, entering them, holding them by descriptor. namespaces(7)."""

from __future__ import annotations

import os
from ctypes import c_char_p, c_int, c_size_t
from pathlib import Path
from typing import Final

from wherry.linux.calls import declare, last_error

CLONE_NEWTIME: Final = 0x80
CLONE_NEWNS: Final = 0x20000
CLONE_NEWCGROUP: Final = 0x2000000
CLONE_NEWUTS: Final = 0x4000000
CLONE_NEWIPC: Final = 0x8000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
CLONE_FS: Final = 0x200

FLAGS: Final = {
    "mnt": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "user": CLONE_NEWUSER,
    "pid": CLONE_NEWPID,
    "net": CLONE_NEWNET,
}
"""Names as in /proc/<pid>/ns → flags of unshare(2) and setns(2)."""

_unshare = declare("unshare", c_int)
_setns = declare("setns", c_int, c_int)
_sethostname = declare("sethostname", c_char_p, c_size_t)
_setdomainname = declare("setdomainname", c_char_p, c_size_t)


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones; the one of pids takes effect for children. unshare(2)."""
    if _unshare(flags) == -1:
        raise last_error()


def setns(fd: int, flags: int = 0) -> None:
    """Enter the namespace of an nsfs descriptor, or those (by `flags`) of a pidfd's process: setns(2).

    Only the calling thread moves. EINVAL: wrong kind, or a mount namespace asked for by a thread that shares its
    file system attributes.
    """
    if _setns(fd, flags) == -1:
        raise last_error()


def open_namespace(pid: int | str, kind: str) -> int:
    """A descriptor of a namespace of a process ("self" too): /proc/<pid>/ns/<kind>. The caller closes it."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def identity(fd: int) -> tuple[int, int]:
    """(device, inode) of a namespace descriptor: equal for equal namespaces while one is held."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def identity_of(pid: int | str, kind: str) -> tuple[int, int]:
    """(device, inode) of a process's namespace."""
    found = Path(f"/proc/{pid}/ns/{kind}").stat()
    return found.st_dev, found.st_ino


def set_host_name(name: str) -> None:
    """Set the host name of this UTS namespace: sethostname(2), at most 64 bytes."""
    text = os.fsencode(name)
    if _sethostname(text, len(text)) == -1:
        raise last_error()


def set_domain_name(name: str) -> None:
    """Set the NIS domain name of this UTS namespace: setdomainname(2), at most 64 bytes."""
    text = os.fsencode(name)
    if _setdomainname(text, len(text)) == -1:
        raise last_error()
