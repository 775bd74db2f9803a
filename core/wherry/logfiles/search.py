"""Where to begin: the first record that a query wants, found without reading what comes before it.

Times rise within a log, so a plain file is searched by halving; its last N records are found from its end by blocks.
A compressed file can only be read through, and is, once, unless its header says that it ends too early.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from wherry.logfiles.files import LONGEST, File, Files, Packed, Plain
from wherry.logfiles.form import Form
from wherry.spec.log import Query, Record

_NEAR: Final = 64 * 1024
_BLOCK: Final = 64 * 1024
_LARGEST_BLOCK: Final = 1 << 20


@dataclass(slots=True)
class Start:
    """A file at its position, and how many wanted records are to be passed over from there."""

    file: File
    skip: int = 0


def wanted(query: Query) -> Callable[[Record], bool]:
    """Whether a record is one that the query asks for, `tail` aside."""
    since, until = query.since_ns, query.until_ns
    streams = {name for name, asked in (("stdout", query.stdout), ("stderr", query.stderr)) if asked}
    if len(streams) == 2 and until is None and not since:
        return lambda record: True
    if until is None:
        return lambda record: record.time_ns >= since and record.stream in streams
    return lambda record: since <= record.time_ns <= until and record.stream in streams


def begin(files: Files, query: Query) -> Start | None:
    """Where to begin to read; None if there is no log yet."""
    if query.tail is None and not query.since_ns:
        file = files.oldest()
        return Start(file) if file else None
    file = files.newest()
    tail = max(query.tail, 0) if query.tail is not None else None
    keep = wanted(query)
    while file is not None:
        if tail is not None and not _ends_before(file, query.since_ns):
            found, skip = _from_end(file, query, tail, keep, files.form)
            if found == tail:
                return Start(file, skip)
            tail -= found
        first = _first_time(file, files.form)
        if _ends_before(file, query.since_ns) or (first is not None and first <= query.since_ns):
            if isinstance(file, Plain):
                file.seek(_position(file, query.since_ns, files.form))
            return Start(file)
        older = files.older(file)
        if older is None:
            return Start(file)
        file.close()
        file = older
    return None


def _ends_before(file: File, time_ns: int) -> bool:
    return isinstance(file, Packed) and file.last_ns is not None and file.last_ns < time_ns


def _from_end(
    file: File, query: Query, tail: int, keep: Callable[[Record], bool], form: Form
) -> tuple[int, int]:
    """(how many of the last `tail` wanted records are in this file, how many before them are not wanted).

    Leaves the file where they begin, or at its beginning.
    """
    if isinstance(file, Packed):
        count = _count(file, keep, form)
        file.rewind()
        return min(count, tail), max(0, count - tail)
    begin = _position(file, query.since_ns, form) if query.since_ns else 0
    end = _position(file, query.until_ns + 1, form) if query.until_ns is not None else _whole(file)
    return _seek_from_end(file, begin, end, tail, keep, form), 0


def _position(file: Plain, time_ns: int, form: Form) -> int:
    """Where the first record from `time_ns` on begins, or will begin."""
    low, size = 0, _whole(file)
    high = size
    while high - low > _NEAR:
        middle = (low + high) // 2
        after = next(_records(file, middle, high, form, inside=True), None)
        if after is None or after[1].time_ns >= time_ns:
            high = middle
        else:
            low = after[0]
    return next((at for at, record in _records(file, low, size, form) if record.time_ns >= time_ns), size)


def _records(
    file: Plain, offset: int, end: int, form: Form, inside: bool = False
) -> Iterator[tuple[int, Record]]:
    """(where it begins, record) from `offset` on; `inside`: the line that `offset` is in is passed over."""
    decoder = form.decoder()
    begin, rest = offset, b""
    while offset < end:
        data = os.pread(file.descriptor, min(_NEAR, end - offset), offset)
        if not data:
            return  # truncated meanwhile
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            record = None if inside else decoder.line(line)
            if record is not None:
                yield begin, record
            inside = False
            begin += len(line) + 1
        if len(rest) > LONGEST:
            begin, rest, inside = offset, b"", True


def _seek_from_end(
    file: Plain, begin: int, end: int, tail: int, keep: Callable[[Record], bool], form: Form
) -> int:
    """Go to the last `tail` wanted records between `begin` and `end` (both at lines), or to `begin` if there are
    fewer; answers how many."""
    decoder = form.decoder()
    found, position, block = 0, end, _BLOCK
    rest = b""  # the end of a line that begins further to the front
    if not tail:
        file.seek(end)
        return 0
    while position > begin:
        start = max(begin, position - block)
        data = os.pread(file.descriptor, position - start, start) + rest
        position, block = start, min(block * 2, _LARGEST_BLOCK)
        head = data.find(b"\n") + 1 if start > begin else 0
        if len(data) > LONGEST and head == len(data):
            rest = b"\n"  # no record; its end is enough
            continue
        rest, lines = data[:head], data[head:]
        if not lines:
            continue
        count = sum(map(keep, decoder.decode(lines)))
        if found + count >= tail:
            file.seek(start + head + _cut(lines, tail - found, keep, form))
            return tail
        found += count
    file.seek(begin)
    return found


def _whole(file: Plain) -> int:
    """Where the last line that has its newline ends."""
    end = file.size()
    while end:
        start = max(0, end - _LARGEST_BLOCK)
        newline = os.pread(file.descriptor, end - start, start).rfind(b"\n") + 1
        if newline:
            return start + newline
        end = start
    return 0


def _cut(lines: bytes, tail: int, keep: Callable[[Record], bool], form: Form) -> int:
    """The offset of the `tail`-th wanted record from the end of `lines`."""
    decoder = form.decoder()
    offset = len(lines)
    for line in reversed(lines.split(b"\n")[:-1]):
        offset -= len(line) + 1
        record = decoder.line(line)
        if record is not None and keep(record):
            tail -= 1
            if not tail:
                break
    return offset


def _count(file: Packed, keep: Callable[[Record], bool], form: Form) -> int:
    decoder = form.decoder()
    count = 0
    while chunk := file.read():
        count += sum(map(keep, decoder.decode(chunk)))
    file.bad = 0  # they are counted when they are read
    return count


def _first_time(file: File, form: Form) -> int | None:
    """The time of a file's first record, None if it has none. Leaves the file at its beginning."""
    decoder = form.decoder()
    found = None
    while found is None and (chunk := file.read()):
        found = next((record.time_ns for record in decoder.decode(chunk)), None)
    file.bad = 0
    if isinstance(file, Plain):
        file.seek(0)
    else:
        file.rewind()
    return found
