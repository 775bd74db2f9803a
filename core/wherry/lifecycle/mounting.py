"""From a mount point to a `Mount`: sources become descriptors, in the host's namespace; words become options."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from wherry.errors import InvalidRequest, StartFailed
from wherry.house import House
from wherry.lifecycle.descriptors import Descriptors
from wherry.linux import mountinfo, mounts
from wherry.spec.command import Mount
from wherry.spec.container import BindOptions, HostConfig, MountPoint, MountRequest
from wherry.volumes import requests, tmpfs
from wherry.volumes.plan import depth


def mount_of(house: House, point: MountPoint, descriptors: Descriptors, userns: int | None = None) -> Mount:
    """What the exec driver is to mount. A bind's source is made where it is missing and the request has it so.

    `userns`: the container's user namespace (a descriptor). A volume's files belong in there to whom they belong on the
    disk; what is bound is the host's, and so are its owners, unless the bind says `idmap`.
    InvalidRequest, StartFailed: there is no such source, or it cannot be mounted in the way that was asked for.
    """
    request = point.request or MountRequest(type=point.type)
    if point.type == "tmpfs":
        words = tmpfs.words_of(request.tmpfs_options, read_only=not point.rw)
        return _tmpfs(point.destination, words)
    options = request.bind_options or BindOptions()
    source = _open(house, point, request)
    try:
        propagation = _propagation(point, options, source)
        descriptor = mounts.clone_tree(source, recursive=not options.non_recursive)
        if userns is not None and (point.type == "volume" or "idmap" in point.mode.split(",")):
            _map(point, descriptor, userns)
        is_directory = stat.S_ISDIR(os.fstat(source).st_mode)
    except OSError as error:
        raise StartFailed(f"cannot mount {point.source} on {point.destination}: {error.strerror}") from error
    finally:
        os.close(source)
    return Mount(
        kind="bind",
        target=point.destination,
        source=point.source,
        descriptor=descriptors.add(descriptor),
        read_only=not point.rw,
        recursive_read_only=not point.rw and not options.read_only_non_recursive,
        propagation=propagation,
        is_directory=is_directory,
    )


def tmpfs_mounts(host: HostConfig) -> Iterator[Mount]:
    """Those of `--tmpfs`, which have no mount points."""
    for target, words in (host.tmpfs or {}).items():
        yield _tmpfs(requests.clean_target(target), words)


def in_order(usual: tuple[Mount, ...], asked: list[Mount]) -> tuple[Mount, ...]:
    """All mounts of a container: those of every container first, then those asked for, outer ones before inner ones.

    What was asked for takes the place of what every container has at the same target; a /dev that was asked for, of
    all below it. Source: moby `withMounts`.
    """
    taken = {mount.target for mount in asked}
    kept = [
        mount
        for mount in usual
        if mount.target not in taken and not ("/dev" in taken and mount.target.startswith("/dev/"))
    ]
    return (*kept, *sorted(asked, key=lambda mount: depth(mount.target)))


def _open(house: House, point: MountPoint, request: MountRequest) -> int:
    """A descriptor (O_PATH) of what is to be mounted, the caller's to close."""
    if point.type == "volume":
        subpath = request.volume_options.subpath if request.volume_options else ""
        try:
            return house.volumes.open(point.name, subpath)
        except FileNotFoundError:
            raise StartFailed(f"cannot mount volume {point.name}: its files are gone") from None
    options = request.bind_options or BindOptions()
    source = Path(point.source)
    try:
        return os.open(source, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        if not options.create_mountpoint:
            requests.check_source(request)
    except OSError as error:
        raise StartFailed(f"cannot mount {source} on {point.destination}: {error.strerror}") from error
    try:
        source.mkdir(parents=True, exist_ok=True)
        return os.open(source, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise StartFailed(f"error while creating mount source path '{source}': {error.strerror}") from error


def _map(point: MountPoint, descriptor: int, userns: int) -> None:
    try:
        mounts.idmap(descriptor, userns)
    except OSError as error:
        os.close(descriptor)
        if error.errno != errno.EINVAL:
            raise
        raise StartFailed(
            f"cannot mount {point.source} on {point.destination}: its file system cannot show files with other owners, "
            "which a user namespace needs"
        ) from error


def _propagation(point: MountPoint, options: BindOptions, source: int) -> str:
    """The propagation that a bind gets: as asked for, and refused where its source cannot have it."""
    word = point.propagation or "rprivate"
    if word in ("private", "rprivate") or not options.propagation:
        return word  # slaves that nobody asked for, around the engine's own directories, are so where they can be
    found = mountinfo.of(source)
    words = found.optional if found is not None else ()
    is_shared = any(each.startswith("shared:") for each in words)
    if is_shared or (word in ("slave", "rslave") and any(each.startswith("master:") for each in words)):
        return word
    kinds = "shared" if word in ("shared", "rshared") else "shared or slave"
    target = found.target if found is not None else "/"
    raise InvalidRequest(f"path {point.source} is mounted on {target} but it is not a {kinds} mount")


def _tmpfs(target: str, words: str) -> Mount:
    parsed = tmpfs.parse(words)
    return Mount(
        kind="tmpfs",
        target=target,
        flags=parsed.flags,
        data=parsed.data,
        read_only=parsed.read_only,
        propagation=parsed.propagation,
    )
