"""Archives into directories: a hostile tar is unpacked below a directory and never outside of it.

Every entry is created by name in the descriptor of its parent directory, and the parent is resolved by openat2(2) as
chroot(2) would: a link in the archive leads nowhere but into the tree itself. What `.wh.` names mean is the caller's:
an overlay makes device nodes of them, a plain copy deletes.

It decides nothing about images: it knows trees and archives only.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO, Final, Protocol

from wherry.linux import tree, xattrs
from wherry.linux.paths import open_in_root
from wherry.linux.tar import BadArchive, Entry, shown
from wherry.linux.tar_reading import read

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
_RESERVED: Final = ".wh..wh."

# Faults that an entry's own words cause; anything else (no space, input or output error) is the machine's.
_FAULTS: Final = frozenset({
    errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.EFBIG, errno.EINVAL, errno.EISDIR,
    errno.ENOENT, errno.EEXIST, errno.EMLINK, errno.ERANGE, errno.E2BIG, errno.EOVERFLOW,
})  # fmt: skip
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY
_OPEN_PARENTS: Final = 64


def kept_attribute(name: str) -> bool:
    """Whether an extended attribute belongs to the file, and not to the host or to an overlay that holds it."""
    if name.startswith("user."):
        return not name.startswith("user.overlay.")
    return name == "security.capability" or name.startswith("system.posix_acl_")


class Whiteouts(Protocol):
    """What a layer's deletions mean in a tree. All calls come between two entries, with an open parent directory."""

    def hide(self, directory: int, name: str) -> None:
        """`.wh.<name>`: what is below the layer by this name shall not be seen; what the layer made stays."""

    def hide_all(self, directory: int) -> None:
        """`.wh..wh..opq`: nothing of what is below the layer in this directory shall be seen."""

    def hides(self, found: os.stat_result) -> bool:
        """Whether what is there is itself the mark of a deletion."""

    def made(self, directory: int, name: str) -> None:
        """The layer made this entry, or named a directory that was there."""

    def below(self, path: str) -> tuple[os.stat_result, dict[str, bytes]] | None:
        """The directory that is at `path` below the layer: what a parent that the archive does not name looks like."""


def unpack(archive: BinaryIO, root: int, whiteouts: Whiteouts | None = None) -> int:
    """Unpack an uncompressed tar into the directory `root`; answers the bytes of the files that it made.

    Names are taken as relative to `root`, `..` is refused. A later entry replaces an earlier one. Owners, modes, times,
    extended attributes, hard links, devices and holes are kept. BadArchive names the entry at fault; what was made
    until then stays. Without `whiteouts`, `.wh.` names are ordinary.
    """
    unpacking = _Unpacking(root, whiteouts)
    try:
        reader = read(archive)
        for entry in reader:
            try:
                unpacking.entry(entry, reader.content)
            except OSError as error:
                if error.errno in _FAULTS:
                    raise BadArchive(f"{shown(entry.name)} cannot be unpacked: {error.strerror}") from error
                raise
        unpacking.settle()
        return unpacking.size
    finally:
        unpacking.close()


class _Content(Protocol):
    def __call__(self, write: _Write) -> None: ...


class _Write(Protocol):
    def __call__(self, offset: int, chunk: bytes | memoryview, /) -> object: ...


