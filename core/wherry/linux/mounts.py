"""Mounts, by descriptor where the kernel lets: open_tree(2), fsopen(2), fsmount(2), move_mount(2), mount_setattr(2).

A *detached* mount is a descriptor with no place in any mount namespace; closing it ends it, attaching it is one
`move_mount`. Every descriptor answered here is close-on-exec and the caller's to close.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from ctypes import c_char_p, c_int, c_size_t, c_uint, c_uint64, c_ulong
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from wherry.linux import numbers
from wherry.linux.calls import declare, last_error, syscall
from wherry.linux.namespaces import CLONE_FS, CLONE_NEWNS, setns, unshare

StrPath: TypeAlias = str | os.PathLike[str]

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_NO_AUTOMOUNT: Final = 0x800

# mount(2), <linux/mount.h>
MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_MOVE: Final = 0x2000
MS_REC: Final = 0x4000
MS_UNBINDABLE: Final = 0x20000
MS_PRIVATE: Final = 0x40000
MS_SLAVE: Final = 0x80000
MS_SHARED: Final = 0x100000
MNT_DETACH: Final = 0x2

# mount_setattr(2), fsmount(2)
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8
MOUNT_ATTR_ATIME: Final = 0x70
MOUNT_ATTR_RELATIME: Final = 0x0
MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_STRICTATIME: Final = 0x20
MOUNT_ATTR_NODIRATIME: Final = 0x80
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x200000
_MOUNT_ATTR_IDMAP: Final = 0x100000

_OPEN_TREE_CLONE: Final = 1
_OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_SET_FD: Final = 5
_FSCONFIG_CMD_CREATE: Final = 6
_MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
_MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
_FSCONFIG_VALUE_MAX: Final = 255
"""Longest value that fsconfig(2) takes as a string."""

ATTRIBUTES: Final = {
    "ro": (MOUNT_ATTR_RDONLY, 0),
    "rw": (0, MOUNT_ATTR_RDONLY),
    "nosuid": (MOUNT_ATTR_NOSUID, 0),
    "suid": (0, MOUNT_ATTR_NOSUID),
    "nodev": (MOUNT_ATTR_NODEV, 0),
    "dev": (0, MOUNT_ATTR_NODEV),
    "noexec": (MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, MOUNT_ATTR_NOEXEC),
    "noatime": (MOUNT_ATTR_NOATIME, MOUNT_ATTR_ATIME),
    "relatime": (MOUNT_ATTR_RELATIME, MOUNT_ATTR_ATIME),
    "strictatime": (MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_ATIME),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
}
"""Words of mount(8) → (attributes to set, attributes to clear)."""

PROPAGATION: Final = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}
"""Words of mount(8) → flags of mount(2)."""


class _MountAttributes(ctypes.Structure):
    _fields_ = [("set", c_uint64), ("clear", c_uint64), ("propagation", c_uint64), ("userns", c_uint64)]


_mount = declare("mount", c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = declare("umount2", c_char_p, c_int)


# ---- by path -------------------------------------------------------------------------------------------------------
def mount(source: StrPath, target: StrPath, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount a file system, bind, move or change a mount: mount(2). `data` is the file system's options."""
    done = _mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, os.fsencode(data) or None
    )
    if done == -1:
        raise last_error(target)


def umount(target: StrPath, flags: int = 0) -> None:
    """Detach the newest mount at `target`: umount2(2). EBUSY: in use, try MNT_DETACH; EINVAL: no mount there."""
    if _umount2(os.fsencode(target), flags) == -1:
        raise last_error(target)


def propagate(target: StrPath, word: str) -> None:
    """Set the propagation of the mount at `target`: a word of `PROPAGATION`. EINVAL: no mount there."""
    mount("", target, flags=PROPAGATION[word])


def make_private(target: StrPath, recursive: bool = False) -> None:
    """Let no mount event in or out at `target`."""
    propagate(target, "rprivate" if recursive else "private")


def make_slave(target: StrPath, recursive: bool = False) -> None:
    """Let mount events in at `target`, and none out."""
    propagate(target, "rslave" if recursive else "slave")


def make_shared(target: StrPath, recursive: bool = False) -> None:
    """Let mount events in and out at `target`."""
    propagate(target, "rshared" if recursive else "shared")


def pivot_root(new_root: StrPath, put_old: StrPath) -> None:
    """Make `new_root` the root of this mount namespace: pivot_root(2). With "." twice the old root lies on the new."""
    if syscall(numbers.PIVOT_ROOT, c_char_p(os.fsencode(new_root)), c_char_p(os.fsencode(put_old))) == -1:
        raise last_error(new_root)


