"""The files of a log, as a reader in another process finds them while they are being rotated and compressed.

A file that is held open is known by its device and inode, whatever it is called by now; while it is held, no other
gets its inode. If it was compressed meanwhile, the compressed file remembers that inode (as older ones may, that had
it before: the newest is meant). From there `older` and `newer` find its neighbours. Rotation goes on meanwhile, so
each finding is checked again afterwards and, if anything moved, repeated.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from wherry.logfiles.form import Form
from wherry.logfiles.rotation import Names, header
from wherry.logfiles.times import Times

CHUNK: Final = 128 * 1024
LONGEST: Final = 8 << 20
"""Bytes after which a line without an end is no record, whatever it is."""
_MARK: Final = 32
_TRIES: Final = 1000

Identity = tuple[int, int]


class Plain:
    """A file that can be read again when there is more in it. Owns its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: Final = descriptor
        status = os.fstat(descriptor)
        self.identity: Final[Identity] = (status.st_dev, status.st_ino)
        self.position = 0
        self.limit: int | None = None
        """Where reading ends, whatever is written behind it."""
        self.bad = 0
        self._mark = b""  # what stood before `position`
        self._skipping = False

    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def seek(self, position: int) -> None:
        """Go on from there: the beginning of a line."""
        self.position = position
        self._mark = os.pread(self.descriptor, min(_MARK, position), position - min(_MARK, position))

    def read(self) -> bytes:
        """The next whole lines; empty at the end, for now."""
        length = CHUNK
        while True:
            data = self._pread(length)
            end = data.rfind(b"\n") + 1
            if end:
                lines, self._skipping, skipping = data[:end], False, self._skipping
                self._advance(lines)
                if not skipping:
                    return lines
                lines = lines[lines.index(b"\n") + 1 :]  # the end of what was too long
                if lines:
                    return lines
            elif len(data) < length:
                return b""
            elif length < LONGEST:
                length *= 2
            else:
                self.bad += not self._skipping
                self._skipping = True
                self._advance(data)

    def _pread(self, length: int) -> bytes:
        """What follows `position`. A file that was truncated, also if it has grown since, begins anew."""
        mark = len(self._mark)
        if self.limit is not None:
            length = max(0, min(length, self.limit - self.position))
        data = os.pread(self.descriptor, mark + length, self.position - mark)
        if data[:mark] != self._mark:
            self.position, self._mark, self._skipping = 0, b"", False
            return os.pread(self.descriptor, length, 0)
        return data[mark:]

    def _advance(self, data: bytes) -> None:
        self.position += len(data)
        self._mark = data[-_MARK:]

    def close(self) -> None:
        os.close(self.descriptor)


