"""An initramfs as the kernel unpacks it: the `newc` form of cpio.

Source: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field


@dataclass
class Archive:
    """Entries in order; a directory must be added before what lies in it."""

    _parts: list[bytes] = field(default_factory=list)
    _count: int = 0

    def directory(self, path: str, mode: int = 0o755) -> None:
        self._entry(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._entry(path, stat.S_IFREG | mode, data)

    def finish(self) -> bytes:
        """The whole archive; nothing can be added afterwards."""
        self._entry("TRAILER!!!", 0, b"")
        return b"".join(self._parts)

    def _entry(self, path: str, mode: int, data: bytes) -> None:
        self._count += 1
        name = path.encode() + b"\0"
        # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        fields = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % number for number in fields)
        self._parts += (_padded(header + name), _padded(data))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
