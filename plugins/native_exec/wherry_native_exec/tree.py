"""The container's file tree: its root, the mounts on it, its devices. Built in a mount namespace of its own.

Every target is resolved by the kernel inside the container's root, never out of it, and made where it is missing.
What lies in a procfs has to wait for the container's pid namespace, and is left to wherry-init (`procs`, `late`).
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from dataclasses import dataclass, field
from typing import Final

from wherry.errors import InvalidRequest, StartFailed
from wherry.linux import cgroups, mountinfo, mounts, paths, terminal
from wherry.spec.command import Command, Device, IdMaps, Mount
from wherry_native_exec import owners, procfs

_DEVICES: Final = tuple(
    Device(path=f"/dev/{name}", kind="c", major=major, minor=minor)
    for name, major, minor in (
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    )
)
_LINKS: Final = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)
_KINDS: Final = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_NAMES: Final = {"tmpfs": "tmpfs", "sysfs": "sysfs", "devpts": "devpts", "mqueue": "mqueue"}


@dataclass(slots=True)
class Tree:
    """A tree being built below `root`, the container's root directory; descriptors end with this process's execve."""

    root: int
    maps: IdMaps | None = None
    """Where the container has a user namespace: numbers of users are those in there."""
    procs: list[tuple[str, int]] = field(default_factory=list)
    """For wherry-init: (target, MOUNT_ATTR_*)."""
    late: list[tuple[int, str]] = field(default_factory=list)
    """For wherry-init: (detached mount, target below a procfs)."""
    dev: int | None = None
    """The tmpfs on /dev, if it is ours."""
    devpts: int | None = None

    def mount(self, wanted: Mount, group: cgroups.Cgroup, host_cgroup: bool) -> None:
        """Make one mount of the command. StartFailed says which, and why not."""
        target = paths.clean(wanted.target)
        try:
            self._mount(wanted, target, group, host_cgroup)
        except OSError as error:
            what = f'"{wanted.source}"' if wanted.source else wanted.kind
            reason = error.strerror or str(error)
            hint = (
                ": Are you trying to mount a directory onto a file (or vice-versa)? "
                "Check if the specified host path exists and is the expected type"
                if error.errno == errno.ENOTDIR
                else ""
            )
            raise StartFailed(
                f'error mounting {what} to rootfs at "{target}": {reason[:1].lower()}{reason[1:]}{hint}'
            ) from error

    def _mount(self, wanted: Mount, target: str, group: cgroups.Cgroup, host_cgroup: bool) -> None:
        attributes = self._attributes(wanted)
        procfs.check(wanted, target)
        in_proc = any(target.startswith(proc + "/") for proc, _ in self.procs)
        if wanted.kind == "proc":
            os.close(self._ordinary_directory(wanted.kind, target))
            self.procs.append((target, attributes[0]))
        elif wanted.kind == "bind":
            assert wanted.descriptor is not None
            if in_proc:
                _settle(wanted.descriptor, wanted, attributes)
                self.late.append((wanted.descriptor, target))
                return
            make = paths.open_directory_in_root if wanted.is_directory else paths.make_file_in_root
            place = make(self.root, target)
            try:
                self._check_place(wanted, place)
                _attach(wanted.descriptor, place)
            finally:
                os.close(place)
            _settle(wanted.descriptor, wanted, attributes)
        elif wanted.kind == "cgroup":
            self._cgroup(target, attributes[0], group, host_cgroup)
        else:
            self._file_system(wanted, target, attributes[0])

    def _file_system(self, wanted: Mount, target: str, attributes: int) -> None:
        options = owners.mount_options(self.maps, mounts.split_options(wanted.data))
        options.insert(0, ("source", wanted.source or _NAMES[wanted.kind]))
        place = self._place(wanted, target, options)
        try:
            fd = mounts.new(wanted.kind, options, attributes)
            _attach(fd, place)
        finally:
            os.close(place)
        if wanted.propagation not in ("", "private", "rprivate"):
            _propagate(fd, wanted.propagation)
        if wanted.kind == "tmpfs" and target == "/dev":
            self.dev = fd
            self._fill_dev(fd)
        elif wanted.kind == "devpts":
            self.devpts = fd
        else:
            os.close(fd)

    def _place(self, wanted: Mount, target: str, options: list[tuple[str, str | None]]) -> int:
        """Where a new file system goes. A tmpfs that takes the place of a directory has its mode, as runc does it."""
        if wanted.kind == "sysfs":
            return self._ordinary_directory(wanted.kind, target)
        if wanted.kind != "tmpfs" or any(key == "mode" for key, _ in options):
            place = paths.open_directory_in_root(self.root, target)
        else:
            try:
                place = paths.open_in_root(self.root, target, os.O_PATH | os.O_DIRECTORY)
                options.append(("mode", f"{stat.S_IMODE(os.fstat(place).st_mode):o}"))
            except FileNotFoundError:
                place = paths.open_directory_in_root(self.root, target)
        self._check_place(wanted, place)
        return place

    def _ordinary_directory(self, kind: str, target: str) -> int:
        """Where a procfs or sysfs goes: never through a link, which would have what protects it protect something else."""
        os.close(paths.open_directory_in_root(self.root, target))
        inside = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_SYMLINKS
        try:
            return paths.openat2(self.root, target, os.O_PATH | os.O_DIRECTORY, resolve=inside)
        except OSError as error:
            raise StartFailed(f'filesystem "{kind}" must be mounted on ordinary directory') from error

    def _check_place(self, wanted: Mount, place: int) -> None:
        """Refuse what links have led into /proc: the procfs would hide it."""
        procfs.check(wanted, os.readlink(f"/proc/self/fd/{place}"))

    def _cgroup(self, target: str, attributes: int, group: cgroups.Cgroup, host_cgroup: bool) -> None:
        """What the container sees of its own limits. Version 1: a directory for each hierarchy, as Docker makes them."""
        views = group.views()
        if group.version == 2:
            directory = cgroups.hierarchies().unified if host_cgroup else views[0][1]
            fd = mounts.clone_tree(directory)
            self._attach(fd, target)
            mounts.mount_setattr(fd, add=attributes, propagation=mounts.MS_PRIVATE)
            os.close(fd)
            return
        top = mounts.new("tmpfs", [("source", "cgroup"), ("mode", "755")])
        self._attach(top, target)
        for name, directory in views:
            os.mkdir(name, 0o755, dir_fd=top)
            fd = mounts.clone_tree(directory)
            mounts.move_mount(fd, name, below=top)
            os.close(fd)
        for controller, name in group.links():
            os.symlink(name, controller, dir_fd=top)
        mounts.mount_setattr(top, add=attributes, propagation=mounts.MS_PRIVATE, recursive=True)
        os.close(top)

    def _attach(self, fd: int, target: str) -> None:
        place = paths.open_directory_in_root(self.root, target)
        try:
            _attach(fd, place)
        finally:
            os.close(place)

    def _attributes(self, wanted: Mount) -> tuple[int, int]:
        try:
            add, remove = mounts.attributes(wanted.flags)
        except ValueError as error:
            raise InvalidRequest(f'mount at "{wanted.target}": {error}') from error
        return (add | mounts.MOUNT_ATTR_RDONLY if wanted.read_only else add), remove

    # ---- devices ---------------------------------------------------------------------------------------------------
    def _fill_dev(self, dev: int) -> None:
        for name, content in _LINKS:
            # Not every kernel has kcore, and no container should find a link to nothing.
            if name != "core" or os.path.exists(content):
                os.symlink(content, name, dir_fd=dev)

    def devices(self, wanted: tuple[Device, ...]) -> None:
        """Make the command's device nodes, and those that every container has. Call with umask 0."""
        given = {device.path for device in wanted}
        if self.dev is not None:
            for device in _DEVICES:
                if device.path not in given:
                    self._node(device)
        for device in wanted:
            self._node(device)

    def _node(self, device: Device) -> None:
        path = paths.clean(device.path)
        parent, name = posixpath.split(path)
        if path.startswith("/dev/") and self.dev is None:
            return  # somebody else's /dev is mounted there: it is not ours to add to
        if parent == "/dev":
            assert self.dev is not None
            self._make_node(device, name, self.dev)
            return
        directory = paths.open_directory_in_root(self.root, parent)
        try:
            self._make_node(device, name, directory)
        finally:
            os.close(directory)

    def _make_node(self, device: Device, name: str, directory: int) -> None:
        try:
            os.mknod(
                name,
                _KINDS[device.kind] | (device.mode & 0o7777),
                os.makedev(device.major, device.minor),
                dir_fd=directory,
            )
        except FileExistsError:
            return
        except OSError as error:
            raise StartFailed(f"cannot make the device {device.path}: {error.strerror}") from error
        if device.uid or device.gid:
            uid, gid = owners.outside(self.maps, device.uid, device.gid)
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)

    def find_terminals(self) -> None:
        """Where /dev is not ours: the devpts that came with it, as with `-v /dev:/dev`, if there is one."""
        if self.devpts is not None:
            return
        try:
            place = paths.open_in_root(self.root, "/dev/pts", os.O_PATH | os.O_DIRECTORY)
        except OSError:
            return
        if mountinfo.file_system_of(place) == mountinfo.DEVPTS_SUPER_MAGIC:
            self.devpts = place
        else:
            os.close(place)

    def console(self, size: tuple[int, int] | None) -> tuple[int, int]:
        """A terminal of the container's own devpts, bound on /dev/console: (master, slave)."""
        if self.devpts is None:
            raise StartFailed("a terminal was asked for, and the container has no devpts mount")
        master, slave = terminal.open_pair(self.devpts)
        if size is not None:
            terminal.set_size(master, *size)
        place = paths.make_file_in_root(self.root, "/dev/console", 0o600)
        fd = mounts.clone_tree(slave)
        _attach(fd, place)
        os.close(fd)
        os.close(place)
        return master, slave

    # ---- the end ---------------------------------------------------------------------------------------------------
    def share_memory(self, shm: int) -> None:
        """Attach a /dev/shm that belongs to another container's ipc namespace, or to a sandbox."""
        self._attach(shm, "/dev/shm")

    def make_cwd(self, cwd: str) -> None:
        """The working directory, where it is missing. What is there and no directory is for wherry-init to find."""
        try:
            paths.make_directories_in_root(self.root, cwd)
        except OSError:
            pass

    def become_root(self, command: Command) -> None:
        """Make the tree this process's `/`, and let the host's go."""
        if command.readonly_rootfs:
            mounts.mount_setattr(self.root, add=mounts.MOUNT_ATTR_RDONLY)
        os.fchdir(self.root)
        # The old root then lies on top of the new one, and goes: nothing of the host is left to be reached.
        mounts.pivot_root(".", ".")
        mounts.umount(".", mounts.MNT_DETACH)
        os.chdir("/")
        if command.rootfs_propagation not in ("", "private", "rprivate"):
            _propagate(self.root, command.rootfs_propagation)


