"""The layers of images: the archives they came as, and what the storage driver made of them.

    blobs/sha256/<diff id>            the layer's tar as it came (or compressed by us), for `save` and for repair
    layers/<driver>/<chain id>.json   says that the storage driver has this layer, whole and synced
    layers/<driver>/<chain id>.loading  a layer that is being made; found at start-up, it is removed

A layer's id at the storage driver is its chain id. The order is: blob synced, intention written, layer made and synced,
record synced. So a record is never ahead of its layer, and a layer lost by the driver is made again from its blob.
All methods that change anything expect the store's lock to be held.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from wherry.errors import InvalidRequest, NotFound, Unavailable, WherryError
from wherry.images import streams
from wherry.plugins import Driver
from wherry.spec.services import Log
from wherry.spec.storage import Applied
from wherry.state import atomic

_LEVEL: Final = 1
"""Of compression: 385 MB/s, and 11 % larger than the default of zlib, which makes 21."""
_RESERVE: Final = 64 * 1024 * 1024
"""Bytes that an archive from outside must leave free on the disk."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A layer that is there. `size` in bytes as `docker images` counts, `tar_size` that of its uncompressed tar."""

    diff_id: str
    parent: str = ""
    size: int = 0
    tar_size: int = 0


_decode: Final = msgspec.json.Decoder(Record)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that was stored."""

    diff_id: str
    tar_size: int


class Layers:
    """`root` is the images' own directory."""

    def __init__(self, root: Path, storage: Driver, log: Log) -> None:
        self._storage, self._log = storage, log
        self._blobs = root / "blobs" / "sha256"
        self._records = root / "layers" / storage.name
        self._aside = root / "tmp"
        for directory in (self._blobs, self._records, self._aside):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._numbers = itertools.count()
        self._known: dict[str, Record] = {}
        self._sizes: dict[str, int] = {}
        self._making: set[str] = set()
        self._open()

    def _open(self) -> None:
        for leftover in self._aside.iterdir():
            leftover.unlink(missing_ok=True)
        owned = set(self._storage.call("owned"))
        for path in sorted(self._records.glob("*.loading")):
            layer = path.stem
            if not (self._records / f"{layer}.json").exists():
                self._storage.call("remove", layer=layer)
                self._log.info("removed a layer of an image that was half loaded", layer=layer[:12])
            path.unlink()
        for path in sorted(self._records.glob("*.json")):
            try:
                record = _decode.decode(path.read_bytes())
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                self._log.warning(
                    f"the record of a layer is damaged and set aside: {error}", layer=path.stem[:12]
                )
                path.rename(path.with_suffix(".damaged"))
                continue
            self._sizes[record.diff_id] = record.tar_size
            if path.stem in owned:
                self._known[path.stem] = record
            else:
                self._log.warning(
                    "the storage driver has lost a layer; it will be made again", layer=path.stem[:12]
                )

    # -- what is there

    def owns(self, layer: str) -> bool:
        """Whether a layer of the storage driver belongs to an image, or to one that is being loaded."""
        return layer in self._known or layer in self._making

    def known(self) -> list[str]:
        return list(self._known)

    def get(self, layer: str) -> Record | None:
        return self._known.get(layer)

    def has_blob(self, diff_id: str) -> bool:
        return self._blob(diff_id).exists() and diff_id in self._sizes

    def tar_size(self, diff_id: str) -> int:
        """Bytes of a layer's uncompressed tar."""
        return self._sizes[diff_id]

    @contextmanager
    def archive(self, diff_id: str) -> Iterator[BinaryIO]:
        """A layer's uncompressed tar. NotFound if its blob is lost."""
        try:
            file = self._blob(diff_id).open("rb")
        except FileNotFoundError as error:
            raise NotFound(
                "layer", diff_id, f"the archive of layer {diff_id} is lost; load the image again"
            ) from error
        with file:
            yield streams.opened(file)[0]

    def _blob(self, diff_id: str) -> Path:
        return self._blobs / diff_id.removeprefix("sha256:")

    # -- taking in

    @contextmanager
    def spool(self) -> Iterator[Spool]:
        """What will be a layer: a plain tar is written to it, and `keep` makes a blob of it. It needs no lock."""
        with self.scratch() as (path, file):
            yield Spool(path, file, self._room)

    def keep(self, spool: Spool) -> Taken:
        """The blob, for whoever holds the store's lock until an image needs it."""
        return self._keep(spool.path, spool.file, spool.finish())

    def take(self, stream: BinaryIO, *, digest: str | None = None, diff_id: str | None = None) -> Taken:
        """Store a layer's archive, compressed as it came or by us if it came plain.

        InvalidRequest if the bytes are not those of `digest`, or the tar in them not that of `diff_id`.
        """
        came, inside = streams.Measure(), streams.Measure()
        with self.scratch() as (path, file):
            spool = Spool(path, file, self._room)

            def see(data: bytes) -> None:
                came(data)
                if kind:
                    spool.raw(data)

            kind = ""
            opened, kind = streams.opened(stream, see)  # which does not read on before it is asked
            while data := opened.read(streams.CHUNK):
                inside(data)
                if not kind:
                    spool(data)
            if kind:
                # What follows the compressed data belongs to the blob's digest all the same.
                while rest := stream.read(streams.CHUNK):
                    see(rest)
            if digest is not None and came.digest != digest:
                raise InvalidRequest(
                    f"a layer's archive has the digest {came.digest}, and should have {digest}"
                )
            if diff_id is not None and inside.digest != diff_id:
                raise InvalidRequest(f"a layer has the digest {inside.digest}, and the image says {diff_id}")
            spool.finish()
            return self._keep(path, file, Taken(diff_id=inside.digest, tar_size=inside.size))

    def _keep(self, path: Path, file: BinaryIO, taken: Taken) -> Taken:
        file.flush()
        os.fsync(file.fileno())
        path.rename(self._blob(taken.diff_id))
        atomic.sync_directory(self._blobs)
        self._sizes[taken.diff_id] = taken.tar_size
        return taken

    @contextmanager
    def scratch(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A file that is gone afterwards, unless it was renamed."""
        path = self._aside / f"{os.getpid()}-{next(self._numbers)}"
        try:
            with path.open("x+b") as file:
                yield path, file
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise Unavailable(f"the archive cannot be stored: {error.strerror}") from error
            raise
        finally:
            path.unlink(missing_ok=True)

    def _room(self) -> None:
        """Refuse what would fill the disk."""
        facts = os.statvfs(self._aside)
        if facts.f_bavail * facts.f_frsize < _RESERVE:
            raise Unavailable("the disk of the data root is full; free some space")

    def copy(self, stream: BinaryIO, file: BinaryIO) -> None:
        """All of `stream` into `file`, as long as there is room."""
        count = 0
        while data := stream.read(streams.CHUNK):
            if count % 64 == 0:
                self._room()
            file.write(data)
            count += 1
        file.flush()

    # -- making and removing

    def ensure(self, chain: Sequence[str], diff_ids: Sequence[str]) -> int:
        """Have the storage driver hold every layer of a chain, bottom first; answers their size in bytes.

        What is missing is made from its blob. On an error the layers made until then stay: `prune` removes them.
        """
        parent: str | None = None
        total = 0
        for layer, diff_id in zip(chain, diff_ids, strict=True):
            record = self._known.get(layer) or self._make(layer, parent, diff_id)
            total += record.size
            parent = layer
        return total

    def _make(self, layer: str, parent: str | None, diff_id: str) -> Record:
        intention = self._records / f"{layer}.loading"
        self._making.add(layer)
        try:
            atomic.replace(intention, b"")
            # Without a record, whatever the driver has by this name is not to be trusted.
            self._storage.call("remove", layer=layer)
            try:
                self._storage.call("create", layer=layer, parent=parent)
                with self.archive(diff_id) as archive:
                    applied: Applied = self._storage.call("apply", layer=layer, archive=archive)
                self._storage.call("sync", layer=layer)
                record = Record(
                    diff_id=diff_id, parent=parent or "", size=applied.size, tar_size=self._size_of(diff_id)
                )
                atomic.promise(self._records / f"{layer}.json", msgspec.json.encode(record))
            except BaseException:
                self._storage.call("remove", layer=layer)
                raise
            finally:
                intention.unlink(missing_ok=True)
            atomic.sync_directory(self._records)
            self._known[layer] = record
            return record
        finally:
            self._making.discard(layer)

    def _size_of(self, diff_id: str) -> int:
        """Known from taking the blob or from another record; else (records lost) measured again."""
        size = self._sizes.get(diff_id)
        if size is None:
            with self.archive(diff_id) as archive:
                size = sum(map(len, iter(lambda: archive.read(streams.CHUNK), b"")))
            self._sizes[diff_id] = size
        return size

    def prune(self, needed: set[str], needed_blobs: set[str]) -> list[str]:
        """Remove the layers, records and blobs that nobody needs; answers the chain ids, topmost first."""
        gone = [layer for layer in self._known if layer not in needed]
        gone.sort(key=self._depth, reverse=True)
        for layer in gone:
            # The record first: a record must never say more than there is.
            (self._records / f"{layer}.json").unlink(missing_ok=True)
            del self._known[layer]
            try:
                self._storage.call("remove", layer=layer)
            except WherryError as error:
                self._log.warning(f"a layer cannot be removed: {error}", layer=layer[:12])
        for path in list(self._blobs.iterdir()):
            diff_id = f"sha256:{path.name}"
            if diff_id not in needed_blobs:
                path.unlink(missing_ok=True)
                self._sizes.pop(diff_id, None)
        return gone

    def _depth(self, layer: str) -> int:
        depth = 0
        record: Record | None = self._known.get(layer)
        while record is not None and record.parent:
            depth += 1
            record = self._known.get(record.parent)
        return depth


class Spool:
    """Writes a blob: plain bytes compressed, or bytes that already are, as they come."""

    def __init__(self, path: Path, file: BinaryIO, room: Callable[[], None]) -> None:
        self.path, self.file, self._room = path, file, room
        self._measure = streams.Measure()
        self._compressor: Any = None
        self._written = 0

    def __call__(self, data: bytes | memoryview) -> None:
        if self._compressor is None:
            from isal import isal_zlib

            self._compressor = isal_zlib.compressobj(_LEVEL, wbits=31)
        self._measure(data)
        self.raw(self._compressor.compress(data))

    def raw(self, data: bytes) -> None:
        if (
            self._written // (64 * streams.CHUNK) != (self._written + len(data)) // (64 * streams.CHUNK)
            or not self._written
        ):
            self._room()
        self.file.write(data)
        self._written += len(data)

    def finish(self) -> Taken:
        if self._compressor is not None:
            self.file.write(self._compressor.flush())
        return Taken(diff_id=self._measure.digest, tar_size=self._measure.size)


class SpoolWriter(io.RawIOBase):
    """A spool as a file to write to: what a storage driver's `diff` is handed."""

    def __init__(self, spool: Spool) -> None:
        super().__init__()
        self._spool = spool

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._spool(data)
        return len(data)
