"""A position in a container's log, across files, that can be asked again when there is more.

The reader holds one file at a time. At its end it asks which file came next; if there is one, the file is complete,
and is read once more, since a line may have been written between the two questions. So nothing is lost or repeated
while another process writes, rotates and compresses. A reader that was so slow that its file was deleted goes on with
the oldest there is, and says so by a record of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wherry.logfiles.files import File, Files, Packed, Plain
from wherry.logfiles.form import Form
from wherry.logfiles.search import begin, wanted
from wherry.spec.log import Query, Record, Stream

_GAP: Final = b"wherry: lines are missing here, the log was rotated faster than it was read\n"


class LineReader:
    """A `wherry.spec.log.LogReader`.

    `bad` counts the lines that are no records, `gaps` how often files were deleted before they were read to the end.
    """

    def __init__(self, path: Path, form: Form, query: Query) -> None:
        self._files: Final = Files(path, form)
        self._query: Final = query
        self._keep: Final = wanted(query)
        self._decoder: Final = form.decoder()
        self._file: File | None = None
        self._skip = 0
        self._end: File | None = None  # held open, so that no other file gets its inode
        self._last_ns = 0
        self._repeats_until = -1
        self._missing: list[Record] = []
        self._bad = 0
        self.gaps = 0
        self.finished = False
        self._begin()

    @property
    def bad(self) -> int:
        return self._bad + self._decoder.bad + (self._file.bad if self._file else 0)

    def stop_at_end(self) -> None:
        """Read no further than to where the log ends now."""
        self._end = self._files.newest()
        if self._end is None:
            self.finished = True
        elif isinstance(self._end, Plain):
            self._end.limit = self._end.size()
            if self._file is not None:
                self._limit(self._file)

    def read(self) -> Sequence[Record]:
        while not self.finished:
            if self._file is None:
                self._begin()
            chunk = self._chunk()
            if not chunk:
                break
            records = self._chosen(self._decoder.decode(chunk))
            if records:
                return records
        return []

    def close(self) -> None:
        self.finished = True
        if self._file is not None:
            self._leave(self._file)
        if self._end is not None:
            self._end.close()
            self._end = None

    def _begin(self) -> None:
        start = begin(self._files, self._query)
        if start is not None:
            self._skip = start.skip
            self._enter(start.file)

    def _chunk(self) -> bytes:
        """The next lines, of this file or of the next; empty at the end, for now or for ever (`finished`)."""
        while self._file is not None:
            chunk = b"" if self._is_too_old(self._file) else self._file.read()
            if chunk or not self._move_on(self._file):
                return chunk
        return b""

    def _move_on(self, file: File) -> bool:
        """At the end of a file: False if that is all for now."""
        repeats_until = -1
        try:
            following = self._files.newer(file)
        except FileNotFoundError:
            following, repeats_until = self._after_gap(), self._last_ns
        if following is None:
            until = self._query.until_ns
            self.finished = until is not None and time.time_ns() > until
            return False
        if isinstance(file, Plain):
            position = file.position
            if file.read():  # written between our reading and its being full
                file.seek(position)
                following.close()
                return True
        if self._end is not None and self._files.same(file, self._end):
            following.close()
            self.finished = True
            return False
        self._repeats_until = repeats_until
        self._leave(file)
        self._enter(following)
        return True

    def _after_gap(self) -> File | None:
        if self._end is not None and self._files.number(self._end) is None:
            self.finished = True
            return None
        following = self._files.oldest()
        if following is not None:
            self.gaps += 1
            # With a single file a deleted one is what every rotation leaves, and says nothing.
            if self._files.rotated():
                stream: Stream = "stderr" if self._query.stderr else "stdout"
                self._missing = [Record(time_ns=self._last_ns + 1, stream=stream, data=_GAP)]
        return following

    def _leave(self, file: File) -> None:
        self._bad += file.bad
        self._file = None
        file.close()

    def _enter(self, file: File) -> None:
        self._file = file
        self._limit(file)

    def _limit(self, file: File) -> None:
        if isinstance(file, Plain) and isinstance(self._end, Plain) and file.identity == self._end.identity:
            file.limit = self._end.limit

    def _is_too_old(self, file: File) -> bool:
        return isinstance(file, Packed) and file.last_ns is not None and file.last_ns < self._query.since_ns

    def _chosen(self, records: list[Record]) -> list[Record]:
        if not records:
            return records
        self._last_ns = records[-1].time_ns
        until = self._query.until_ns
        self.finished = until is not None and self._last_ns > until
        chosen = [record for record in records if self._keep(record)]
        if self._repeats_until >= 0:
            chosen = [record for record in chosen if record.time_ns > self._repeats_until]
        if self._skip:
            skipped = min(self._skip, len(chosen))
            self._skip -= skipped
            chosen = chosen[skipped:]
        if self._missing and chosen:
            chosen = [*self._missing, *chosen]
            self._missing = []
        return chosen
