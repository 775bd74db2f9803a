"""Files of this machine into an archive and out of one. The room of system calls does it, and is imported when it must."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, cast

from wherry.cli.copy_rules import Target, asserts_directory, base, target
from wherry.errors import InvalidRequest

PIECE: Final = 256 << 10


# ---- Out of an archive


def check_output(path: str) -> None:
    """InvalidRequest where nothing can be put, before anything is asked for."""
    path = _absolute(path)
    above = os.path.dirname(path.rstrip("/"))
    if above and not os.path.exists(above):
        raise InvalidRequest(f'invalid output path: directory "{above}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidRequest(f"stat {path}: {_reason(error)}") from None
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise InvalidRequest(f'invalid output path: "{path}" must be a directory or a regular file')


def target_here(path: str, *, from_directory: bool) -> Target:
    """Where here to put what comes from a directory, or from something else."""
    absolute = _absolute(path)
    if os.path.islink(absolute):  # also one that leads nowhere: what it names is made
        absolute = os.path.realpath(absolute)
    return target(
        absolute,
        exists=os.path.lexists(absolute),
        is_directory=os.path.isdir(absolute),
        from_directory=from_directory,
    )


def unpack_here(
    pieces: Iterator[bytes], place: str, rename: Callable[[str], str] | None, *, keep_owners: bool
) -> None:
    """Unpack an archive in a directory. No link in it leads out of that, whatever the daemon sends."""
    from wherry.linux.archive import Live, unpack
    from wherry.linux.tar import BadArchive

    stream = _Stream(pieces)
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        live = Live(place=place, keep_kinds=True, owner=None if keep_owners else (-1, -1))
        unpack(cast("BinaryIO", stream), directory, live=live, rename=rename or str)
    except BadArchive as error:
        raise InvalidRequest(str(error)) from None
    finally:
        os.close(directory)
    stream.drain()


class _Stream(io.RawIOBase):
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = next(self._pieces, b"")
        data, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return data

    def drain(self) -> None:
        """To the end: an answer that breaks off is an error, also behind what was wanted of it."""
        while self.read():
            pass


# ---- Into an archive


def source_here(path: str, *, follow: bool) -> tuple[str, str]:
    """(where it is, what to call it): links on the way are followed, the last with `follow` or a `/` behind it."""
    absolute = _absolute(path)
    slash = "/" if absolute.endswith("/") else ""
    try:
        if follow or slash:
            where = os.path.realpath(absolute, strict=True)
        else:
            above, name = os.path.split(absolute)
            where = os.path.join(os.path.realpath(above, strict=True), name)
        os.lstat(where + slash)
    except OSError as error:
        raise InvalidRequest(f"lstat {absolute}: {_reason(error)}") from None
    return where, "." if base(path) == "." else base(absolute)


def is_directory_here(where: str) -> bool:
    """Whether it is one itself, and not a link to one."""
    return os.path.isdir(where) and not os.path.islink(where)


def pack_here(where: str, top: str, send: Callable[[bytes], None]) -> int:
    """Send what is at `where` as an archive whose top is called `top`; answers the bytes of its files."""
    from wherry.linux import tree
    from wherry.linux.packing import Packing

    size = 0
    path = where
    prefix = "" if top == "/" else top
    try:
        with io.BufferedWriter(_Sink(send), PIECE) as body:
            packing = Packing(cast("BinaryIO", body))
            for path, found in _entries(where, tree):
                packing.add(prefix + path[len(where.rstrip("/")) :], found)
                size += 0 if found.is_directory else found.stat.st_size
            packing.finish()
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.ECONNRESET):
            raise  # the daemon has had enough: its answer says why
        raise InvalidRequest(f"open {path}: {_reason(error)}") from error
    return size


def _entries(where: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """(path, what was found) of what is at `where` and of all below it."""
    above, name = os.path.split(where)
    parent = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.stat(name or ".", dir_fd=parent, follow_symlinks=False)
        top = tree.Found(where, parent, name or ".", status)
        yield where.rstrip("/"), top
        if not top.is_directory:
            return
        directory = os.open(name or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        try:
            for found in tree.walk(directory):
                yield f"{where.rstrip('/')}/{found.path}", found
        finally:
            os.close(directory)
    finally:
        os.close(parent)


class _Sink(io.RawIOBase):
    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._send(bytes(data))
        return len(data)


def _absolute(path: str) -> str:
    """With a `/` behind it where the path says that it is a directory's."""
    absolute = os.path.abspath(path)
    return f"{absolute}/" if asserts_directory(path) and absolute != "/" else absolute


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
