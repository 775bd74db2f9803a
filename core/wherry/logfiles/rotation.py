"""The names of a log's files, and what is done with the full ones.

    <name>        being written
    <name>.1      full, newest;  .2, .3, …: older
    <name>.1.gz   the same, compressed

Rotation gives every file the next number and is over in microseconds; readers find their place again by the file's
inode (`files`). Bringing full files to disk, and compressing them, takes long: a thread does it, which looks a file's
name up again when it is done, because rotations go on meanwhile.

A compressed file says in its header, as Docker's do, until when its records reach, and, which is ours, the inode
that it had before, so that a reader that holds that file still finds the next one.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import zlib
from pathlib import Path
from typing import Final

import msgspec

from wherry.logfiles.form import Form
from wherry.logfiles.times import ZERO, stamp

_CHUNK: Final = 256 * 1024
_LONGEST_LINE: Final = 1 << 20


class Names:
    """The names that the files of one log may have."""

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self.next: Final = path.with_name(path.name + ".new")
        self.compressing: Final = path.with_name(path.name + ".gz.tmp")

    def rotated(self, number: int) -> Path:
        """The plain file of that age; number 0 is the one being written."""
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def compressed(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}.gz")

    def numbers(self) -> list[int]:
        """The numbers of the full files that exist, newest (1) first."""
        found = set()
        start = self.path.name + "."
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.path.parent):
                number = name[len(start) :].removesuffix(".gz")
                if name.startswith(start) and number.isdecimal() and int(number):
                    found.add(int(number))
        return sorted(found)


class Rotation:
    """Moves full files on, in the process that writes them."""

    def __init__(self, path: Path, max_files: int, compress: bool, form: Form) -> None:
        self._names: Final = Names(path)
        self._max_files: Final = max_files
        self._compress: Final = compress
        self._form: Final = form
        self._lock: Final = threading.Lock()  # names change under it
        self._leaving: Final = threading.Event()
        self._worker: threading.Thread | None = None

    def rotate(self, descriptor: int) -> int:
        """Put a new, empty file in the place of the one written by `descriptor`; answers the new descriptor.

        The new file is made first: when that fails (OSError), nothing was moved.
        """
        fresh = open_for_append(self._names.next, os.O_TRUNC)
        with self._lock:
            self._shift()
            os.rename(self._names.next, self._names.path)
        os.close(descriptor)
        self._finish()
        return fresh

    def close(self) -> None:
        """Stop what is being finished; a later rotation takes it up again."""
        self._leaving.set()
        if self._worker is not None:
            self._worker.join(timeout=5)

    def _shift(self) -> None:
        last = self._max_files - 1
        for number in reversed(self._names.numbers()):
            for name in (self._names.rotated, self._names.compressed):
                with contextlib.suppress(FileNotFoundError):
                    if number >= last:
                        os.unlink(name(number))
                    else:
                        os.rename(name(number), name(number + 1))
        # Somebody may have deleted the file under us. With a single file, the new one's rename takes its place.
        if last:
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._names.path, self._names.rotated(1))

    def _finish(self) -> None:
        if self._max_files > 1 and (self._worker is None or not self._worker.is_alive()):
            self._worker = threading.Thread(target=self._work, name="log rotation", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        """Sync the newest full file; compress those that are not yet."""
        with contextlib.suppress(OSError):  # no promise rests on it
            sync(self._names.rotated(1))
        try:
            while self._compress and not self._leaving.is_set() and self._compress_one():
                pass
        except (OSError, zlib.error):
            # The disk is full, or somebody deletes files: what is not compressed stays readable as it is.
            self._names.compressing.unlink(missing_ok=True)

    def _compress_one(self) -> bool:
        """Compress the oldest plain file; False if there is none."""
        with self._lock:
            plain = [
                number for number in self._names.numbers() if os.path.exists(self._names.rotated(number))
            ]
            if not plain:
                return False
            source = self._names.rotated(plain[-1]).open("rb", buffering=0)
        with source:
            if not compress(source.fileno(), self._names.compressing, self._form, self._leaving):
                self._names.compressing.unlink(missing_ok=True)
                return False
            with self._lock:
                self._take_place(os.fstat(source.fileno()))
        return True

    def _take_place(self, was: os.stat_result) -> None:
        """Let the compressed file replace the plain one, under the name that this has now."""
        for number in self._names.numbers():
            with contextlib.suppress(FileNotFoundError):
                plain = self._names.rotated(number)
                if os.path.samestat(os.stat(plain), was):
                    os.rename(self._names.compressing, self._names.compressed(number))
                    os.unlink(plain)
                    return
        self._names.compressing.unlink(missing_ok=True)  # it became too old meanwhile


def open_for_append(path: Path, flags: int = 0) -> int:
    """A descriptor whose every write goes to the end, wherever that is by then: open(2) with O_APPEND."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | flags, 0o640)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def compress(source: int, target: Path, form: Form, leaving: threading.Event) -> bool:
    """Write a gzip file of the whole of `source`; False if told to leave before it was done."""
    extra = msgspec.json.encode({"lastTime": _last_time(source, form), "inode": os.fstat(source).st_ino})
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    checksum, position = 0, 0
    with target.open("wb") as file:
        # RFC 1952: deflate, FEXTRA, no time, made on Unix.
        file.write(b"\x1f\x8b\x08\x04\0\0\0\0\0\x03" + struct.pack("<H", len(extra)) + extra)
        while data := os.pread(source, _CHUNK, position):
            if leaving.is_set():
                return False
            position += len(data)
            checksum = zlib.crc32(data, checksum)
            file.write(packer.compress(data))
        file.write(packer.flush() + struct.pack("<LL", checksum, position & 0xFFFFFFFF))
    return True


def header(start: bytes) -> dict[str, object]:
    """What the header of a compressed file says of it; `start` is how the file begins. Empty for a foreign one."""
    if start[:3] != b"\x1f\x8b\x08" or len(start) < 12 or not start[3] & 4:
        return {}
    size = int.from_bytes(start[10:12], "little")
    try:
        found = msgspec.json.decode(start[12 : 12 + size])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _last_time(source: int, form: Form) -> str:
    """The time of the last record; Docker's zero time if there is none."""
    size = os.fstat(source).st_size
    decoder = form.decoder()
    for line in reversed(os.pread(source, _LONGEST_LINE, max(0, size - _LONGEST_LINE)).split(b"\n")):
        record = decoder.line(line)
        if record is not None:
            return stamp(record.time_ns)
    return ZERO
