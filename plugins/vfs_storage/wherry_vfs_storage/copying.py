"""A whole tree copied, as cheaply as the file system allows: shared extents where it has them, never across links."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Final

from wherry.linux import tree, xattrs
from wherry.linux.archive import kept_attribute

_FICLONE: Final = 0x40049409  # ioctl_ficlone(2)
_CHUNK: Final = 16 * 1024 * 1024
_NO_CLONE: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOTTY, errno.ENOSYS, errno.EPERM)


def copy_tree(source: int, target: int) -> None:
    """Copy what is in the directory `source` into the empty directory `target`: owners, modes, times, xattrs, hard
    links, devices and holes. The directory's own looks too. Sockets are left out.
    """
    copying = _Copying(source, target)
    copying.run()


class _Copying:
    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._links: dict[tuple[int, int], str] = {}
        self._times: list[tuple[str, os.stat_result]] = []
        self._place = ""
        self._here = os.dup(target)
        self._clones = True

    def run(self) -> None:
        try:
            for found in tree.walk(self._source):
                place = found.path.rpartition("/")[0]
                if place != self._place:
                    os.close(self._here)
                    self._here = tree.open_below(self._target, place)
                    self._place = place
                self._copy(found)
        finally:
            os.close(self._here)
        top = os.fstat(self._source)
        self._dress(self._target, ".", top, self._source, ".")
        self._times.append(("", top))
        for path, found_stat in self._times:
            directory = tree.open_below(self._target, path)
            try:
                os.utime(directory, ns=(found_stat.st_atime_ns, found_stat.st_mtime_ns))
            finally:
                os.close(directory)

    def _copy(self, found: tree.Found) -> None:
        name, here = found.name, self._here
        kind = stat.S_IFMT(found.stat.st_mode)
        if kind == stat.S_IFSOCK:
            return
        if found.stat.st_nlink > 1 and kind != stat.S_IFDIR:
            first = self._links.setdefault((found.stat.st_dev, found.stat.st_ino), found.path)
            if first != found.path:
                self._link(first, name)
                return
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=here)
            self._times.append((found.path, found.stat))
        elif kind == stat.S_IFREG:
            self._file(found)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=found.parent), name, dir_fd=here)
        else:
            os.mknod(name, found.stat.st_mode, found.stat.st_rdev, dir_fd=here)
        self._dress(here, name, found.stat, found.parent, name)
        if kind != stat.S_IFDIR:
            times = (found.stat.st_atime_ns, found.stat.st_mtime_ns)
            os.utime(name, ns=times, dir_fd=here, follow_symlinks=False)

    def _link(self, first: str, name: str) -> None:
        place, _, target = first.rpartition("/")
        directory = tree.open_below(self._target, place)
        try:
            os.link(target, name, src_dir_fd=directory, dst_dir_fd=self._here, follow_symlinks=False)
        finally:
            os.close(directory)

    def _file(self, found: tree.Found) -> None:
        source = os.open(
            found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=found.parent
        )
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            target = os.open(found.name, flags, 0o600, dir_fd=self._here)
            try:
                if found.stat.st_size and not self._clone(source, target):
                    _copy_data(source, target, found.stat.st_size)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _clone(self, source: int, target: int) -> bool:
        if not self._clones:
            return False
        try:
            fcntl.ioctl(target, _FICLONE, source)
            return True
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            self._clones = False
            return False

    @staticmethod
    def _dress(here: int, name: str, found: os.stat_result, source: int, source_name: str) -> None:
        os.chown(name, found.st_uid, found.st_gid, dir_fd=here, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=here)
        kept = {key: value for key, value in xattrs.read(source, source_name).items() if kept_attribute(key)}
        if kept:
            xattrs.write(here, name, kept)


def _copy_data(source: int, target: int, size: int) -> None:
    """Data only, so that holes stay holes: lseek(2) SEEK_DATA."""
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                break
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(source, start, os.SEEK_SET)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            copied = os.copy_file_range(source, target, min(_CHUNK, end - start))
            if not copied:
                break
            start += copied
        position = end
    os.ftruncate(target, size)
