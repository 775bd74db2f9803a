"""The files of a container's directory that it has mounted: it may have written anything into them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

LARGEST: Final = 1 << 20
"""Bytes that are read of one."""


def read(path: Path) -> str | None:
    """A file's text, bytes that are no UTF-8 kept as they are; None if there is none. At most a megabyte of it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read(LARGEST).decode(errors="surrogateescape")


def write(path: Path, text: str) -> None:
    """Give a file this text without changing which file it is: it may be mounted."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        content = text.encode(errors="surrogateescape")
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
        os.fchmod(descriptor, 0o644)
    finally:
        os.close(descriptor)
