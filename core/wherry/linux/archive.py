"""Archives into directories: a hostile tar is unpacked below a directory and never outside of it.

Every entry is created by name in the descriptor of its parent directory (`parents`), and given owner, mode and times by
a descriptor of what was created: whoever changes the tree meanwhile leads nothing outside. A link in the archive leads
nowhere but into the tree itself, or into the root that the tree is part of. What `.wh.` names mean is the caller's: an
overlay makes device nodes of them, a plain copy deletes.

It decides nothing about images: it knows trees and archives only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from wherry.linux import tree
from wherry.linux.owners import Owners, attributes_outside, outside
from wherry.linux.parents import DIRECTORY, Parents
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
_HOLE: Final = 4096
"""So many zeros at least are left out of a file, as a hole."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A directory that is in use: others see it, and may change it at any moment."""

    place: str
    """The directory's path, absolute."""
    root: int | None = None
    """Where that path and absolute links in the directory lead from; None: links lead nowhere out of it."""
    keep_kinds: bool = False
    """A directory and what is none do not replace each other: BadArchive."""
    owner: tuple[int, int] | None = None
    """(user, group) that everything is to belong to, -1 for whoever it is made by; None: as the archive says."""
    owners: Owners | None = None
    """Where the directory shows other owners than it has: the archive, and `owner`, say who they are inside."""


def unpack(
    archive: BinaryIO,
    directory: int,
    whiteouts: Whiteouts | None = None,
    live: Live | None = None,
    rename: Callable[[str], str] = str,
) -> int:
    """Unpack an uncompressed tar into a directory; answers the bytes of the files that it made.

    Names are taken as relative to it, `..` is refused. A later entry replaces an earlier one. Owners, modes, times,
    extended attributes, hard links, devices and holes are kept. BadArchive names the entry at fault; what was made
    until then stays, but for the half of a file. Without `whiteouts`, `.wh.` names are ordinary. The directory is the
    root of its own links unless it is `live`, and then stays as it looks, with what is mounted in it. `rename` is asked
    for the name of every entry, and of what a hard link links to.
    """
    unpacking = _Unpacking(directory, whiteouts, live)
    try:
        reader = read(archive)
        for entry in reader:
            entry.name = rename(entry.name)
            if entry.hard_link:
                entry.link = rename(entry.link)
            if live is not None and live.owners is not None:
                _take_outside(entry, live, live.owners)
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


def _take_outside(entry: Entry, live: Live, owners: Owners) -> None:
    uid, gid = live.owner if live.owner is not None else (entry.uid, entry.gid)
    try:
        found = outside(owners, max(uid, 0), max(gid, 0))
        entry.attributes = attributes_outside(owners, entry.attributes)
    except LookupError as error:
        raise BadArchive(f"{shown(entry.name)}: {error}") from error
    entry.uid, entry.gid = (found[0] if uid >= 0 else -1), (found[1] if gid >= 0 else -1)


class _Content(Protocol):
    def __call__(self, write: _Write) -> None: ...


class _Write(Protocol):
    def __call__(self, offset: int, chunk: bytes | memoryview, /) -> object: ...


