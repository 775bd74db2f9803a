"""How an overlay says that something below is gone: a character device 0:0, or the attribute `opaque` on a directory.

Source: kernel overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final

from wherry.linux import xattrs

OPAQUE: Final = "trusted.overlay.opaque"
_MARK: Final = os.makedev(0, 0)


def is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == _MARK


def is_opaque(parent: int, name: str) -> bool:
    """Whether the directory `name` hides what is below it. `x` marks only that whiteouts may be written as attributes."""
    return xattrs.get(parent, name, OPAQUE) == b"y"


Below = Callable[[str], tuple[os.stat_result, dict[str, bytes]] | None]


class OverlayWhiteouts:
    """What `.wh.` entries of a layer's archive become in its upper directory: `wherry.linux.archive.Whiteouts`."""

    def __init__(self, below: Below) -> None:
        self._below = below

    def hide(self, directory: int, name: str) -> None:
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            os.mknod(name, stat.S_IFCHR | 0o000, _MARK, dir_fd=directory)
            return
        # The layer made it, and it hides what is below; a directory would let it through.
        if stat.S_ISDIR(found.st_mode):
            xattrs.write(directory, name, {OPAQUE: b"y"})

    def hide_all(self, directory: int) -> None:
        try:
            os.setxattr(directory, OPAQUE, b"y")
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                raise OSError(
                    error.errno, "the file system of the layers has no trusted attributes"
                ) from error
            raise

    def hides(self, found: os.stat_result) -> bool:
        return is_whiteout(found)

    def made(self, directory: int, name: str) -> None:
        """An upper directory holds nothing but what its layer made: there is nothing to remember."""

    def below(self, path: str) -> tuple[os.stat_result, dict[str, bytes]] | None:
        return self._below(path)
