"""The layers of `vfs` on disk: each a directory that needs nothing but itself to be a root file system.

<root>/<layer>/fs       the whole tree
<root>/<layer>/parent   the id of the layer that it began as a copy of, or nothing
<root>/<layer>/made     empty; its time is when the copy was finished
<root>/.new-…  .gone-…  half-made and half-removed layers, which `recover` deletes
"""

from __future__ import annotations

import errno
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from wherry.errors import Conflict, InvalidRequest, NotFound, Unavailable
from wherry.linux import tree
from wherry.linux.archive import WHITEOUT, unpack
from wherry.linux.copying import copy_tree
from wherry.linux.deletions import Deletions
from wherry.linux.packing import Packing
from wherry.linux.tar import BadArchive
from wherry.spec import hookimpl
from wherry.spec.storage import Applied, Bind, Change
from wherry_vfs_storage.changes import Difference, differences
from wherry_vfs_storage.marks import CopyWhiteouts

_LAYER: Final = re.compile(r"[0-9a-f]{64}")
_ASIDE: Final = (".new-", ".gone-")


class VfsStorage:
    """Storage driver `vfs`. `root` is its own; it is made if missing."""

    SPEC = (1, 0)

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._numbers = itertools.count()
        self._deletions = Deletions(self._top)

    @hookimpl
    def create(self, layer: str, parent: str | None) -> None:
        if not _LAYER.fullmatch(layer):
            raise InvalidRequest(f'"{layer}" is no id of a layer: 64 hexadecimal digits')
        if parent is not None:
            self._known(parent)
        aside = f".new-{layer}-{os.getpid()}-{next(self._numbers)}"
        try:
            with _plainly(f"layer {layer} cannot be made"):
                self._make(self._root / aside, parent)
                os.rename(aside, layer, src_dir_fd=self._top, dst_dir_fd=self._top)
        except BaseException as error:
            tree.remove(self._top, aside)
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise Conflict(f"layer {layer} exists already") from error
            raise

    def _make(self, place: Path, parent: str | None) -> None:
        (place / "fs").mkdir(mode=0o755, parents=True)
        if parent is None:
            (place / "fs").chmod(0o755)  # whatever the umask is
        else:
            with _opened(self._fs(parent)) as source, _opened(place / "fs") as target:
                copy_tree(source, target)
            (place / "parent").write_text(parent)
        (place / "made").touch()

    @hookimpl
    def apply(self, layer: str, archive: BinaryIO) -> Applied:
        self._known(layer)
        with _opened(self._fs(layer)) as top:
            try:
                with _plainly(f"layer {layer} cannot be unpacked"):
                    return Applied(size=unpack(archive, top, CopyWhiteouts()))
            except BadArchive as error:
                raise InvalidRequest(str(error)) from error

    @hookimpl
    def rootfs(self, layer: str, writable: bool) -> Bind:
        self._known(layer)
        return Bind(path=self._fs(layer), read_only=not writable)

    @hookimpl
    def remove(self, layer: str) -> None:
        if not _LAYER.fullmatch(layer):
            return
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
        """What it added or changed; that a copy of the rest lies here too is this driver's affair."""
        seen: set[tuple[int, int]] = set()
        total = 0
        with self._differences(layer) as found:
            for one in found:
                if one.found is None or one.found.is_directory:
                    continue
                inode = (one.found.stat.st_dev, one.found.stat.st_ino)
                if inode not in seen:
                    seen.add(inode)
                    total += one.found.stat.st_size
        return total

    @hookimpl
    def owned(self) -> list[str]:
        return sorted(name for name in os.listdir(self._top) if _LAYER.fullmatch(name))

    @hookimpl
    def sync(self, layer: str) -> None:
        self._known(layer)
        tree.sync_file_system(self._top)

    @hookimpl
    def recover(self) -> list[str]:
        found = []
        for name in sorted(os.listdir(self._top)):
            if name.startswith(_ASIDE):
                kind = "half-made" if name.startswith(".new-") else "half-removed"
                found.append(f"{kind} layer {name.split('-')[1]}")
                self._deletions.add(name)
        return found

    @hookimpl
    def status(self) -> Mapping[str, str]:
        return {}

    # -- layers

    def _fs(self, layer: str) -> Path:
        return self._root / layer / "fs"

    def _known(self, layer: str) -> None:
        if not _LAYER.fullmatch(layer) or not self._fs(layer).is_dir():
            raise NotFound("layer", layer)

    @contextmanager
    def _differences(self, layer: str) -> Iterator[Iterator[Difference]]:
        self._known(layer)
        directory = self._root / layer
        try:
            parent = (directory / "parent").read_text()
        except FileNotFoundError:
            parent = ""
        with (
            _plainly(f"the changes of layer {layer} cannot be read"),
            _opened(directory / "fs") as top,
        ):
            if not parent:
                yield differences(top, None, 0)
                return
            made = (directory / "made").stat().st_mtime_ns
            with _opened(self._fs(parent)) as below:
                yield differences(top, below, made)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


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