class _Unpacking:
    def __init__(self, root: int, whiteouts: Whiteouts | None) -> None:
        self._root, self._whiteouts = root, whiteouts
        self._parents: dict[str, int] = {}
        self._times: dict[str, int] = {}
        self.size = 0

    def close(self) -> None:
        for descriptor in self._parents.values():
            os.close(descriptor)
        self._parents.clear()

    def entry(self, entry: Entry, content: _Content) -> None:
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise BadArchive(f'{shown(entry.name)} has ".." in its path')
        if not parts:
            if not stat.S_ISDIR(entry.mode):
                raise BadArchive(f"{shown(entry.name)} would replace the root by something else")
            self._dress(self._root, ".", entry, "")
            return
        name = parts.pop()
        place = "/".join(parts)
        parent = self._parent(place, entry)
        if self._whiteouts is not None and name.startswith(WHITEOUT):
            self._whiteout(self._whiteouts, parent, name, entry)
            return
        path = f"{place}/{name}" if place else name
        kind = stat.S_IFMT(entry.mode)
        if entry.hard_link:
            self._link(parent, name, entry)
        elif kind == stat.S_IFREG:
            self._file(parent, name, entry, content)
        elif kind == stat.S_IFDIR:
            self._directory(parent, name)
            self._dress(parent, name, entry, path)
        elif kind == stat.S_IFLNK:
            self._make(parent, name, lambda: os.symlink(entry.link, name, dir_fd=parent))
            self._dress(parent, name, entry, path)
        else:
            device = os.makedev(*entry.device)
            self._make(parent, name, lambda: os.mknod(name, kind | 0o600, device, dir_fd=parent))
            self._dress(parent, name, entry, path)
        if self._whiteouts is not None:
            self._whiteouts.made(parent, name)

    def settle(self) -> None:
        """Give the directories their times, now that nothing is made in them any more."""
        for path, mtime in self._times.items():
            try:
                descriptor = open_in_root(self._root, path, _DIRECTORY | os.O_NOFOLLOW)
            except OSError as error:
                if error.errno in _FAULTS:  # a later entry replaced it
                    continue
                raise
            try:
                os.utime(descriptor, ns=(mtime, mtime))
            finally:
                os.close(descriptor)

    # -- parents

    def _parent(self, place: str, entry: Entry) -> int:
        found = self._parents.get(place)
        if found is not None:
            return found
        try:
            found = open_in_root(self._root, place or ".", _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            found = self._make_parents(place, entry)
        if len(self._parents) >= _OPEN_PARENTS:
            self.close()
        self._parents[place] = found
        return found

    def _make_parents(self, place: str, entry: Entry) -> int:
        """Directories that the archive does not name: as they are below the layer, else root's and 0755."""
        upper = os.dup(self._root)
        try:
            path = ""
            for name in place.split("/"):
                path = f"{path}/{name}" if path else name
                try:
                    found = open_in_root(self._root, path, _DIRECTORY)
                except (FileNotFoundError, NotADirectoryError):
                    self._make_parent(upper, name, path, entry)
                    found = open_in_root(self._root, path, _DIRECTORY)
                os.close(upper)
                upper = found
            return os.dup(upper)
        finally:
            os.close(upper)

    def _make_parent(self, upper: int, name: str, path: str, entry: Entry) -> None:
        hidden = False
        try:
            os.mkdir(name, 0o755, dir_fd=upper)
        except FileExistsError:
            # Not a directory: a mark of deletion gives way, a file or a dangling link does not.
            found = os.stat(name, dir_fd=upper, follow_symlinks=False)
            if self._whiteouts is None or not self._whiteouts.hides(found):
                raise NotADirectoryError(errno.ENOTDIR, "a parent is no directory", path) from None
            self._directory(upper, name)
            hidden = True
        if self._whiteouts is not None:
            self._whiteouts.made(upper, name)
        below = self._whiteouts.below(path) if self._whiteouts is not None and not hidden else None
        if below is None:
            os.chmod(name, 0o755, dir_fd=upper)
            self._times[path] = entry.mtime_ns
            return
        self._times[path] = below[0].st_mtime_ns
        os.chown(name, below[0].st_uid, below[0].st_gid, dir_fd=upper, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(below[0].st_mode), dir_fd=upper)
        self._attributes(upper, name, below[1])

    # -- entries

    def _whiteout(self, whiteouts: Whiteouts, parent: int, name: str, entry: Entry) -> None:
        if name == OPAQUE:
            whiteouts.hide_all(parent)
        elif not name.startswith(_RESERVED):  # what aufs kept for itself
            hidden = name[len(WHITEOUT) :]
            if hidden in ("", ".", ".."):
                raise BadArchive(f"{shown(entry.name)} deletes nothing that can be named")
            whiteouts.hide(parent, hidden)
            self.close()

    def _make(self, parent: int, name: str, make: _Maker) -> None:
        try:
            make()
        except FileExistsError:
            self._clear(parent, name)
            make()

    def _clear(self, parent: int, name: str) -> None:
        tree.remove(parent, name)
        # Whatever was open below it is no longer part of the tree.
        for path in list(self._parents):
            if self._parents[path] != parent:
                os.close(self._parents.pop(path))

    def _directory(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            return
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return
        hidden = self._whiteouts is not None and self._whiteouts.hides(found)
        self._clear(parent, name)
        os.mkdir(name, 0o700, dir_fd=parent)
        if hidden and self._whiteouts is not None:
            descriptor = tree.open_below(parent, name)
            try:
                self._whiteouts.hide_all(descriptor)
            finally:
                os.close(descriptor)

    def _link(self, parent: int, name: str, entry: Entry) -> None:
        parts = [part for part in entry.link.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise BadArchive(
                f"{shown(entry.name)} is a hard link to {shown(entry.link)}, which is no path in here"
            )
        target = parts.pop()
        try:
            source = open_in_root(self._root, "/".join(parts) or ".", _DIRECTORY)
            try:
                found = os.stat(target, dir_fd=source, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    raise BadArchive(f"{shown(entry.name)} is a hard link to a directory")
                here = _stat(parent, name)
                if here is not None and os.path.samestat(here, found):
                    return
                self._make(
                    parent, name,
                    lambda: os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False),
                )  # fmt: skip
            finally:
                os.close(source)
        except FileNotFoundError as error:
            raise BadArchive(
                f"{shown(entry.name)} is a hard link to {shown(entry.link)}, which is not in the archive before it"
            ) from error

    def _file(self, parent: int, name: str, entry: Entry, content: _Content) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            if entry.size:
                self._fill(descriptor, entry, content)
            os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, stat.S_IMODE(entry.mode))
            if entry.attributes:
                self._attributes(parent, name, entry.attributes)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)
        self.size += entry.size

    def _fill(self, descriptor: int, entry: Entry, content: _Content) -> None:
        if entry.pieces is not None:
            os.ftruncate(descriptor, entry.size)

        def write(offset: int, chunk: bytes | memoryview) -> None:
            while chunk:
                written = os.pwrite(descriptor, chunk, offset)
                if written == len(chunk):
                    return
                offset, chunk = offset + written, chunk[written:]

        content(write)

    def _dress(self, parent: int, name: str, entry: Entry, path: str) -> None:
        """Owner first: chown(2) takes set-user-ID bits and capabilities away."""
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISLNK(entry.mode):
            os.chmod(name, stat.S_IMODE(entry.mode), dir_fd=parent)
        if entry.attributes:
            self._attributes(parent, name, entry.attributes)
        if stat.S_ISDIR(entry.mode):
            self._times.pop(path, None)
            self._times[path] = entry.mtime_ns
        else:
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    @staticmethod
    def _attributes(parent: int, name: str, values: dict[str, bytes]) -> None:
        for key, value in values.items():
            if not kept_attribute(key):
                continue
            try:
                xattrs.write(parent, name, {key: value})
            except OSError as error:
                # The file system has none; or user.* on what is neither file nor directory.
                if error.errno not in (errno.ENOTSUP, errno.EPERM):
                    raise


class _Maker(Protocol):
    def __call__(self) -> None: ...


def _stat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
