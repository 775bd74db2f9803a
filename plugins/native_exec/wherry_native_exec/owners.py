"""Whom the namespaces and files of a container belong to, where it has a user namespace.

The builder itself never enters that namespace: it stays root of the host in a mount namespace of the host's, so that it
may make device nodes, and any procfs and sysfs. What it makes there is the container's root's (`making`). The mount
namespace that the container gets is a copy that wherry-init makes in the user namespace, last of all: nothing in a copy
can be unmounted, uncovered or made writable by whoever is root in there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from wherry.errors import InvalidRequest, StartFailed
from wherry.linux import namespaces, processes, user_namespaces
from wherry.linux.credentials import making_files_as
from wherry.spec.command import IdMap, IdMaps, Namespaces
from wherry_native_exec.users import Identity


def enter_new(wanted: Namespaces, kinds: Sequence[str]) -> int:
    """Have this process enter new namespaces of these kinds that belong to the container's user namespace.

    A descriptor of that, the caller's to close. StartFailed: there are too many.
    """
    try:
        user, *made = _made(wanted, kinds)
        for kind, fd in zip(kinds, made, strict=True):
            namespaces.setns(fd, namespaces.FLAGS[kind])
            os.close(fd)
    except OSError as error:
        raise StartFailed(f"cannot make the container's user namespace: {error.strerror}") from error
    return user


def _made(wanted: Namespaces, kinds: Sequence[str]) -> tuple[int, ...]:
    if wanted.user.kind == "own":
        maps = wanted.id_maps
        assert maps is not None
        return user_namespaces.make(_entries(maps.uids), _entries(maps.gids), kinds)
    if wanted.user.descriptor is None:
        raise InvalidRequest("the user namespace to join was not handed over")
    held = os.dup(wanted.user.descriptor)
    return (held, *user_namespaces.make_within(held, kinds)) if kinds else (held,)


def _entries(maps: Iterable[IdMap]) -> list[tuple[int, int, int]]:
    return [(each.inside, each.outside, each.size) for each in maps]


@contextmanager
def making(maps: IdMaps | None) -> Iterator[None]:
    """What is made until the end of the `with` belongs to root of the container."""
    if maps is None:
        yield
        return
    with making_files_as(*maps.root):
        yield


@contextmanager
def acting(maps: IdMaps) -> Iterator[None]:
    """As `making`, and for whatever asks who acts: the effective ids, too. For the builder, which has one thread."""
    uid, gid = maps.root
    os.setegid(gid)
    os.seteuid(uid)
    try:
        with making_files_as(uid, gid):
            yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        processes.set_parent_death_signal(signal.SIGKILL)  # lost by a change of ids


def outside(maps: IdMaps | None, uid: int, gid: int) -> tuple[int, int]:
    """The host's ids for those in the container. StartFailed names one that is not mapped."""
    if maps is None:
        return uid, gid
    found_uid, found_gid = maps.uid_outside(uid), maps.gid_outside(gid)
    if found_uid is None or found_gid is None:
        what, number = ("user", uid) if found_uid is None else ("group", gid)
        raise StartFailed(f"{what} {number} is not mapped in the container's user namespace")
    return found_uid, found_gid


def check(maps: IdMaps | None, identity: Identity) -> int:
    """The host's id of a process's user, all of whose ids must be mapped: StartFailed."""
    uid, _ = outside(maps, identity.uid, identity.gid)
    for gid in identity.groups:
        outside(maps, 0, gid)
    return uid


def mount_options(
    maps: IdMaps | None, options: Sequence[tuple[str, str | None]]
) -> list[tuple[str, str | None]]:
    """Options of a file system in which `uid` and `gid` are the container's, with the host's."""
    if maps is None:
        return list(options)
    found: list[tuple[str, str | None]] = []
    for key, value in options:
        if key in ("uid", "gid") and value is not None and value.isdigit():
            uid, gid = outside(maps, int(value) if key == "uid" else 0, int(value) if key == "gid" else 0)
            value = str(uid if key == "uid" else gid)
        found.append((key, value))
    return found
