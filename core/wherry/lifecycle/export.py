"""export: a mounted root file system as a tar, read by descriptors while the container may change it."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO, Final

from wherry.linux import paths, tree, xattrs
from wherry.linux.tar import Entry, Writer
from wherry.linux.tree import Found

CHUNK: Final = 1 << 20


def whole(root: int, archive: BinaryIO) -> None:
    """Write everything below `root`, hard links as links, nothing that is mounted on it.

    A file that shrinks meanwhile is filled with zeros.
    """
    writer = Writer(archive)
    links: dict[tuple[int, int], str] = {}
    for found in tree.walk(root, one_mount=True):
        _add(writer, found, links)
    writer.finish()


def _add(writer: Writer, found: Found, links: dict[tuple[int, int], str]) -> None:
    status, kind = found.stat, stat.S_IFMT(found.stat.st_mode)
    if kind == stat.S_IFSOCK:
        return
    entry = Entry(
        name=found.path + ("/" if found.is_directory else ""),
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
    )
    if kind == stat.S_IFLNK:
        entry.link = os.readlink(found.name, dir_fd=found.parent)
    elif kind == stat.S_IFREG:
        first = links.setdefault((status.st_dev, status.st_ino), found.path)
        if status.st_nlink > 1 and first != found.path:
            entry.hard_link, entry.link = True, first
        else:
            _file(writer, found, entry)
            return
    writer.add(entry)


def _file(writer: Writer, found: Found, entry: Entry) -> None:
    try:
        descriptor = paths.open_regular(
            found.parent, found.name, paths.RESOLVE_NO_XDEV | paths.RESOLVE_BENEATH, os.O_NOFOLLOW
        )
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.EINVAL:
            return  # it was a file when it was found
        if error.errno != errno.EXDEV:
            raise
        writer.add(entry)  # /etc/hosts and its like are mounted on it: the image's place for them, empty
        return
    try:
        status = os.fstat(descriptor)
        entry.size = status.st_size
        entry.attributes = xattrs.read(found.parent, found.name)
        writer.add(entry)
        left = entry.size
        while left:
            chunk = os.read(descriptor, min(left, CHUNK)) or bytes(min(left, CHUNK))
            writer.data(chunk)
            left -= len(chunk)
        writer.pad(entry.size)
    finally:
        os.close(descriptor)
