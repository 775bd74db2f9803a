"""Network namespaces: making, naming, entering: network_namespaces(7).

A namespace is held by a descriptor of its nsfs file, or by a bind mount of it at a path. To be inside one belongs to a
thread, never to the process: `inside` moves the calling thread for the length of a `with`, and nobody else notices.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wherry.linux.calls import declare, last_error

CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 4096
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_OURS: Final = "/proc/thread-self/ns/net"

_unshare = declare("unshare", ctypes.c_int)
_setns = declare("setns", ctypes.c_int, ctypes.c_int)
_mount = declare("mount", ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_umount2 = declare("umount2", ctypes.c_char_p, ctypes.c_int)


def current() -> int:
    """A descriptor of the calling thread's own network namespace; the caller closes it."""
    return os.open(_OURS, os.O_RDONLY | os.O_CLOEXEC)


def enter(descriptor: int) -> None:
    """Move the calling thread into a network namespace: setns(2)."""
    while _setns(descriptor, CLONE_NEWNET) == -1:
        if ctypes.get_errno() != errno.EAGAIN:  # seen while the kernel is busy renaming; it passes
            raise last_error()


def unshare() -> None:
    """Move the calling thread into a new, empty network namespace: unshare(2)."""
    if _unshare(CLONE_NEWNET) == -1:
        raise last_error()


@contextmanager
def inside(where: int | str | os.PathLike[str]) -> Iterator[None]:
    """The calling thread is in another network namespace until the end of the `with`. Costs 5 µs.

    `where`: a descriptor, or the path of an nsfs file. A socket opened inside stays there.
    """
    home = current()
    try:
        target = where if isinstance(where, int) else os.open(where, os.O_RDONLY | os.O_CLOEXEC)
        try:
            enter(target)
        finally:
            if not isinstance(where, int):
                os.close(target)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(home)


def new(*, ipv6: bool = False) -> int:
    """A descriptor of a new network namespace with `lo` up; without one more holder it ends when this is closed.

    Made in a thread that is thrown away, so that no failure can leave the caller in the wrong place. Interfaces added
    later have IPv6 only if `ipv6`: an address that nobody asked for is a way around the firewall.
    """
    made: list[int | BaseException] = []

    def make() -> None:
        try:
            unshare()
            made.append(furnish(ipv6=ipv6))
        except BaseException as error:
            made.append(error)

    thread = threading.Thread(target=make, name="new network namespace")
    thread.start()
    thread.join()
    match made[0]:
        case int(descriptor):
            return descriptor
        case error:
            raise error


def furnish(*, ipv6: bool = False) -> int:
    """Bring up `lo` in the calling thread's namespace, which is new; answers a descriptor of the namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as ours:
        fcntl.ioctl(ours, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))
    if not ipv6:
        try:
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        except FileNotFoundError:
            pass  # a kernel without IPv6
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES):
                raise
    return current()


def bind(descriptor: int, path: Path) -> None:
    """Give a namespace a path: it lives until `unbind`. FileExistsError if the path is taken."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    if _mount(f"/proc/self/fd/{descriptor}".encode(), os.fsencode(path), None, _MS_BIND, None) == -1:
        error = last_error(path)
        os.unlink(path)
        raise error


def unbind(path: Path) -> None:
    """Take a namespace's path away; already gone is success. Waits for nothing: the kernel clears up behind."""
    while _umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW) == 0:
        pass  # until nothing is mounted there: a crash may have left two
    if ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        raise last_error(path)
    path.unlink(missing_ok=True)


def is_bound(path: Path) -> bool:
    """Whether a namespace is at this path (and not only the file that one was bound to)."""
    try:
        return _magic(path) == _NSFS_MAGIC
    except FileNotFoundError:
        return False


_NSFS_MAGIC: Final = 0x6E736673
_statfs = declare("statfs", ctypes.c_char_p, ctypes.c_char_p)


def _magic(path: Path) -> int:
    buffer = ctypes.create_string_buffer(256)
    if _statfs(os.fsencode(path), buffer) == -1:
        raise last_error(path)
    return int(struct.unpack_from("=l", buffer)[0])
