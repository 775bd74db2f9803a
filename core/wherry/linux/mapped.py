"""Mounts that show other owners than are on the disk: idmapped mounts, mount_setattr(2), and overlays of such.

What is on the disk stays as it is: an id there is taken for one *inside* of a user namespace, and shown as the one
*outside* that stands for it. An overlay itself cannot be shown so, but each of its layers can (since Linux 5.19). It
then works on its upper layer as who mounted it, so that has to be somebody who is mapped: `owner`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wherry.linux import mounts
from wherry.linux.credentials import making_files_as


def bind(path: mounts.StrPath, userns: int, *, recursive: bool = False) -> int:
    """A detached mount of the file or directory at `path`, with ids as in the user namespace `userns` (a descriptor).

    With `recursive` the mounts below come along, as they are. EINVAL: the file system cannot show other ids.
    """
    fd = mounts.clone_tree(path, recursive=recursive)
    try:
        mounts.idmap(fd, userns)
    except BaseException:
        os.close(fd)
        raise
    return fd


def overlay(
    lowers: Sequence[Path],
    upper: Path | None,
    work: Path | None,
    options: Sequence[str] = (),
    *,
    userns: int,
    owner: tuple[int, int],
) -> int:
    """As `mounts.overlay`, with the ids of every layer mapped. `owner`: (uid, gid) outside of who is root inside.

    Layers go by descriptor where the kernel takes mounts that are attached nowhere (since 6.15); else they are attached
    in a mount namespace that ends with a thread of its own.
    """
    global _detached_layers
    if _detached_layers is not False:
        try:
            fd = _by_descriptor(lowers, upper, work, options, userns, owner)
        except OSError as error:
            if error.errno not in _UNKNOWN or _detached_layers:
                raise
        else:
            _detached_layers = True
            return fd
    fd = mounts.apart(lambda: _by_path(lowers, upper, work, options, userns, owner))
    _detached_layers = False
    return fd


_detached_layers: bool | None = None
"""Whether an overlay takes layers that are attached nowhere; None until tried."""
_UNKNOWN: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
"""What a kernel answers that does not: the second where it takes no descriptors at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layers:
    """Descriptors of directories of idmapped mounts."""

    lowers: list[int]
    upper: int | None = None
    work: int | None = None


@contextmanager
def _layers(
    lowers: Sequence[Path], upper: Path | None, work: Path | None, userns: int, *, attached: bool
) -> Iterator[_Layers]:
    with ExitStack() as stack:

        def shown(path: Path) -> int:
            fd = bind(path, userns)
            stack.callback(os.close, fd)
            if attached:
                mounts.move_mount(fd, path)
            return fd

        def below(fd: int, place: Path) -> int:
            found = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            stack.callback(os.close, found)
            return found

        found = [shown(path) for path in lowers]
        if upper is None or work is None:
            yield _Layers(lowers=found)
            return
        # Both have to be on one mount.
        above = Path(os.path.commonpath([upper, work]))
        fd = shown(above)
        yield _Layers(
            lowers=found, upper=below(fd, upper.relative_to(above)), work=below(fd, work.relative_to(above))
        )


def _by_descriptor(
    lowers: Sequence[Path],
    upper: Path | None,
    work: Path | None,
    options: Sequence[str],
    userns: int,
    owner: tuple[int, int],
) -> int:
    with _layers(lowers, upper, work, userns, attached=False) as layers:
        pairs: list[tuple[str, str | int | None]] = [("source", "overlay")]
        pairs += [("lowerdir+", fd) for fd in layers.lowers]
        if layers.upper is not None and layers.work is not None:
            pairs += [("upperdir", layers.upper), ("workdir", layers.work)]
        pairs += mounts.split_options(",".join(options))
        with making_files_as(*owner):
            return mounts.new("overlay", pairs)


def _by_path(
    lowers: Sequence[Path],
    upper: Path | None,
    work: Path | None,
    options: Sequence[str],
    userns: int,
    owner: tuple[int, int],
) -> int:
    with _layers(lowers, upper, work, userns, attached=True) as layers:
        named = ":".join(f"/proc/self/fd/{fd}" for fd in layers.lowers)
        words = [f"lowerdir={named}"]
        if layers.upper is not None and layers.work is not None:
            words += [f"upperdir=/proc/self/fd/{layers.upper}", f"workdir=/proc/self/fd/{layers.work}"]
        with making_files_as(*owner):
            mounts.mount("overlay", lowers[0], "overlay", data=",".join([*words, *options]))
        return mounts.clone_tree(lowers[0])
