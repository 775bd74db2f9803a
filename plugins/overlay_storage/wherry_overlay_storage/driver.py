"""The layers of `overlay2` on disk, and the overlay that they make.

    <root>/<layer>/diff      what the layer changes: an overlay's upper or lower directory
    <root>/<layer>/work      the overlay's own
    <root>/<layer>/parent    the id of the layer below, or nothing
    <root>/.new-…            a layer that is being made      } what a crash leaves of
    <root>/.gone-…           a layer that is being deleted   } these, `recover` deletes

`create` and `remove` are on the path of `run`: a few system calls, nothing synced, and a tree of any size is deleted by
a thread of its own.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from wherry.errors import Conflict, InvalidRequest, NotFound, Unavailable, Unsupported
from wherry.linux import mounts, tree, xattrs
from wherry.linux.archive import WHITEOUT, kept_attribute, unpack
from wherry.linux.deletions import Deletions
from wherry.linux.packing import Packing
from wherry.linux.tar import BadArchive
from wherry.spec import hookimpl
from wherry.spec.storage import Applied, Change, Overlay
from wherry_overlay_storage import changes
from wherry_overlay_storage.changes import Difference
from wherry_overlay_storage.marks import OverlayWhiteouts

OPTIONS: Final = ("index=off", "metacopy=off", "redirect_dir=nofollow", "xino=off")
"""Nothing that a layer's attributes could abuse: no redirect is followed, no file's content is taken from elsewhere."""

_LAYER: Final = re.compile(r"[0-9a-f]{64}")
_ASIDE: Final = (".new-", ".gone-")
_MOST_LOWERS: Final = 500  # the kernel's OVL_MAX_STACK


class OverlayStorage:
    """Storage driver `overlay2`. `root` is its own; it is made if missing."""

    SPEC = (1, 0)

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._parents: dict[str, str | None] = {}
        self._numbers = itertools.count()
        self._deletions = Deletions(self._top)
        self._facts: Mapping[str, str] | None = None

    @hookimpl
    def create(self, layer: str, parent: str | None) -> None:
        if not _LAYER.fullmatch(layer):
            raise InvalidRequest(f'"{layer}" is no id of a layer: 64 hexadecimal digits')
        aside = f".new-{layer}-{os.getpid()}-{next(self._numbers)}"
        try:
            with _plainly(f"layer {layer} cannot be made"):
                self._make(aside, parent)
                os.rename(aside, layer, src_dir_fd=self._top, dst_dir_fd=self._top)
        except BaseException as error:
            tree.remove(self._top, aside)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise Conflict(f"layer {layer} exists already") from error
            raise
        self._parents[layer] = parent

    def _make(self, aside: str, parent: str | None) -> None:
        os.mkdir(aside, 0o700, dir_fd=self._top)
        for name in ("diff", "work"):
            os.mkdir(f"{aside}/{name}", 0o755, dir_fd=self._top)
        self._dress(f"{aside}/diff", parent)
        if parent is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            file = os.open(f"{aside}/parent", flags, 0o600, dir_fd=self._top)
            try:
                os.write(file, parent.encode())
            finally:
                os.close(file)

    def _dress(self, diff: str, parent: str | None) -> None:
        """The root that a container sees is the upper directory: it looks as the parent's does."""
        if parent is None:
            os.chmod(diff, 0o755, dir_fd=self._top)  # whatever the umask is
            return
        if not _LAYER.fullmatch(parent):
            raise NotFound("layer", parent)
        try:
            model = os.stat(f"{parent}/diff", dir_fd=self._top)
        except FileNotFoundError as error:
            raise NotFound("layer", parent) from error
        if model.st_uid or model.st_gid:
            os.chown(diff, model.st_uid, model.st_gid, dir_fd=self._top)
        os.chmod(diff, stat.S_IMODE(model.st_mode), dir_fd=self._top)
        kept = {
            key: value
            for key, value in xattrs.read(self._top, f"{parent}/diff").items()
            if kept_attribute(key)
        }
        if kept:
            xattrs.write(self._top, diff, kept)
        os.utime(diff, ns=(model.st_atime_ns, model.st_mtime_ns), dir_fd=self._top)

    @hookimpl
    def apply(self, layer: str, archive: BinaryIO) -> Applied:
        lowers = self._lowers(layer)
        with changes.opened([self._diff(layer), *lowers]) as (upper, *below):
            whiteouts = OverlayWhiteouts(lambda path: changes.seen_below(below, path))
            try:
                with _plainly(f"layer {layer} cannot be unpacked"):
                    return Applied(size=unpack(archive, upper, whiteouts))
            except BadArchive as error:
                raise InvalidRequest(str(error)) from error

    @hookimpl
    def rootfs(self, layer: str, writable: bool) -> Overlay:
        lowers = self._lowers(layer)
        if len(lowers) >= _MOST_LOWERS:
            raise Unsupported(f"{len(lowers)} layers are more than an overlay takes ({_MOST_LOWERS})")
        directory = self._root / layer
        if writable:
            # An upper directory needs something below it, be it nothing.
            return Overlay(
                lowers=lowers or (self._nothing(),),
                upper=directory / "diff",
                work=directory / "work",
                options=OPTIONS,
            )
        # And one lower alone is no overlay without an upper.
        return Overlay(lowers=(directory / "diff", *(lowers or (self._nothing(),))), options=OPTIONS)

    @hookimpl
    def remove(self, layer: str) -> None:
        if not _LAYER.fullmatch(layer):
            return
        self._parents.pop(layer, None)
        gone = f".gone-{layer}-{os.getpid()}-{next(self._numbers)}"
        try:
            os.rename(layer, gone, src_dir_fd=self._top, dst_dir_fd=self._top)
        except FileNotFoundError:
            return
        self._deletions.add(gone)

    @hookimpl
    def changes(self, layer: str) -> list[Change]:
        with self._differences(layer) as found:
            listed = [Change(path=f"/{one.path}", kind=one.kind) for one in found]
        return sorted(listed, key=lambda change: change.path)

    @hookimpl
    def diff(self, layer: str, archive: BinaryIO) -> None:
        packing = Packing(archive)
        with self._differences(layer) as found:
            for one in found:
                if one.found is None:
                    packing.delete(one.path)
                elif not one.found.name.startswith(WHITEOUT):  # it would be read as a deletion
                    packing.add(one.path, one.found)
        packing.finish()

    @hookimpl
    def usage(self, layer: str) -> int:
        self._parent(layer)
        with changes.opened([self._diff(layer)]) as (upper,):
            return tree.tree_size(upper)

    @hookimpl
    def owned(self) -> list[str]:
        return sorted(name for name in os.listdir(self._top) if _LAYER.fullmatch(name))

    @hookimpl
    def sync(self, layer: str) -> None:
        self._parent(layer)
        tree.sync_file_system(self._top)

    @hookimpl
    def recover(self) -> list[str]:
        found = []
        for name in sorted(os.listdir(self._top)):
            if name.startswith(_ASIDE):
                found.append(
                    f"{'half-made' if name.startswith('.new-') else 'half-removed'} layer {name.split('-')[1]}"
                )
                self._deletions.add(name)
        return found

    @hookimpl
    def status(self) -> Mapping[str, str]:
        if self._facts is None:
            self._probe()
            self._facts = {
                "Backing Filesystem": _file_system(self._root),
                "Supports d_type": "true",
                "Using metacopy": "false",
                "Native Overlay Diff": "true",
                "userxattr": "false",
            }
        return self._facts

    # -- layers

    def _parent(self, layer: str) -> str | None:
        """The layer below. NotFound for a layer that is not there."""
        if layer in self._parents:
            return self._parents[layer]
        directory = self._root / layer
        if not _LAYER.fullmatch(layer) or not directory.is_dir():
            raise NotFound("layer", layer)
        try:
            text = (directory / "parent").read_text().strip()
        except FileNotFoundError:
            text = ""
        return self._parents.setdefault(layer, text or None)

    def _lowers(self, layer: str) -> tuple[Path, ...]:
        lowers: list[Path] = []
        seen = {layer}
        parent = self._parent(layer)
        while parent is not None:
            if parent in seen:
                raise Unavailable(f"the parents of layer {layer} go round in a circle")
            seen.add(parent)
            lowers.append(self._diff(parent))
            parent = self._parent(parent)
        return tuple(lowers)

    def _diff(self, layer: str) -> Path:
        return self._root / layer / "diff"

    @contextmanager
    def _differences(self, layer: str) -> Iterator[Iterator[Difference]]:
        lowers = self._lowers(layer)
        with (
            _plainly(f"the changes of layer {layer} cannot be read"),
            changes.opened([self._diff(layer), *lowers]) as (upper, *below),
        ):
            yield changes.differences(upper, below)

    def _nothing(self) -> Path:
        path = self._root / "nothing"
        path.mkdir(mode=0o755, exist_ok=True)
        return path

    # -- can it work here

    def _probe(self) -> None:
        """Mount a small overlay that nobody sees and delete in it: whiteouts and trusted attributes must work."""
        probe = self._root / f".new-probe-{os.getpid()}-{next(self._numbers)}"
        try:
            for name in ("lower/inner", "upper", "work"):
                (probe / name).mkdir(parents=True)
            (probe / "lower/file").write_bytes(b"")
            # volatile: without it, unmounting would sync the whole file system.
            merged = mounts.overlay(
                (probe / "lower",), probe / "upper", probe / "work", (*OPTIONS, "volatile")
            )
            try:
                os.unlink("file", dir_fd=merged)
                os.rmdir("inner", dir_fd=merged)
                os.mkdir("inner", dir_fd=merged)
            finally:
                os.close(merged)
            left = os.lstat(probe / "upper/file")
            if (
                not stat.S_ISCHR(left.st_mode)
                or os.getxattr(probe / "upper/inner", "trusted.overlay.opaque") != b"y"
            ):
                raise OSError(errno.ENOTSUP, "a deletion leaves no mark")
        except OSError as error:
            raise Unsupported(
                f"overlay2 does not work below {self._root} ({_file_system(self._root)}): {error.strerror}; "
                "put the data root on another file system (ext4, xfs), or use the storage driver vfs"
            ) from error
        finally:
            tree.remove(self._top, probe.name)


@contextmanager
def _plainly(what: str) -> Iterator[None]:
    """A full disk, and a tree that a container made too deep to be named, are said plainly; the rest stays as it is."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(f"{what}: {error.strerror}; free some space") from error
        if error.errno == errno.ENAMETOOLONG:
            raise InvalidRequest(
                f"{what}: its directories are nested deeper than a path can be long"
            ) from error
        raise


def _file_system(path: Path) -> str:
    """The type of the file system that `path` is on, as `docker info` says it."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            words = line.split()
            if words[2] == number:
                kind = words[words.index("-") + 1]
                return {"ext4": "extfs", "ext3": "extfs", "ext2": "extfs"}.get(kind, kind)
    return "unknown"
