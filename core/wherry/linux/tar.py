"""The tar format: what an entry is, and how it is written so that equal entries are equal bytes.

Written is ustar, with a pax header only for what ustar cannot say. Reading, which is the harder half, is in `tar_reading`.
Source: POSIX.1 pax; star's SCHILY.xattr records.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import BinaryIO, Final

BLOCK: Final = 512
CHUNK: Final = 256 * 1024
END: Final = bytes(BLOCK)
XATTR: Final = "SCHILY.xattr."


class BadArchive(ValueError):
    """The archive is not what it should be; the message names the entry at fault where there is one."""


@dataclass(slots=True)
class Entry:
    """One member of an archive. `mode` has the type bits of stat(2); `hard_link` is set for a hard link, and `link` names
    what it or a symbolic link points to. `size` is that of the content, holes included.
    """

    name: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: str = ""
    hard_link: bool = False
    device: tuple[int, int] = (0, 0)
    attributes: dict[str, bytes] = field(default_factory=dict)
    pieces: list[tuple[int, int]] | None = None
    """Of a sparse file: (offset, length) of what the archive holds of it."""


class Writer:
    """Writes entries as ustar, with a pax header only for what ustar cannot say. `finish` closes the archive's end."""

    def __init__(self, archive: BinaryIO) -> None:
        self._write = archive.write

    def add(self, entry: Entry) -> None:
        """Write a header; of a regular file exactly `size` bytes follow, by `data` and then `pad(size)`."""
        name, link = os.fsencode(entry.name), os.fsencode(entry.link)
        records: list[tuple[bytes, bytes]] = []
        if len(name) > 100:
            records.append((b"path", name))
        if len(link) > 100:
            records.append((b"linkpath", link))
        numbers = {
            "uid": entry.uid,
            "gid": entry.gid,
            "size": entry.size,
            "mtime": entry.mtime_ns // 1_000_000_000,
        }
        for key, limit in (
            ("uid", 0o7777777),
            ("gid", 0o7777777),
            ("size", 0o77777777777),
            ("mtime", 0o77777777777),
        ):
            if not 0 <= numbers[key] <= limit:
                records.append((key.encode(), str(numbers[key]).encode()))
                numbers[key] = 0
        records += [(os.fsencode(XATTR + key), value) for key, value in sorted(entry.attributes.items())]
        if records:
            body = b"".join(_record(key, value) for key, value in records)
            base = b"PaxHeaders/" + name.rstrip(b"/").rsplit(b"/", 1)[-1]
            self._write(_header(base[:100], 0o644, 0, 0, len(body), 0, b"x", b"", (0, 0)))
            self._write(body + bytes(-len(body) % BLOCK))
        kind = b"1" if entry.hard_link else _FLAGS[stat.S_IFMT(entry.mode)]
        self._write(
            _header(
                name[:100], entry.mode & 0o7777, numbers["uid"], numbers["gid"], numbers["size"],
                numbers["mtime"], kind, link[:100], entry.device,
            )
        )  # fmt: skip

    def data(self, chunk: bytes | memoryview) -> None:
        self._write(chunk)

    def pad(self, size: int) -> None:
        if size % BLOCK:
            self._write(bytes(-size % BLOCK))

    def finish(self) -> None:
        self._write(END * 2)


_FLAGS: Final = {
    stat.S_IFREG: b"0", stat.S_IFLNK: b"2", stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}  # fmt: skip


def _header(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    kind: bytes,
    link: bytes,
    device: tuple[int, int],
) -> bytes:
    front = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    back = b"%s%sustar\00000%s%07o\0%07o\0" % (kind, link.ljust(100, b"\0"), bytes(64), *device)
    back = back.ljust(BLOCK - 156, b"\0")
    total = sum(front) + 8 * 32 + sum(back)
    return front + b"%06o\0 " % total + back


def _record(key: bytes, value: bytes) -> bytes:
    """`length key=value`, where length counts its own digits."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + 1
    while len(rest) + len(str(length)) != length:
        length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)


def shown(name: str) -> str:
    """A name fit for one line of a message."""
    text = name.encode("utf-8", "backslashreplace").decode()
    text = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in text)
    return f'"{text[:200]}…"' if len(text) > 200 else f'"{text}"'
