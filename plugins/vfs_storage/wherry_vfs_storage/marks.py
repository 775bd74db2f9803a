"""What a layer's whiteouts do to a copy: they delete, but never what the layer itself made."""

from __future__ import annotations

import errno
import os
import stat

from wherry.linux import tree


class CopyWhiteouts:
    """`wherry.linux.archive.Whiteouts` for a directory that began as a copy of the parent's."""

    def __init__(self) -> None:
        self._made: set[int] = set()

    def hide(self, directory: int, name: str) -> None:
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            inner = tree.open_below(directory, name)
            try:
                self.hide_all(inner)
            finally:
                os.close(inner)
            if found.st_ino not in self._made:
                _remove_empty(directory, name)
        elif found.st_ino not in self._made:
            os.unlink(name, dir_fd=directory)

    def hide_all(self, directory: int) -> None:
        """Everything in it that the layer did not make; a directory above something that it made stays."""
        directories: list[str] = []
        for found in tree.walk(directory):
            if found.is_directory:
                if found.stat.st_ino not in self._made:
                    directories.append(found.path)
            elif found.stat.st_ino not in self._made:
                os.unlink(found.name, dir_fd=found.parent)
        for path in reversed(directories):
            place, _, name = path.rpartition("/")
            parent = tree.open_below(directory, place)
            try:
                _remove_empty(parent, name)
            finally:
                os.close(parent)

    def hides(self, found: os.stat_result) -> bool:
        return False

    def made(self, directory: int, name: str) -> None:
        self._made.add(os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino)

    def below(self, path: str) -> tuple[os.stat_result, dict[str, bytes]] | None:
        return None  # a directory of the parent is there already


def _remove_empty(directory: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