class _Unpacking:
    def __init__(self, top: int, whiteouts: Whiteouts | None, live: Live | None) -> None:
        self._top, self._whiteouts, self._live = top, whiteouts, live
        self._times: dict[str, int] = {}
        root, place = (top, "") if live is None or live.root is None else (live.root, live.place)
        self._parents = Parents(top, root, place, self._times)
        self.size = 0

    def close(self) -> None:
        self._parents.close()

    def entry(self, entry: Entry, content: _Content) -> None:
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise BadArchive(f'{shown(entry.name)} has ".." in its path')
        if not parts:
            if not stat.S_ISDIR(entry.mode):
                raise BadArchive(f"{shown(entry.name)} would replace the root by something else")
            if self._live is None:
                self._dress(self._top, ".", entry, "")
            return
        name = parts.pop()
        place = "/".join(parts)
        parent = self._parents.find(place, lambda upper, name, path: self._parent(upper, name, path, entry))
        if self._whiteouts is not None and name.startswith(WHITEOUT):
            self._whiteout(self._whiteouts, parent, name, entry)
            return
        path = f"{place}/{name}" if place else name
        kind = stat.S_IFMT(entry.mode)
        if entry.hard_link:
            self._link(parent, name, path, entry)
        elif kind == stat.S_IFREG:
            self._file(parent, name, path, entry, content)
        elif kind == stat.S_IFDIR:
            self._directory(parent, name, path)
            self._dress(parent, name, entry, path)
        elif kind == stat.S_IFLNK:
            self._make(parent, name, path, lambda: os.symlink(entry.link, name, dir_fd=parent))
            self._dress(parent, name, entry, path)
        else:
            device = os.makedev(*entry.device)
            self._make(parent, name, path, lambda: os.mknod(name, kind | 0o600, device, dir_fd=parent))
            self._dress(parent, name, entry, path)
        if self._whiteouts is not None:
            self._whiteouts.made(parent, name)

    def settle(self) -> None:
        """Give the directories their times, now that nothing is made in them any more."""
        for path, mtime in self._times.items():
            try:
                os.utime(self._parents.find(path), ns=(mtime, mtime))
            except OSError as error:
                if error.errno not in _FAULTS:  # a later entry replaced it, or somebody else did
                    raise

    # -- parents

    def _parent(self, upper: int, name: str, path: str, entry: Entry) -> None:
        """A directory that the archive does not name: as it is below the layer, else root's and 0755."""
        hidden = False
        try:
            os.mkdir(name, 0o755, dir_fd=upper)
        except FileExistsError:
            # Not a directory: a mark of deletion gives way, a file or a dangling link does not.
            found = os.stat(name, dir_fd=upper, follow_symlinks=False)
            if self._whiteouts is None or not self._whiteouts.hides(found):
                raise NotADirectoryError(errno.ENOTDIR, "a parent is no directory", path) from None
            self._directory(upper, name, path)
            hidden = True
        if self._whiteouts is not None:
            self._whiteouts.made(upper, name)
        below = self._whiteouts.below(path) if self._whiteouts is not None and not hidden else None
        made = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=upper)
        try:
            if below is None:
                os.chmod(made, 0o755)
                self._times[path] = entry.mtime_ns
                return
            self._times[path] = below[0].st_mtime_ns
            os.chown(made, below[0].st_uid, below[0].st_gid)
            os.chmod(made, stat.S_IMODE(below[0].st_mode))
            _give_attributes(made, below[1])
        finally:
            os.close(made)

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

    def _unlike(self, path: str, old: str, new: str) -> BadArchive:
        place = "" if self._live is None else self._live.place
        return BadArchive(f"cannot overwrite {old} {shown(self._shown(path))} with {new} {shown(place)}")

    def _shown(self, path: str) -> str:
        return path if self._live is None else posixpath.join(self._live.place, path)

    def _make(self, parent: int, name: str, path: str, make: Callable[[], None]) -> None:
        try:
            make()
        except FileExistsError:
            self._clear(parent, name, path)
            make()

    def _clear(self, parent: int, name: str, path: str) -> None:
        try:
            if self._live is not None and self._live.keep_kinds:
                # What is to be made is no directory: those have been dealt with.
                os.close(tree.hold(parent, name))
                os.unlink(name, dir_fd=parent)
            else:
                tree.remove(parent, name, spare_mounts=self._live is not None)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            raise self._unlike(path, "directory", "non-directory") from None
        except OSError as error:
            if error.errno == errno.EXDEV and self._live is not None and self._live.keep_kinds:
                found = _stat(parent, name)
                if found is not None and stat.S_ISDIR(found.st_mode):
                    raise self._unlike(path, "directory", "non-directory") from None
            if error.errno in (errno.EXDEV, errno.EBUSY):
                raise BadArchive(f"unlinkat {self._shown(path)}: device or resource busy") from error
            raise
        # Whatever was open below it is no longer part of the tree.
        self._times.pop(path, None)
        self._parents.forget(but=parent)

    def _directory(self, parent: int, name: str, path: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            return
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return
        if self._live is not None and self._live.keep_kinds:
            raise self._unlike(path, "non-directory", "directory")
        hidden = self._whiteouts is not None and self._whiteouts.hides(found)
        self._clear(parent, name, path)
        os.mkdir(name, 0o700, dir_fd=parent)
        if hidden and self._whiteouts is not None:
            descriptor = tree.open_below(parent, name)
            try:
                self._whiteouts.hide_all(descriptor)
            finally:
                os.close(descriptor)

    def _link(self, parent: int, name: str, path: str, entry: Entry) -> None:
        parts = [part for part in entry.link.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise BadArchive(
                f"{shown(entry.name)} is a hard link to {shown(entry.link)}, which is no path in here"
            )
        target = parts.pop()
        parent = os.dup(parent)  # finding the other directory may close it
        try:
            source = self._parents.find("/".join(parts))
            found = os.stat(target, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise BadArchive(f"{shown(entry.name)} is a hard link to a directory")
            here = _stat(parent, name)
            if here is not None and os.path.samestat(here, found):
                return
            source = os.dup(source)
            try:
                self._make(
                    parent, name, path,
                    lambda: os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False),
                )  # fmt: skip
            finally:
                os.close(source)
        except FileNotFoundError as error:
            raise BadArchive(
                f"{shown(entry.name)} is a hard link to {shown(entry.link)}, which is not in the archive before it"
            ) from error
        finally:
            os.close(parent)

    def _file(self, parent: int, name: str, path: str, entry: Entry, content: _Content) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name, path)
            descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            if entry.size:
                self._fill(descriptor, entry, content)
            os.fchown(descriptor, *self._owner(entry))
            os.fchmod(descriptor, stat.S_IMODE(entry.mode))
            if entry.attributes:
                _give_attributes(descriptor, entry.attributes)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=parent)
            raise
        finally:
            os.close(descriptor)
        self.size += entry.size

    def _fill(self, descriptor: int, entry: Entry, content: _Content) -> None:
        end = 0 if entry.pieces is None else -1  # where the file ends, if it ends in data

        def write(offset: int, chunk: bytes | memoryview) -> None:
            nonlocal end
            if len(chunk) >= _HOLE and not chunk[0] and not chunk[-1] and not bytes(chunk).strip(b"\0"):
                end = -1
                return
            end = offset + len(chunk)
            while chunk:
                written = os.pwrite(descriptor, chunk, offset)
                if written == len(chunk):
                    return
                offset, chunk = offset + written, chunk[written:]

        content(write)
        if end != entry.size:
            os.ftruncate(descriptor, entry.size)

    def _owner(self, entry: Entry) -> tuple[int, int]:
        if self._live is not None and self._live.owner is not None and self._live.owners is None:
            return self._live.owner
        return entry.uid, entry.gid

    def _dress(self, parent: int, name: str, entry: Entry, path: str) -> None:
        """Owner first: chown(2) takes set-user-ID bits and capabilities away."""
        kind = stat.S_IFMT(entry.mode)
        if kind == stat.S_IFLNK:
            os.chown(name, *self._owner(entry), dir_fd=parent, follow_symlinks=False)
            if entry.attributes:
                _give_attributes(f"/proc/self/fd/{parent}/{name}", entry.attributes, follow=False)
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
            return
        flags = DIRECTORY if kind == stat.S_IFDIR else os.O_PATH | os.O_CLOEXEC
        descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)
        try:
            if stat.S_IFMT(os.fstat(descriptor).st_mode) != kind:
                raise BadArchive(f"{shown(entry.name)} was replaced by something else meanwhile")
            made = descriptor if kind == stat.S_IFDIR else f"/proc/self/fd/{descriptor}"
            os.chown(made, *self._owner(entry))
            os.chmod(made, stat.S_IMODE(entry.mode))
            if entry.attributes:
                _give_attributes(made, entry.attributes)
            if kind == stat.S_IFDIR:
                self._times.pop(path, None)
                self._times[path] = entry.mtime_ns
            else:
                os.utime(made, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)


def _give_attributes(made: int | str, values: dict[str, bytes], *, follow: bool = True) -> None:
    for key, value in values.items():
        if not kept_attribute(key):
            continue
        try:
            os.setxattr(made, key, value, follow_symlinks=follow)
        except OSError as error:
            # The file system has none; or user.* on what is neither file nor directory.
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise


def _stat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
