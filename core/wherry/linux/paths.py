"""Paths inside a root that belongs to somebody else: resolved by the kernel, and never out of it (openat2(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import posixpath
import stat
from ctypes import c_char_p, c_int, c_size_t, c_uint64
from typing import Final

from wherry.linux import numbers
from wherry.linux.calls import last_error, syscall

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

_TRIES: Final = 128
"""A rename or mount anywhere on the way makes openat2 answer EAGAIN; under a storm a few tries lose."""
_LINKS: Final = 40
"""As many symbolic links as the kernel follows in one path: path_resolution(7)."""


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64)]


def openat2(directory: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2), close-on-exec, retried while the kernel answers EAGAIN. EXDEV: the path leads out; ELOOP: a link."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    name = c_char_p(os.fsencode(path))
    for _ in range(_TRIES):
        fd = syscall(numbers.OPENAT2, c_int(directory), name, ctypes.byref(how), c_size_t(ctypes.sizeof(how)))
        if fd != -1:
            return fd
        error = last_error(path)
        if error.errno not in (errno.EAGAIN, errno.EINTR):
            raise error
    raise error


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` as if `root_fd` were `/`: links and `..` stay inside. The descriptor is the caller's to close."""
    return openat2(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_regular_in_root(root_fd: int, path: str) -> int:
    """As `open_regular`, with `root_fd` as `/`."""
    return open_regular(root_fd, path, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_regular(directory: int, path: str, resolve: int, flags: int = 0) -> int:
    """A regular file of somebody else's, for reading; the caller's to close. OSError EINVAL: it is something else.

    Looked at before it is opened: to open a device acts (a watchdog starts, a tape winds), and a pipe's other end notices.
    EAGAIN: its owner has a lease on it, for which an open that waits would wait 45 s (fcntl(2), F_SETLEASE).
    """
    found = openat2(directory, path, os.O_PATH | flags, resolve=resolve)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(found)


def make_directories_in_root(root_fd: int, path: str, mode: int = 0o755) -> None:
    """Make the directory `path` and what is missing on the way, inside the root. There already is success.

    A dangling link on the way is followed, and its target made, as a user of the container would expect. NotADirectoryError
    where something else is in the way.
    """
    os.close(open_directory_in_root(root_fd, path, mode))


def open_directory_in_root(root_fd: int, path: str, mode: int = 0o755) -> int:
    """As `make_directories_in_root`; answers an O_PATH descriptor of the directory, the caller's to close."""
    path = clean(path)
    try:
        return open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        return _make_directories(root_fd, path, mode, _LINKS)


def make_file_in_root(root_fd: int, path: str, mode: int = 0o644) -> int:
    """An O_PATH descriptor of whatever is at `path`; an empty file is made there if nothing is, with its directories."""
    return _make_file(root_fd, clean(path), mode, _LINKS)


def followed(root_fd: int, path: str) -> str:
    """The path that `path` leads to with all links in it followed, inside the root; what is not there stays as written.

    Words to be shown, not to be relied on: whoever owns the tree may have changed it since.
    """
    here, links = "/", 0
    ahead = [name for name in path.split("/") if name][::-1]
    while ahead:
        name = ahead.pop()
        if name == ".":
            continue
        if name == "..":
            here = posixpath.dirname(here)
            continue
        further = posixpath.join(here, name)
        target = _link_at(root_fd, further)
        if target is None:
            here = further
            continue
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            here = "/"
        ahead += [name for name in target.split("/") if name][::-1]
    return here


def _link_at(root_fd: int, path: str) -> str | None:
    try:
        held = open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return os.readlink("", dir_fd=held)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):  # no link: ENOENT is what an empty path gives then
            return None
        raise
    finally:
        os.close(held)


def clean(path: str) -> str:
    """`path` as an absolute one without `.`, `..`, or doubled slashes, by its letters alone."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _make_directories(root_fd: int, path: str, mode: int, links: int) -> int:
    here = ""
    fd = open_in_root(root_fd, "/", os.O_PATH | os.O_DIRECTORY)
    try:
        for name in clean(path).split("/")[1:]:
            if not name:
                continue
            above, here = here or "/", f"{here}/{name}"
            try:
                inner = open_in_root(root_fd, here, os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                inner = _make_directory(root_fd, fd, above, name, mode, links)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd


def _make_directory(root_fd: int, parent: int, above: str, name: str, mode: int, links: int) -> int:
    """Make `name` in the directory `parent` (which is `above` in the root), or what a dangling link of that name names."""
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        try:
            target = os.readlink(name, dir_fd=parent)
        except OSError:
            pass  # somebody made the directory meanwhile
        else:
            if links == 0:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), f"{above}/{name}") from None
            return _make_directories(root_fd, posixpath.join(above, target), mode, links - 1)
    return open_in_root(root_fd, f"{above}/{name}", os.O_PATH | os.O_DIRECTORY)


def _make_file(root_fd: int, path: str, mode: int, links: int) -> int:
    try:
        return open_in_root(root_fd, path, os.O_PATH)
    except FileNotFoundError:
        pass
    parent, name = posixpath.split(path)
    if not name or links == 0:
        number = errno.ELOOP if name else errno.EISDIR
        raise OSError(number, os.strerror(number), path)
    directory = open_directory_in_root(root_fd, parent)
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=directory))
    except FileExistsError:
        # A dangling link: make what it names.
        target = posixpath.join(parent, os.readlink(name, dir_fd=directory))
        return _make_file(root_fd, clean(target), mode, links - 1)
    finally:
        os.close(directory)
    return open_in_root(root_fd, path, os.O_PATH)