def _attach(fd: int, place: int) -> None:
    try:
        mounts.move_mount(fd, place)
    except OSError as error:
        if error.errno == errno.EINVAL and _is_directory(fd) != _is_directory(place):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        raise


def _is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def _settle(fd: int, wanted: Mount, attributes: tuple[int, int]) -> None:
    """Propagation and attributes of a bind mount."""
    add, remove = attributes
    propagation = mounts.PROPAGATION.get(wanted.propagation or "rprivate")
    if propagation is None:
        raise InvalidRequest(f'mount at "{wanted.target}": "{wanted.propagation}" is no propagation')
    recursive = bool(propagation & mounts.MS_REC)
    if not recursive and not propagation & mounts.MS_SHARED:
        # What is mounted below came along as the host's peer: nothing that is done to it here may happen there.
        mounts.mount_setattr(fd, propagation=mounts.MS_SLAVE, recursive=True)
    mounts.mount_setattr(fd, propagation=propagation & ~mounts.MS_REC, recursive=recursive)
    if add or remove:
        mounts.mount_setattr(fd, add=add, remove=remove)
    if wanted.recursive_read_only:
        mounts.mount_setattr(fd, add=mounts.MOUNT_ATTR_RDONLY, recursive=True)


def _propagate(fd: int, word: str) -> None:
    flags = mounts.PROPAGATION[word]
    mounts.mount_setattr(fd, propagation=flags & ~mounts.MS_REC, recursive=bool(flags & mounts.MS_REC))