# ---- by descriptor -------------------------------------------------------------------------------------------------
def clone_tree(path_or_fd: StrPath | int, recursive: bool = False) -> int:
    """A detached copy of the mount at a path, or of the mount or directory that a descriptor stands for.

    With `recursive` the mounts below come along. EINVAL: unbindable, or in another mount namespace.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    if isinstance(path_or_fd, int):
        directory, path, flags = path_or_fd, b"", flags | AT_EMPTY_PATH
    else:
        directory, path = AT_FDCWD, os.fsencode(path_or_fd)
    fd = syscall(numbers.OPEN_TREE, c_int(directory), c_char_p(path), c_uint(flags))
    if fd == -1:
        raise last_error(None if isinstance(path_or_fd, int) else path_or_fd)
    return fd


def bind(path: StrPath) -> int:
    """A detached mount of the file or directory at `path`, without the mounts below it."""
    return clone_tree(path)


def move_mount(fd: int, target: StrPath | int, below: int = AT_FDCWD) -> None:
    """Attach a detached mount at a path, or on what a descriptor stands for: move_mount(2). `fd` stays open.

    A relative path is looked up from the directory `below`.
    """
    if isinstance(target, int):
        directory, path, flags = target, b"", _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    else:
        directory, path, flags = below, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH
    done = syscall(
        numbers.MOVE_MOUNT, c_int(fd), c_char_p(b""), c_int(directory), c_char_p(path), c_uint(flags)
    )
    if done == -1:
        raise last_error(None if isinstance(target, int) else target)


def mount_setattr(
    fd: int, *, add: int = 0, remove: int = 0, propagation: int = 0, recursive: bool = False
) -> None:
    """Change the mount that `fd` stands for: attributes (`MOUNT_ATTR_*`) and propagation (`MS_*` without MS_REC)."""
    _change(fd, _MountAttributes(add, remove, propagation, 0), recursive)


def idmap(fd: int, userns: int) -> None:
    """Show the detached mount `fd` with its ids mapped as in the user namespace `userns` (a descriptor)."""
    _change(fd, _MountAttributes(_MOUNT_ATTR_IDMAP, 0, 0, userns), recursive=False)


def _change(fd: int, request: _MountAttributes, recursive: bool) -> None:
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    size = c_size_t(ctypes.sizeof(request))
    done = syscall(
        numbers.MOUNT_SETATTR, c_int(fd), c_char_p(b""), c_uint(flags), ctypes.byref(request), size
    )
    if done == -1:
        raise last_error()


def attributes(words: Iterable[str]) -> tuple[int, int]:
    """(attributes to set, attributes to clear) for words of mount(8). ValueError names an unknown word."""
    add = remove = 0
    for word in words:
        if word not in ATTRIBUTES:
            raise ValueError(f'"{word}" is not a mount option')
        more, less = ATTRIBUTES[word]
        add, remove = (add & ~less) | more, (remove & ~more) | less
    return add, remove


# ---- new file systems ----------------------------------------------------------------------------------------------
def new(kind: str, options: Iterable[tuple[str, str | int | None]] = (), attributes: int = 0) -> int:
    """A detached mount of a new file system: fsopen(2), fsconfig(2), fsmount(2).

    An option of None is a flag, a number is a descriptor.

    EINVAL: an option is unknown or too long (255 bytes); the kernel's own words, if it has any, are in the error.
    """
    context = syscall(numbers.FSOPEN, c_char_p(kind.encode()), c_uint(_FSOPEN_CLOEXEC))
    if context == -1:
        raise last_error(kind)
    try:
        for key, value in options:
            _configure(context, kind, key, value)
        if (
            syscall(numbers.FSCONFIG, c_int(context), c_uint(_FSCONFIG_CMD_CREATE), None, None, c_int(0))
            == -1
        ):
            raise _explained(context, kind)
        fd = syscall(numbers.FSMOUNT, c_int(context), c_uint(_FSMOUNT_CLOEXEC), c_uint(attributes))
        if fd == -1:
            raise _explained(context, kind)
        return fd
    finally:
        os.close(context)


def tmpfs(*, size: str = "", mode: str = "", options: str = "", attributes: int = 0) -> int:
    """A detached tmpfs. `size` and `mode` as in tmpfs(5) ("64m", "1777"); `options`: more, comma separated."""
    given = [(key, value) for key, value in (("size", size), ("mode", mode)) if value]
    return new("tmpfs", [*given, *split_options(options)], attributes)


def split_options(data: str) -> list[tuple[str, str | None]]:
    """`a=1,b` as pairs for `new`."""
    pairs: list[tuple[str, str | None]] = []
    for word in data.split(","):
        if word:
            key, equals, value = word.partition("=")
            pairs.append((key, value if equals else None))
    return pairs


def overlay(
    lowers: Sequence[Path], upper: Path | None, work: Path | None, options: Sequence[str] = ()
) -> int:
    """A detached overlay of `lowers` (topmost first), writable where `upper` and `work` are given: overlayfs.rst.

    Where the kernel cannot take lowers one by one (before 6.7), mount(2) does it in a mount namespace that ends with
    a thread of its own: nothing is to be seen outside, and no path is too long, as layers are named by descriptor.
    """
    global _lowers_one_by_one
    if _lowers_one_by_one is not False:
        try:
            fd = new("overlay", _overlay_options(lowers, upper, work, options))
        except OSError as error:
            if error.errno != errno.EINVAL or _lowers_one_by_one:
                raise
        else:
            _lowers_one_by_one = True
            return fd
    fd = apart(lambda: _overlay_by_mount(lowers, upper, work, options))
    _lowers_one_by_one = False
    return fd


_lowers_one_by_one: bool | None = None
"""Whether `lowerdir+` works; None until tried."""


def _overlay_options(
    lowers: Sequence[Path], upper: Path | None, work: Path | None, options: Sequence[str]
) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = [("source", "overlay")]
    pairs += [("lowerdir+", str(path)) for path in lowers]
    if upper is not None and work is not None:
        pairs += [("upperdir", str(upper)), ("workdir", str(work))]
    return pairs + split_options(",".join(options))


def _overlay_by_mount(
    lowers: Sequence[Path], upper: Path | None, work: Path | None, options: Sequence[str]
) -> int:
    opened: list[int] = []

    def name(path: Path) -> str:
        opened.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return f"/proc/self/fd/{opened[-1]}"

    try:
        words = ["lowerdir=" + ":".join(name(path) for path in lowers)]
        if upper is not None and work is not None:
            words += [f"upperdir={name(upper)}", f"workdir={name(work)}"]
        target = f"/proc/self/fd/{opened[0]}"
        mount("overlay", target, "overlay", data=",".join([*words, *options]))
        # The path still means the directory beneath; a second look from its parent finds the mount on it.
        return clone_tree(os.path.realpath(target))
    finally:
        for fd in opened:
            os.close(fd)


_Result = TypeVar("_Result")


def apart(act: Callable[[], _Result], *, namespace: int | None = None) -> _Result:
    """Run `act` in a thread in a mount namespace of its own, which ends with it, or in the one that is given.

    What it mounts is seen nowhere else, and is gone with it, but for what it answers as a descriptor. In a `namespace`
    of somebody else's (a descriptor) `/` is that one's: whatever is opened there by a path, an import too, is that one's.
    """
    results: list[_Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            if namespace is None:
                unshare(CLONE_NEWNS)
                make_private("/", recursive=True)
            else:
                unshare(CLONE_FS)
                setns(namespace, CLONE_NEWNS)
            results.append(act())
        except BaseException as error:  # carried over to the caller's thread
            failures.append(error)

    thread = threading.Thread(target=run, name="mount")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _configure(context: int, kind: str, key: str, value: str | int | None) -> None:
    if isinstance(value, int):
        done = syscall(
            numbers.FSCONFIG,
            c_int(context),
            c_uint(_FSCONFIG_SET_FD),
            c_char_p(key.encode()),
            None,
            c_int(value),
        )
    elif value is None:
        done = syscall(
            numbers.FSCONFIG,
            c_int(context),
            c_uint(_FSCONFIG_SET_FLAG),
            c_char_p(key.encode()),
            None,
            c_int(0),
        )
    else:
        text = os.fsencode(value)
        shortened: int | None = None
        if len(text) > _FSCONFIG_VALUE_MAX and os.path.isdir(value):
            # Paths longer than fsconfig takes go by descriptor.
            shortened = os.open(value, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            text = b"/proc/self/fd/%d" % shortened
        try:
            done = syscall(
                numbers.FSCONFIG,
                c_int(context),
                c_uint(_FSCONFIG_SET_STRING),
                c_char_p(key.encode()),
                c_char_p(text),
                c_int(0),
            )
        finally:
            if shortened is not None:
                os.close(shortened)
    if done == -1:
        raise _explained(context, f"{kind}: {key}" if value is None else f"{kind}: {key}={value}")


def _explained(context: int, about: str) -> OSError:
    """The failure of the last call on a file system context, with the kernel's words about it."""
    error = last_error(about)
    words: list[str] = []
    try:
        while len(words) < 8:
            words.append(os.read(context, 512).decode(errors="replace").strip().partition(" ")[2])
    except OSError:
        pass  # ENODATA: no more words
    if words:
        return OSError(error.errno, f"{error.strerror} ({'; '.join(words)})", about)
    return error
