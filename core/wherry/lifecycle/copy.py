"""cp: files out of a container and into it, by descriptors in a tree of which the container changes what it likes.

Every path is resolved by the kernel inside the tree (`outlook`), and what is opened is what was looked at. Source:
API 1.51 ContainerArchive, PutContainerArchive, ContainerArchiveInfo; moby `daemon/archive_unix.go`, whose words clients
know.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat as modes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from wherry.container.container import Container
from wherry.errors import Conflict, InvalidRequest, NotFound, Unavailable
from wherry.house import House
from wherry.images.streams import opened
from wherry.lifecycle import idmaps, outlook
from wherry.linux import accounts, paths, tree
from wherry.linux.archive import Live, unpack
from wherry.linux.packing import Packing
from wherry.linux.tar import BadArchive
from wherry.linux.tree import Found
from wherry.spec.frontend import PathStat


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A path in a container as it was asked for."""

    path: str
    """Absolute, clean: `..` is taken away by the letters, as dockerd does."""
    name: str
    """What it is called in an archive: `.` if that is how it ends."""
    directory: bool
    """It ends in `/` or `/.`: it has to be a directory, and a link there is followed."""

    @classmethod
    def parse(cls, text: str) -> Place:
        if not text:
            raise InvalidRequest("bad parameter: path cannot be empty")
        if "\0" in text:
            raise InvalidRequest("a path has a NUL character in it")
        path = paths.clean(text)
        itself = posixpath.basename(text.rstrip("/")) == "." if text.strip("/") else False
        name = "." if itself else posixpath.basename(path) or "/"
        return cls(path=path, name=name, directory=itself or text.endswith("/") or path == "/")


def stat(house: House, name: str, path: str) -> PathStat:
    """What is at a path: NotFound, InvalidRequest. API 1.51 ContainerArchiveInfo."""
    place = Place.parse(path)
    container = house.containers.get(name)
    house.admit("container.archive", container.id, {"path": path})
    with outlook.seen(house, container) as root, _words(container, name, path), _found(root, place) as found:
        return _described(root, place, found)


def archive(
    house: House, name: str, path: str, out: BinaryIO, begin: Callable[[PathStat], object] | None = None
) -> None:
    """Write what is at a path as a tar; `begin` is told what it is before the first byte. API 1.51 ContainerArchive."""
    place = Place.parse(path)
    container = house.containers.get(name)
    house.admit("container.archive", container.id, {"path": path})
    with outlook.seen(house, container) as root, _words(container, name, path), _found(root, place) as found:
        described = _described(root, place, found)
        house.tell(container, "archive-path")
        if begin is not None:
            begin(described)
        packing = Packing(out, idmaps.maps_of(house, container))
        top = "" if place.name == "/" else place.name
        packing.add(top, found)
        if found.is_directory:
            directory = os.open(found.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=found.parent)
            try:
                for each in tree.walk(directory):
                    packing.add(f"{top}/{each.path}", each)
            finally:
                os.close(directory)
        house.containers.get(container.id)  # one that was removed under us must not look like a small one
        packing.finish()


def extract(
    house: House,
    name: str,
    path: str,
    source: BinaryIO,
    *,
    keep_kinds: bool = False,
    own: bool = False,
) -> None:
    """Unpack a tar, perhaps compressed, into a directory of a container.

    With `keep_kinds` a directory and what is none do not replace each other; with `own` everything is to belong to the
    container's user, if it has one. NotFound; InvalidRequest: it is no directory, it is read-only, the archive is bad;
    Unavailable: no space. What was written until an error stays. API 1.51 PutContainerArchive.
    """
    place = Place.parse(path)
    container = house.containers.get(name)
    house.admit("container.extract", container.id, {"path": path})
    with outlook.seen(house, container) as root, _words(container, name, path):
        try:
            directory = paths.open_in_root(root, place.path, os.O_RDONLY | os.O_DIRECTORY)
        except NotADirectoryError:
            raise InvalidRequest("extraction point is not a directory") from None
        try:
            _writable(root, place, directory)
            maps = idmaps.maps_of(house, container)
            live = Live(
                root=root,
                place=paths.followed(root, place.path),
                keep_kinds=keep_kinds,
                owner=_owner(container, root) if own else None,
                owners=maps,
            )
            stream, _ = opened(source)
            with idmaps.making(maps):
                unpack(stream, directory, live=live)
        finally:
            os.close(directory)
    house.tell(container, "extract-to-dir")


@contextlib.contextmanager
def _found(root: int, place: Place) -> Iterator[Found]:
    """What is at the place, with its parent held."""
    if place.directory:
        held, name = paths.open_in_root(root, place.path, os.O_PATH | os.O_DIRECTORY), "."
    else:
        above, name = posixpath.split(place.path)
        held = paths.open_in_root(root, above, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Found(place.path, held, name, os.stat(name, dir_fd=held, follow_symlinks=False))
    finally:
        os.close(held)


def _described(root: int, place: Place, found: Found) -> PathStat:
    link = modes.S_ISLNK(found.stat.st_mode)
    return PathStat(
        name=place.name,
        size=found.stat.st_size,
        mode=found.stat.st_mode,
        mtime_ns=found.stat.st_mtime_ns,
        link_target=paths.followed(root, place.path) if link else "",
    )


def _writable(root: int, place: Place, directory: int) -> None:
    if not os.fstatvfs(directory).f_flag & os.ST_RDONLY:
        return
    inside = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_MAGICLINKS | paths.RESOLVE_NO_XDEV
    try:
        os.close(paths.openat2(root, place.path, os.O_PATH, resolve=inside))
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise InvalidRequest("mounted volume is marked read-only") from None
        raise
    raise InvalidRequest("container rootfs is marked read-only")


def _owner(container: Container, root: int) -> tuple[int, int] | None:
    user, _, group = container.record.config.user.partition(":")
    if not user and not group:
        return None
    try:
        found = accounts.user(root, user)
        return found.uid, accounts.group(root, group) if group else found.gid
    except (LookupError, ValueError) as error:
        raise InvalidRequest(f"unable to find {error.args[0]}") from None


@contextlib.contextmanager
def _words(container: Container, name: str, path: str) -> Iterator[None]:
    """What the kernel and the archive refuse, in words for whoever asked."""
    try:
        yield
    except BadArchive as error:
        raise InvalidRequest(str(error)) from error
    except FileNotFoundError as error:
        raise NotFound("file", path, f"Could not find the file {path} in container {name}") from error
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(
                f"copying to container {container.name} stopped: {reason}; free some space"
            ) from error
        if error.errno == errno.EAGAIN:
            raise Unavailable(
                f"copying {path} of container {container.name} failed: a process in it changes the way there faster than it "
                "can be gone, or holds a lease on a file; `docker pause` it meanwhile"
            ) from error
        if error.errno in _THEIRS:
            raise InvalidRequest(f"lstat {path}: {reason}") from error
        if error.errno in (errno.EPERM, errno.EACCES, errno.EROFS, errno.EBUSY):
            where = f"{error.filename}: " if error.filename else ""
            raise Conflict(
                f"copying to {path} of container {container.name} failed: {where}{reason}"
            ) from error
        raise


_THEIRS = frozenset({errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EXDEV})
