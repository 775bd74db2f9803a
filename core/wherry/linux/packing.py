"""Trees into archives: entries as a walk finds them, with their content, hard links among them found again."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from wherry.linux import tree, xattrs
from wherry.linux.archive import WHITEOUT, kept_attribute
from wherry.linux.owners import Owners, attributes_inside, inside
from wherry.linux.paths import RESOLVE_BENEATH, open_regular
from wherry.linux.tar import CHUNK, Entry, Writer


class Packing:
    """A tar being written from trees: entries in the order they are given, hard links among them found again."""

    writer: Writer

    def __init__(self, archive: BinaryIO, owners: Owners | None = None) -> None:
        """`owners`: where the trees show other owners than they have, for what is written as it is inside."""
        self.writer = Writer(archive)
        self._owners = owners
        self._links: dict[tuple[int, int], str] = {}

    def add(self, path: str, found: tree.Found) -> None:
        """One entry named `path`, with its content; sockets, which no archive holds, are left out.

        What shrinks or grows meanwhile is filled up with zeros or cut: the archive stays whole.
        """
        kind = stat.S_IFMT(found.stat.st_mode)
        if kind == stat.S_IFSOCK:
            return
        entry = Entry(
            path + "/" if kind == stat.S_IFDIR else path,
            mode=found.stat.st_mode,
            uid=found.stat.st_uid,
            gid=found.stat.st_gid,
            mtime_ns=found.stat.st_mtime_ns,
        )
        if self._owners is not None:
            entry.uid, entry.gid = inside(self._owners, entry.uid, entry.gid)
        if found.stat.st_nlink > 1 and kind != stat.S_IFDIR:
            inode = (found.stat.st_dev, found.stat.st_ino)
            first = self._links.setdefault(inode, path)
            if first != path:
                entry.hard_link, entry.link = True, first
                self.writer.add(entry)
                return
        if kind == stat.S_IFREG:
            self._file(entry, found)
            return
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry.device = (os.major(found.stat.st_rdev), os.minor(found.stat.st_rdev))
        try:
            if kind == stat.S_IFLNK:
                entry.link = os.readlink(found.name, dir_fd=found.parent)
            entry.attributes = self._kept(xattrs.read(found.parent, found.name))
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno == errno.EINVAL:  # no link any more
                return
            raise
        self.writer.add(entry)

    def delete(self, path: str) -> None:
        """A whiteout: a layer's word for what it deletes."""
        place, slash, name = path.rpartition("/")
        self.writer.add(Entry(f"{place}{slash}{WHITEOUT}{name}", mode=stat.S_IFREG))

    def finish(self) -> None:
        self.writer.finish()

    def _file(self, entry: Entry, found: tree.Found) -> None:
        try:
            descriptor = open_regular(found.parent, found.name, RESOLVE_BENEATH, os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno == errno.EINVAL:
                return  # as below
            raise
        try:
            now = os.fstat(descriptor)
            if not os.path.samestat(now, found.stat):
                return  # replaced since it was found: whoever does that gets one of the two, and neither is wrong
            entry.size = now.st_size
            entry.attributes = self._kept(xattrs.read_open(descriptor))
            self.writer.add(entry)
            left = entry.size
            while left:
                chunk = os.read(descriptor, min(left, CHUNK))
                if not chunk:
                    chunk = bytes(min(left, CHUNK))
                self.writer.data(chunk)
                left -= len(chunk)
            self.writer.pad(entry.size)
        finally:
            os.close(descriptor)

    def _kept(self, attributes: dict[str, bytes]) -> dict[str, bytes]:
        kept = {key: value for key, value in attributes.items() if kept_attribute(key)}
        return kept if self._owners is None else attributes_inside(self._owners, kept)
