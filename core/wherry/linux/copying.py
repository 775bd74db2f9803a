"""A whole tree copied, as cheaply as the file system allows: shared extents where it has them, never across links.

Somebody hostile may live in the target meanwhile (a volume that another container has mounted): what is made is reached
by descriptors, and its owner, mode and attributes are set on the very file that was made, whatever its name means by then.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Final

from wherry.linux import tree, xattrs
from wherry.linux.archive import kept_attribute

_PLACE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_FICLONE: Final = 0x40049409  # ioctl_ficlone(2)
_CHUNK: Final = 16 * 1024 * 1024
_NO_CLONE: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV, errno.ENOTTY, errno.ENOSYS, errno.EPERM)


def copy_tree(source: int, target: int) -> None:
    """Copy what is in the directory `source` into the empty directory `target`: owners, modes, times, xattrs, hard
    links, devices and holes. The directory's own looks too. Sockets are left out.

    OSError where somebody else changes the target meanwhile; nothing outside of it was touched.
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
        _dress(self._target, top, self._source, ".")
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
        if kind == stat.S_IFREG:
            made = self._file(found)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=found.parent), name, dir_fd=here)
            made = os.open(name, _PLACE, dir_fd=here)
        elif kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=here)
            made = os.open(name, _PLACE | os.O_DIRECTORY, dir_fd=here)
            self._times.append((found.path, found.stat))
        else:
            os.mknod(name, kind | 0o600, found.stat.st_rdev, dir_fd=here)
            made = os.open(name, _PLACE, dir_fd=here)
        try:
            if stat.S_IFMT(os.fstat(made).st_mode) != kind:
                raise OSError(errno.EBUSY, "somebody else changes the target", found.path)
            _dress(made, found.stat, found.parent, name)
        finally:
            os.close(made)

    def _link(self, first: str, name: str) -> None:
        place, _, target = first.rpartition("/")
        directory = tree.open_below(self._target, place)
        try:
            os.link(target, name, src_dir_fd=directory, dst_dir_fd=self._here, follow_symlinks=False)
        finally:
            os.close(directory)

    def _file(self, found: tree.Found) -> int:
        """A copy of a regular file; its descriptor, the caller's to close."""
        source = os.open(
            found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=found.parent
        )
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            target = os.open(found.name, flags, 0o600, dir_fd=self._here)
            try:
                if found.stat.st_size and not self._clone(source, target):
                    _copy_data(source, target, found.stat.st_size)
            except BaseException:
                os.close(target)
                raise
            return target
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


def _dress(made: int, found: os.stat_result, source: int, source_name: str) -> None:
    """Give `made` the owner, mode, attributes and times of what was found. By its descriptor, which O_PATH may have opened."""
    place = f"/proc/self/fd/{made}"
    os.chown(place, found.st_uid, found.st_gid)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(place, stat.S_IMODE(found.st_mode))
    for key, value in xattrs.read(source, source_name).items():
        if kept_attribute(key):
            try:
                os.setxattr(place, key, value)
            except OSError as error:
                # Some file systems keep no attributes, or not these: NFS, and tmpfs before 6.6 (user.*).
                if error.errno != errno.ENOTSUP:
                    raise
    if not stat.S_ISDIR(found.st_mode):
        os.utime(place, ns=(found.st_atime_ns, found.st_mtime_ns))


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
            copied = _copy_range(source, target, min(_CHUNK, end - start))
            if not copied:
                break
            start += copied
        position = end
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, count: int) -> int:
    """Within the kernel, between their positions: between file systems copy_file_range(2) may not, and sendfile(2) may."""
    try:
        return os.copy_file_range(source, target, count)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        return os.sendfile(target, source, None, count)