class Packed:
    """A compressed file, read as a stream: never more of it in memory than a chunk."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: Final = descriptor
        status = os.fstat(descriptor)
        self.identity: Final[Identity] = (status.st_dev, status.st_ino)
        said = header(os.pread(descriptor, 4096, 0))
        inode = said.get("inode")
        self.was: Final[Identity | None] = (status.st_dev, inode) if isinstance(inode, int) else None
        """The identity that it had before it was compressed."""
        last = said.get("lastTime")
        self.last_ns: Final[int | None] = _time(last) if isinstance(last, str) else None
        self.bad = 0
        self.rewind()

    def rewind(self) -> None:
        self._offset = 0
        self._input = b""
        self._rest = b""
        self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def read(self) -> bytes:
        """The next whole lines; empty at the end."""
        skipping = False
        while True:
            some = self._inflate()
            if not some:
                self.bad += bool(self._rest)
                self._rest = b""
                return b""
            data = self._rest + some
            end = data.rfind(b"\n") + 1
            begin = data.index(b"\n") + 1 if skipping and end else 0
            self._rest = data[end:]
            if len(self._rest) > LONGEST or (skipping and not end):
                self.bad += not skipping
                skipping, self._rest = True, b""
            elif begin < end:
                return data[begin:end]
            elif end:
                skipping = False

    def _inflate(self) -> bytes:
        try:
            while True:
                if self._unpacker.eof:  # several packed files may stand in one
                    self._input = self._unpacker.unused_data
                    self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
                if not self._input:
                    self._input = os.pread(self.descriptor, CHUNK, self._offset)
                    self._offset += len(self._input)
                    if not self._input:
                        return b""
                data = self._unpacker.decompress(self._input, CHUNK)
                self._input = self._unpacker.unconsumed_tail
                if data:
                    return data
        except zlib.error:
            self.bad += 1
            return b""

    def close(self) -> None:
        os.close(self.descriptor)


def _time(text: str) -> int | None:
    try:
        return Times().read(text)
    except ValueError:
        return None  # a header that is not ours


File = Plain | Packed


class Files:
    """The files of one log, newest to oldest: number 0 is being written, higher numbers are older."""

    def __init__(self, path: Path, form: Form) -> None:
        self.form: Final = form
        self._names: Final = Names(path)

    def newest(self) -> File | None:
        """The file being written; in the moment of a rotation the one before. None if there are none at all."""
        for _ in range(_TRIES):
            found = self._first(self._numbers())
            if found is None:
                return None
            number, file = found
            if number == 0 or not os.path.exists(self._names.path):
                return file
            file.close()
        return None

    def oldest(self) -> File | None:
        found = self._first(reversed(self._numbers()))
        if found is None:
            return None
        file = found[1]
        while older := self.older(file):  # it may have moved on while we looked
            file.close()
            file = older
        return file

    def older(self, file: File) -> File | None:
        """The file that was full just before this one."""
        for _ in range(_TRIES):
            number = self.number(file)
            if number is None:
                return None
            found = self._first(other for other in self._numbers_and_next() if other > number)
            moved = self.number(file) != number
            if found is None:
                if not moved:
                    return None
            elif moved or found[1].identity == file.identity:
                found[1].close()
            else:
                return found[1]
        return None

    def newer(self, file: File) -> File | None:
        """The file that was begun when this one was full. None: it is the newest.

        FileNotFoundError: this one was deleted, and what came after it cannot be told.
        """
        for _ in range(_TRIES):
            number = self.number(file)
            if number == 0:
                return None
            if number is None:
                raise FileNotFoundError(str(self._names.path))
            found = self._first(other for other in reversed(self._numbers()) if other < number)
            if found is None:
                if self.number(file) == number:
                    return None  # a rotation is under way, or broke off here
                continue
            there, following = found
            sure = not any(self._exists(other) for other in range(there + 1, number))
            sure = sure and self.number(following) == there
            # Last: a rotation moves the oldest first, so if this one has not moved, nothing that is newer had.
            if sure and self.number(file) == number:
                return following
            following.close()
        return None

    def number(self, file: File) -> int | None:
        """Which of the log's files this is by now; None if it was deleted."""
        if self._is_live(file):
            return 0
        for _ in range(
            3
        ):  # it may pass by while we look, and more than once only if rotation is faster than we are
            for number in self._numbers_and_next():
                found = self._open(number)
                if found is None:
                    continue
                found.close()
                was = found.was if isinstance(found, Packed) and isinstance(file, Plain) else None
                if file.identity in (found.identity, was):
                    return number
        return None

    def _is_live(self, file: File) -> bool:
        try:
            status = os.stat(self._names.path)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == file.identity

    def same(self, one: File, other: File) -> bool:
        """Whether these are one file, perhaps plain and compressed."""
        if one.identity == other.identity:
            return True
        if not isinstance(one, Packed) or one.was != other.identity:
            return False
        number = self.number(one)
        return number == self.number(other) and number == self.number(one)

    def rotated(self) -> bool:
        """Whether there are full files beside the one being written."""
        return bool(self._names.numbers())

    def _numbers(self) -> list[int]:
        return [0, *self._names.numbers()]

    def _numbers_and_next(self) -> list[int]:
        """The numbers, and the one that the oldest file gets if it is moved on while we look."""
        numbers = self._numbers()
        return [*numbers, numbers[-1] + 1]

    def _exists(self, number: int) -> bool:
        return os.path.exists(self._names.rotated(number)) or (
            number > 0 and os.path.exists(self._names.compressed(number))
        )

    def _first(self, numbers: Iterable[int]) -> tuple[int, File] | None:
        """The first of `numbers` that there is."""
        for number in numbers:
            file = self._open(number)
            if file is not None:
                return number, file
        return None

    def _open(self, number: int) -> File | None:
        # The plain file first: while it is being replaced by the compressed one, both are there.
        try:
            return Plain(_open(self._names.rotated(number)))
        except FileNotFoundError:
            pass
        if not number:
            return None
        try:
            return Packed(_open(self._names.compressed(number)))
        except FileNotFoundError:
            return None


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
