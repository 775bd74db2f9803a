"""The directories that the entries of an archive lie in: found step by step, each in the descriptor of the one above.

So nothing is looked up twice, and whoever changes the tree meanwhile cannot lead a step elsewhere: a link is followed
only where the archive itself has not named a directory, and then by the kernel, inside a root.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Container
from typing import Final

from wherry.linux.paths import open_in_root

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST: Final = 64
_PATH_MAX: Final = 4096

Missing = Callable[[int, str, str], None]
"""`missing(directory, name, path)` makes a directory that is not there, or raises."""


class Parents:
    """Directories below `top`, by their paths, a few kept open. Links lead from `root`, in which `top` is at `place`."""

    def __init__(self, top: int, root: int, place: str, named: Container[str]) -> None:
        """`named`: paths of directories that the archive has made; a link found in the place of one was put there."""
        self._top, self._root, self._place, self._named = top, root, place, named
        self._open: dict[str, int] = {}

    def find(self, path: str, missing: Missing | None = None) -> int:
        """The directory at `path`, "" being the top: a descriptor that stays this object's.

        FileNotFoundError, NotADirectoryError, and what `missing` raises. ENAMETOOLONG: nobody could name it.
        """
        if (kept := self._open.get(path)) is not None:
            return kept
        if len(path) >= _PATH_MAX:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        names = path.split("/") if path else []
        known = len(names)
        while known and "/".join(names[:known]) not in self._open:
            known -= 1
        # A duplicate, because what is kept may be closed on the way.
        here = os.dup(self._open["/".join(names[:known])]) if known else os.dup(self._top)
        try:
            for depth in range(known, len(names)):
                inner = self._step(here, names[depth], "/".join(names[: depth + 1]), missing)
                os.close(here)
                here = inner
        except BaseException:
            os.close(here)
            raise
        if len(self._open) >= _MOST:
            self.close()
        self._open[path] = here
        return here

    def _step(self, directory: int, name: str, path: str, missing: Missing | None) -> int:
        try:
            return self._enter(directory, name, path)
        except (FileNotFoundError, NotADirectoryError):
            if missing is None:
                raise
        missing(directory, name, path)
        return self._enter(directory, name, path)

    def _enter(self, directory: int, name: str, path: str) -> int:
        try:
            return os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
        if path in self._named:
            raise NotADirectoryError(errno.ENOTDIR, "a directory was replaced by something else", path)
        return open_in_root(self._root, f"{self._place}/{path}", DIRECTORY)

    def forget(self, but: int) -> None:
        """Close what is kept, except for the descriptor that is in use: part of the tree has been removed."""
        for path in list(self._open):
            if self._open[path] != but:
                os.close(self._open.pop(path))

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
