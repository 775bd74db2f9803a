"""Extended attributes of an entry of a directory, itself and not what a link points to: xattr(7)."""

from __future__ import annotations

import errno
import os


def write(directory: int, name: str, attributes: dict[str, bytes]) -> None:
    """Set attributes of `name` in the directory that the descriptor stands for: lsetxattr(2)."""
    path = f"/proc/self/fd/{directory}/{name}"
    for key, value in attributes.items():
        os.setxattr(path, key, value, follow_symlinks=False)


def read(directory: int, name: str) -> dict[str, bytes]:
    """All attributes of `name`; {} where the file system has none: llistxattr(2)."""
    return _read(f"/proc/self/fd/{directory}/{name}", follow=False)


def read_open(descriptor: int) -> dict[str, bytes]:
    """All attributes of an open file or directory: flistxattr(2)."""
    return _read(descriptor, follow=True)


def _read(what: int | str, *, follow: bool) -> dict[str, bytes]:
    try:
        keys = os.listxattr(what, follow_symlinks=follow)
        return {key: os.getxattr(what, key, follow_symlinks=follow) for key in sorted(keys)}
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return {}
        raise


def get(directory: int, name: str, key: str) -> bytes | None:
    """One attribute of `name`, or None: lgetxattr(2)."""
    try:
        return os.getxattr(f"/proc/self/fd/{directory}/{name}", key, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise
