"""The tar format, read as a stream from somebody who is not trusted.

Understood are ustar, pax, GNU (long names, base-256 numbers, sparse files of every version) and the seventh edition's.
Headers are believed only as far as they were checked; every table is bounded. Nothing here touches a file system.
Source: POSIX.1 pax; GNU tar manual, "Basic Tar Format" and "Sparse Formats".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from wherry.linux.tar import BLOCK, CHUNK, END, XATTR, BadArchive, Entry, shown

MAX_EXTENSION: Final = 1024 * 1024
"""Bytes of one pax or GNU extension header: xattrs of one file are at most 64 KiB each."""
MAX_SPARSE: Final = 100_000
"""Pieces of one sparse file."""

_MAX_SIZE: Final = 1 << 62
_MAX_TIME: Final = 1 << 40  # seconds; the kernel clamps to what the file system can keep

# What a header says is there, by its type flag.
_KINDS: Final = {
    b"0": stat.S_IFREG, b"\0": stat.S_IFREG, b"7": stat.S_IFREG, b"S": stat.S_IFREG, b"1": 0, b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"5": stat.S_IFDIR, b"6": stat.S_IFIFO,
}  # fmt: skip


def read(archive: BinaryIO) -> Reader:
    """Iterate over the entries of an uncompressed archive. BadArchive for whatever is wrong with it."""
    return Reader(archive)


class Reader:
    """`for entry in reader:` and, before the next one, at most one `reader.content(write)` of it."""

    def __init__(self, archive: BinaryIO) -> None:
        self._archive = archive
        self._buffer: bytes | memoryview = b""
        self._fetched = 0
        self._left = 0  # of the present entry's data in the archive
        self._padding = 0
        self._entry: Entry | None = None

    def __iter__(self) -> Iterator[Entry]:
        while True:
            self._skip(self._left + self._padding)
            self._left = self._padding = 0
            entry = self._next()
            if entry is None:
                return
            self._entry = entry
            yield entry

    def content(self, write: Callable[[int, bytes | memoryview], object]) -> None:
        """The content of the present entry as `write(offset, bytes)`, holes left out."""
        entry = self._entry
        assert entry is not None
        pieces = [(0, entry.size)] if entry.pieces is None else entry.pieces
        for offset, length in pieces:
            while length:
                chunk = self._some(length)
                write(offset, chunk)
                offset += len(chunk)
                length -= len(chunk)
                self._left -= len(chunk)

    @property
    def offset(self) -> int:
        """Where in the archive the content of the present entry begins, before any of it was asked for."""
        return self._fetched - len(self._buffer)

    # -- the stream

    def _fetch(self) -> None:
        self._buffer = self._archive.read(CHUNK)
        self._fetched += len(self._buffer)

    def _some(self, most: int) -> bytes | memoryview:
        """At least one byte, at most `most`."""
        if not self._buffer:
            self._fetch()
            if not self._buffer:
                raise self._fault("the archive ends in the middle of")
        if len(self._buffer) <= most:
            chunk, self._buffer = self._buffer, b""
            return chunk
        view = memoryview(self._buffer)
        chunk, self._buffer = view[:most], view[most:]
        return chunk

    def _take(self, size: int) -> bytes:
        first = self._some(size)
        if len(first) == size:
            return bytes(first)
        parts, missing = [bytes(first)], size - len(first)
        while missing:
            parts.append(bytes(self._some(missing)))
            missing -= len(parts[-1])
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        if size > len(self._buffer) + CHUNK and self._archive.seekable():
            # Stop short of the end, so that an archive which is cut off there is still noticed.
            ahead = size - len(self._buffer) - 1
            self._archive.seek(ahead, os.SEEK_CUR)
            self._fetched += ahead
            self._buffer, size = b"", 1
        while size > 0:
            size -= len(self._some(size))

    def _at_end(self) -> bool:
        if not self._buffer:
            self._fetch()
        return not self._buffer

    def _fault(self, text: str, name: str = "") -> BadArchive:
        name = name or (self._entry.name if self._entry is not None else "its first header")
        return BadArchive(f"{text} {shown(name)}")

    # -- headers

    def _next(self) -> Entry | None:
        records: list[tuple[str, bytes]] = []
        long_name = long_link = None
        while True:
            # Some writers leave the closing zero blocks out; the end of the stream at a border is an end.
            if self._at_end():
                return None
            header = self._take(BLOCK)
            if header == END:
                return None
            kind = header[156:157]
            self._check(header)
            size = self._number(header[124:136], "size")
            if kind in b"xXgLK":
                if not 0 <= size <= MAX_EXTENSION:
                    raise self._fault(f"an extension header of {size} bytes is too long, after")
                data = self._take(size) if size else b""
                self._skip(-size % BLOCK)
                if kind == b"L":
                    long_name = data.split(b"\0", 1)[0]
                elif kind == b"K":
                    long_link = data.split(b"\0", 1)[0]
                elif (
                    kind != b"g"
                ):  # a global header says nothing that a root file system needs (git writes its commit)
                    records = self._records(data)
                continue
            if kind == b"V":  # a volume's label
                self._skip(size + -size % BLOCK)
                continue
            return self._member(header, kind, size, records, long_name, long_link)

    def _check(self, header: bytes) -> None:
        stated = self._number(header[148:156], "checksum")
        blank = header[:148] + b"        " + header[156:]
        total = sum(blank)
        if stated != total and stated != total - 256 * sum(byte > 127 for byte in blank):
            raise self._fault("this is no tar archive, or it is damaged: wrong checksum after")

    def _number(self, data: bytes, what: str) -> int:
        if data[0] & 0x80:  # base-256, two's complement in what is left of the field
            value = int.from_bytes(data, "big") & ((1 << (8 * len(data) - 1)) - 1)
            return value - (1 << (8 * len(data) - 1)) if data[0] & 0x40 else value
        text = data.split(b"\0", 1)[0].strip(b" ")
        if not text:
            return 0
        if text.strip(b"01234567"):
            raise self._fault(f"the {what} in a header is no number, after")
        return int(text, 8)

    def _records(self, data: bytes) -> list[tuple[str, bytes]]:
        records: list[tuple[str, bytes]] = []
        position = 0
        while position < len(data):
            space = data.find(b" ", position, position + 12)
            length = data[position:space]
            if space < 0 or not length.isdigit():
                if not data[position:].strip(b"\0"):
                    break
                raise self._fault("a malformed pax header after")
            end = position + int(length)
            record = data[space + 1 : end]
            if end > len(data) or not record.endswith(b"\n") or b"=" not in record:
                raise self._fault("a malformed pax header after")
            key, _, value = record[:-1].partition(b"=")
            records.append((os.fsdecode(key), value))
            position = end
        return records

    def _member(
        self, header: bytes, kind: bytes, size: int, records: list[tuple[str, bytes]],
        long_name: bytes | None, long_link: bytes | None,
    ) -> Entry:  # fmt: skip
        name = header[:100].split(b"\0", 1)[0]
        if header[257:263] == b"ustar\0" and header[345]:
            name = header[345:500].split(b"\0", 1)[0] + b"/" + name
        link = header[157:257].split(b"\0", 1)[0]
        pax = dict(records)
        name = pax.get("GNU.sparse.name") or pax.get("path") or long_name or name
        link = pax.get("linkpath") or long_link or link
        entry = Entry(os.fsdecode(name))
        if b"\0" in name or b"\0" in link:
            raise self._fault("a name holds a NUL:", entry.name)
        if kind not in _KINDS:
            raise self._fault(f"type {kind!r} is not supported:", entry.name)
        file_type = _KINDS[kind]
        if file_type == stat.S_IFREG and kind != b"S" and name.endswith(b"/"):
            file_type = stat.S_IFDIR  # the seventh edition's way to say it
        self._entry = entry
        entry.mode = file_type | self._number(header[100:108], "mode") & 0o7777
        entry.hard_link = kind == b"1"
        entry.link = os.fsdecode(link)
        entry.uid = self._pax_number(pax, "uid", header[108:116])
        entry.gid = self._pax_number(pax, "gid", header[116:124])
        for owner in (entry.uid, entry.gid):
            if not 0 <= owner < 0xFFFFFFFF:
                raise self._fault(f"{owner} is no user or group:", entry.name)
        entry.mtime_ns = self._time(pax.get("mtime"), header[136:148])
        if file_type in (stat.S_IFCHR, stat.S_IFBLK):
            entry.device = (self._number(header[329:337], "device"), self._number(header[337:345], "device"))
            if not (0 <= entry.device[0] < 1 << 12 and 0 <= entry.device[1] < 1 << 20):
                raise self._fault("no such device number:", entry.name)
        entry.attributes = {key[len(XATTR) :]: value for key, value in pax.items() if key.startswith(XATTR)}
        if file_type == stat.S_IFREG:
            size = self._pax_number(pax, "size", None, size)
            if not 0 <= size < _MAX_SIZE:
                raise self._fault(f"a size of {size} bytes makes no sense:", entry.name)
            self._left, self._padding = size, -size % BLOCK
            entry.size = size
            self._sparse(entry, header, kind, pax, records)
        return entry

    def _pax_number(self, pax: dict[str, bytes], key: str, data: bytes | None, value: int = 0) -> int:
        text = pax.get(key)
        if not text:
            return value if data is None else self._number(data, key)
        if not text.isdigit() or len(text) > 20:
            raise self._fault(f"the pax {key} is no number:")
        return int(text)

    def _time(self, text: bytes | None, data: bytes) -> int:
        if not text:
            return max(-_MAX_TIME, min(_MAX_TIME, self._number(data, "time"))) * 1_000_000_000
        whole, _, fraction = text.lstrip(b"-").partition(b".")
        if not whole.isdigit() or len(whole) > 20 or (fraction and not fraction.isdigit()):
            raise self._fault("the pax mtime is no time:")
        value = min(int(whole), _MAX_TIME) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
        return -value if text.startswith(b"-") else value

    # -- sparse files

    def _sparse(
        self,
        entry: Entry,
        header: bytes,
        kind: bytes,
        pax: dict[str, bytes],
        records: list[tuple[str, bytes]],
    ) -> None:
        if kind == b"S":
            numbers, entry.size = self._sparse_of_header(header), self._number(header[483:495], "size")
        elif pax.get("GNU.sparse.major") == b"1":
            entry.size = self._pax_number(pax, "GNU.sparse.realsize", None, entry.size)
            numbers = self._sparse_of_data()
        elif "GNU.sparse.map" in pax:
            entry.size = self._pax_number(pax, "GNU.sparse.size", None, entry.size)
            numbers = [self._plain(text) for text in pax["GNU.sparse.map"].split(b",") if text]
        elif "GNU.sparse.size" in pax:
            entry.size = self._pax_number(pax, "GNU.sparse.size", None, entry.size)
            numbers = [
                self._plain(value)
                for key, value in records
                if key in ("GNU.sparse.offset", "GNU.sparse.numbytes")
            ]
        else:
            return
        pieces = list(zip(numbers[::2], numbers[1::2], strict=False))
        end = 0
        for offset, length in pieces:
            if offset < end or length < 0 or offset + length > entry.size:
                raise self._fault("the map of a sparse file makes no sense:", entry.name)
            end = offset + length
        if len(numbers) % 2 or sum(length for _, length in pieces) != self._left or entry.size >= _MAX_SIZE:
            raise self._fault("the map of a sparse file does not fit its data:", entry.name)
        entry.pieces = [piece for piece in pieces if piece[1]]

    def _sparse_of_header(self, header: bytes) -> list[int]:
        numbers = self._pairs(header[386:482])
        more = header[482]
        while more:
            block = self._take(BLOCK)
            numbers += self._pairs(block[:504])
            more = block[504]
            if len(numbers) > 2 * MAX_SPARSE:
                raise self._fault("a sparse file of too many pieces:")
        return numbers

    def _pairs(self, data: bytes) -> list[int]:
        numbers: list[int] = []
        for start in range(0, len(data), 24):
            if not data[start]:
                break
            numbers.append(self._number(data[start : start + 12], "sparse offset"))
            numbers.append(self._number(data[start + 12 : start + 24], "sparse size"))
        return numbers

    def _sparse_of_data(self) -> list[int]:
        """Version 1.0: the map is text, in whole blocks at the start of the data."""
        text, count = b"", None
        numbers: list[int] = []
        while count is None or len(numbers) < 2 * count:
            if self._left < BLOCK or (b"\n" not in text and len(text) > BLOCK):
                raise self._fault("the map of a sparse file is cut short:")
            text += self._take(BLOCK)
            self._left -= BLOCK
            *lines, text = text.split(b"\n")
            for line in lines:
                if count is None:
                    count = self._plain(line)
                    if count > MAX_SPARSE:
                        raise self._fault("a sparse file of too many pieces:")
                elif len(numbers) < 2 * count:
                    numbers.append(self._plain(line))
        return numbers

    def _plain(self, text: bytes) -> int:
        if not text.isdigit() or len(text) > 20:
            raise self._fault("the map of a sparse file is no list of numbers:")
        return int(text)
