"""User namespaces: made, entered by a child for what is to belong to them, and asked for: user_namespaces(7).

Whoever enters a user namespace leaves his own for good, and no thread can do it for itself. So a child does, for as long
as it takes to get descriptors of what it made there. Python is forked for that: only a process with one thread may.

A map is a sequence of (first id inside, first id outside, how many).
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from wherry.linux import namespaces, processes

Map: TypeAlias = Sequence[tuple[int, int, int]]

_NS_GET_USERNS: Final = 0xB701
"""ioctl_ns(2)."""
_COUNTED: Final = (resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE, resource.RLIMIT_SIGPENDING)
"""Limits that the kernel keeps for all of a user namespace together, too: those of its maker."""


def owner(namespace: int) -> int:
    """A descriptor of the user namespace that a namespace (a descriptor) belongs to; the caller's to close: ioctl_ns(2)."""
    return fcntl.ioctl(namespace, _NS_GET_USERNS)


def make(uids: Map, gids: Map, kinds: Iterable[str] = ()) -> tuple[int, ...]:
    """Descriptors of a new user namespace and of new namespaces of these `kinds` that belong to it, in this order.

    ENOSPC: there are as many as /proc/sys/user allows. EINVAL: a map that the kernel does not take.
    """
    kinds = tuple(kinds)
    with _inhabited(None, uids, gids, kinds) as pid:
        return _opened(pid, ("user", *kinds))


def make_within(user: int, kinds: Iterable[str]) -> tuple[int, ...]:
    """Descriptors of new namespaces of these `kinds` that belong to the user namespace `user` (a descriptor)."""
    kinds = tuple(kinds)
    with _inhabited(user, (), (), kinds) as pid:
        return _opened(pid, kinds)


def _opened(pid: int, kinds: Iterable[str]) -> tuple[int, ...]:
    found: list[int] = []
    try:
        for kind in kinds:
            found.append(namespaces.open_namespace(pid, kind))
    except BaseException:
        for fd in found:
            os.close(fd)
        raise
    return tuple(found)


@contextmanager
def _inhabited(user: int | None, uids: Map, gids: Map, kinds: tuple[str, ...]) -> Iterator[int]:
    """The pid of a child that is in the user namespace, and in namespaces that it made there; it ends with the `with`."""
    hear, say = os.pipe()
    hear_child, say_child = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _inhabit(user, kinds, parent, hear, say_child)
    try:
        os.close(hear)
        os.close(say_child)
        if user is None:
            _expect(hear_child)
            for name, entries in (("uid_map", uids), ("gid_map", gids)):
                lines = "".join(f"{inside} {outside} {size}\n" for inside, outside, size in entries)
                Path(f"/proc/{child}/{name}").write_text(lines)
            os.write(say, b"m")
        _expect(hear_child)
        yield child
    finally:
        os.kill(child, signal.SIGKILL)  # not reaped yet, so the number is nobody else's
        os.waitpid(child, 0)
        os.close(say)
        os.close(hear_child)


def _expect(hear: int) -> None:
    """One step of the child's; its failure is raised here."""
    word = os.read(hear, 1)
    if word != b"\0":
        number = word[0] if word else errno.ECHILD
        raise OSError(number, os.strerror(number))


def _inhabit(user: int | None, kinds: tuple[str, ...], parent: int, hear: int, say: int) -> NoReturn:
    try:
        processes.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        for limit in _COUNTED:
            _raise(limit)
        if user is None:
            namespaces.unshare(namespaces.CLONE_NEWUSER)
            os.write(say, b"\0")
            os.read(hear, 1)
        else:
            namespaces.setns(user, namespaces.CLONE_NEWUSER)
        # As its root: what is made now belongs to that, and not to somebody whom the map does not have.
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        processes.set_parent_death_signal(signal.SIGKILL)  # lost by the change of ids
        flags = 0
        for kind in kinds:
            flags |= namespaces.FLAGS[kind]
        if flags:
            namespaces.unshare(flags)
        os.write(say, b"\0")
        while True:
            signal.pause()
    except OSError as error:
        os.write(say, bytes([error.errno or errno.EINVAL]))
    finally:
        os._exit(1)


def _raise(limit: int) -> None:
    try:
        resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError:  # without CAP_SYS_RESOURCE
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (hard, hard))
