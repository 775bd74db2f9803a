"""The file that is written: one system call per batch, and the file stays parseable whatever happens.

A write that comes up short (a full disk) is taken back with ftruncate(2), so that the next record begins on a line of
its own; half a record that a crash left is cut off when the file is opened again. The file may be truncated under us
(`truncate -s0`): O_APPEND writes go to its end, wherever that is.

A file is never larger than `max-size` unless a single record is, or a line that came in pieces would be torn apart;
for such a line it may become twice as large. Nothing is synced here: at a power cut the last seconds of output are
lost, as they are for every program that writes a log.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from wherry.logfiles.form import Form, LineEncoder
from wherry.logfiles.limits import Limits
from wherry.logfiles.rotation import Rotation, open_for_append
from wherry.spec.log import Batch

_TORN: Final = 1 << 20


class LineSink:
    """A container's log, open for writing."""

    local: Final = True

    def __init__(self, path: Path, encoder: LineEncoder, form: Form, limits: Limits) -> None:
        self._descriptor = open_for_append(path)
        self._encoder: Final = encoder
        self._limit: Final = limits.max_bytes
        self._rotation: Final = Rotation(path, limits.max_files, limits.compress, form)
        self._in_pieces: Final[set[str]] = set()  # streams whose last line has not ended
        self._torn = False
        self._size = self._mend(os.fstat(self._descriptor).st_size)

    def write(self, batch: Batch) -> None:
        """Append the batch's records. OSError when the disk is full: then nothing of the batch is in the file (but
        for what went into files that it filled)."""
        data = self._encoder.encode(batch)
        if self._limit is not None and self._size + len(data) > self._limit:
            self._write_rotating(data, self._limit)
        else:
            self._append(data)
        if batch.partial:
            self._in_pieces.add(batch.stream)
        elif self._in_pieces:
            self._in_pieces.discard(batch.stream)

    def close(self) -> None:
        self._rotation.close()
        os.close(self._descriptor)

    def _write_rotating(self, data: bytes, limit: int) -> None:
        self._size = os.fstat(self._descriptor).st_size  # it may have been truncated
        if self._in_pieces and self._size + len(data) <= 2 * limit:
            self._append(data)
            return
        while data:
            room = limit - self._size
            # At the end of a record, at least one record into an empty file.
            end = len(data) if len(data) <= room else data.rfind(b"\n", 0, max(room, 0)) + 1
            if not end and not self._size:
                end = data.index(b"\n") + 1
            if end:
                self._append(data[:end])
                data = data[end:]
            if data:
                self._descriptor = self._rotation.rotate(self._descriptor)
                self._size = 0

    def _append(self, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        written = os.write(self._descriptor, data)
        if written != len(data):
            written += self._rest(data, written)
        self._torn = False
        self._size += written

    def _rest(self, data: bytes, written: int) -> int:
        """Write what a short write(2) left, or take back what it wrote and raise."""
        begin = written
        try:
            while written < len(data):
                more = os.write(self._descriptor, data[written:])
                if not more:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                written += more
        except OSError:
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)  # after O_APPEND: where our bytes end
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, max(end - written, 0))
                self._torn = False
            raise
        return written - begin

    def _mend(self, size: int) -> int:
        """Cut off half a record that a crash left; answers the file's size."""
        if not size or os.pread(self._descriptor, 1, size - 1) == b"\n":
            return size
        start = max(0, size - _TORN)
        end = os.pread(self._descriptor, size - start, start).rfind(b"\n") + 1
        if not end and start:
            self._torn = True  # too long for us to judge: the next record gets a line of its own
            return size
        os.ftruncate(self._descriptor, start + end)
        return start + end
