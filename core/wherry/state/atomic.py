"""Files that are always whole: the old content or the new, never a mixture.

`replace` promises nothing about a power cut; `promise` does: the content has reached the disk when it returns. The
name needs one `sync_directory` per operation, however many files it wrote. (A synced replace costs 1.5 ms, so what
need not be promised is not.)
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

_counter = itertools.count()


def replace(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Give `path` this content by a rename: whole for every reader, and after a SIGKILL; not after a power cut."""
    _write(path, content, mode, sync=False)


def promise(path: Path, content: bytes, mode: int = 0o600) -> None:
    """As `replace`, and the content is on the disk; call `sync_directory(path.parent)` once to make the name so."""
    _write(path, content, mode, sync=True)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: fsync(2) on the directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable: fsync(2)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes, mode: int, *, sync: bool) -> None:
    aside = f"{path}.{os.getpid()}-{next(_counter)}.tmp"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
        os.rename(aside, path)
    except BaseException:
        os.unlink(aside)
        raise
    finally:
        os.close(descriptor)
