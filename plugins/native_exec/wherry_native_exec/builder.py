"""The builder: a fork of the keeper that makes a container's namespaces and file tree, and becomes wherry-init.

It lives in the host's pid namespace and never in the container's, and outside the container's cgroup: what it does is
not charged to the container, and the container's device rules do not bind it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from wherry.errors import InvalidRequest, StartFailed, WherryError
from wherry.linux import cgroups, mounts, namespaces, processes, sysctls
from wherry.spec.command import Command, IdMaps, Namespace
from wherry.spec.exec import Stdio
from wherry_native_exec import line, owners, users
from wherry_native_exec.blob import EVERYTHING, Blob, Flag, Mode
from wherry_native_exec.tree import Tree

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_MODES: Final = {"own": Mode.OWN, "host": Mode.HOST, "joined": Mode.JOINED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the keeper knows before it forks. Descriptors are the keeper's; the builder's copies end with it."""

    command: Command
    stdio: Stdio
    group: cgroups.Cgroup
    """Not made yet: the keeper does that meanwhile."""
    filter: bytes
    flags: Flag
    """Of the driver's configuration."""
    usable: int
    keeper: int


def run(plan: Plan, end: socket.socket) -> NoReturn:
    """All that the child of the fork does; `end` is its end of the line. Never returns."""
    try:
        processes.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != plan.keeper:
            os._exit(1)
        _build(plan, end)
    except WherryError as error:
        line.tell_error(end, error)
    except BaseException as error:  # the keeper must hear of anything: there is no other way out of here
        line.tell_error(end, StartFailed(f"cannot build the container: {error}"))
    os._exit(1)


def _build(plan: Plan, end: socket.socket) -> NoReturn:
    command, process = plan.command, plan.command.process
    host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.umask(0)
    user = _enter_namespaces(command)
    maps = None if user is None else command.namespaces.id_maps
    _set_sysctls(command.sysctls, maps)

    mounts.mount("", "/", flags=mounts.MS_SLAVE | mounts.MS_REC)
    mounts.move_mount(command.rootfs, "/")
    tree = Tree(command.rootfs, maps)
    with owners.making(maps):
        means = _furnish(plan, tree, end)
        streams, master = _streams(plan, tree)
        identity = users.look_up(tree.root, process.user, process.groups)
        owner = owners.check(maps, identity)
        os.umask(0o022)
        tree.make_cwd(process.cwd)
        held = namespaces.open_namespace("self", "mnt") if user is not None else None
        tree.become_root(command)
    means = means or line.receive_means(end)

    if (master, tree.devpts, held) != (None, None, None):
        line.tell_descriptors(end, master, tree.devpts, held)
    flags = plan.flags | (Flag.INIT if command.init else Flag(0))
    if command.namespaces.cgroup.kind == "own":
        flags |= Flag.NEW_CGROUP_NAMESPACE
    pid_namespace = command.namespaces.pid.descriptor
    blob = Blob(
        mode=_MODES[command.namespaces.pid.kind],
        flags=flags,
        control=end.fileno(),
        streams=streams,
        proc=host_proc,
        target=-1 if pid_namespace is None else pid_namespace,
        tasks=means.entrance.tasks,
        into=-1 if means.entrance.into is None else means.entrance.into,
        user=-1 if user is None else user,
        owner=owner,
        filter=plan.filter,
        procs=tree.procs,
        attach=tree.late,
        masked=command.masked_paths,
        readonly=command.readonly_paths,
        extra_environment=extra_environment(process.env, identity),
        usable=plan.usable if user is None else EVERYTHING,
    )
    packed = pack_to_memory(blob.pack(process, identity))
    for fd in (packed, *inherited(blob)):
        os.set_inheritable(fd, True)
    name = ("/sbin/docker-init", "--", *process.argv) if command.init else ("wherry-init",)
    os.execve(means.program, name, {"W": str(packed)})


def _furnish(plan: Plan, tree: Tree, end: socket.socket) -> line.Means | None:
    """All mounts and devices. What the keeper sends meanwhile, if it had to be waited for."""
    command = plan.command
    host_cgroup = command.namespaces.cgroup.kind == "host"
    means: line.Means | None = None
    shm = command.shm
    for wanted in command.mounts:
        if wanted.kind == "cgroup" and means is None:
            # Not before: the keeper makes the cgroup while the mounts above it are made here.
            means = line.receive_means(end)
        if shm is not None and wanted.target.startswith("/dev/shm/"):
            tree.share_memory(shm)
            shm = None
        tree.mount(wanted, plan.group, host_cgroup)
    tree.devices(command.devices)
    if shm is not None:
        tree.share_memory(shm)
    tree.find_terminals()
    return means


def _enter_namespaces(command: Command) -> int | None:
    """Join and make namespaces. A descriptor of the user namespace that is to be entered last, if there is one."""
    wanted = command.namespaces
    new: list[str] = []
    each: tuple[tuple[str, Namespace], ...] = (
        ("net", wanted.net),
        ("ipc", wanted.ipc),
        ("uts", wanted.uts),
        ("cgroup", wanted.cgroup),
    )
    for kind, choice in each:
        if choice.kind == "joined":
            if choice.descriptor is None:
                raise InvalidRequest(f"the {kind} namespace to join was not handed over")
            namespaces.setns(choice.descriptor, namespaces.FLAGS[kind])
        elif choice.kind == "own" and kind != "cgroup":
            # That of cgroups is for wherry-init to make: it begins where the process then is.
            new.append(kind)
    user = None if wanted.user.kind == "host" else owners.enter_new(wanted, new)
    flags = namespaces.CLONE_NEWNS
    if user is None:
        for kind in new:
            flags |= namespaces.FLAGS[kind]
    namespaces.unshare(flags)
    if "net" in new:
        _raise_loopback()
    if wanted.uts.kind == "own":
        if command.hostname:
            namespaces.set_host_name(command.hostname)
        if command.domainname:
            namespaces.set_domain_name(command.domainname)
    return user


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        request = struct.pack("16sH14x", b"lo", 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(query, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(query, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def _set_sysctls(wanted: Mapping[str, str], maps: IdMaps | None) -> None:
    for name, value in wanted.items():
        try:
            _set_sysctl(name, value, maps)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        except OSError as error:
            raise StartFailed(f"cannot set sysctl {name} to {value}: {error.strerror}") from error


def _set_sysctl(name: str, value: str, maps: IdMaps | None) -> None:
    try:
        sysctls.write(name, value)
    except PermissionError:
        if maps is None:
            raise
        # Since Linux 6.9 some of an ipc namespace are its owner's to set, and nobody else's.
        with owners.acting(maps):
            sysctls.write(name, value)


def _streams(plan: Plan, tree: Tree) -> tuple[tuple[int, int, int], int | None]:
    """(stdin, stdout, stderr), and the master of their terminal if they are one."""
    process, stdio = plan.command.process, plan.stdio
    if process.tty:
        master, slave = tree.console(process.console_size)
        return (slave, slave, slave), master
    return plain_streams(stdio), None


# ---- shared with exec ----------------------------------------------------------------------------------------------
def plain_streams(stdio: Stdio) -> tuple[int, int, int]:
    """The three descriptors of a process without a terminal."""
    if stdio.stdin is None or stdio.stdout is None or stdio.stderr is None:
        raise InvalidRequest("a process without a terminal needs stdin, stdout and stderr")
    return stdio.stdin, stdio.stdout, stdio.stderr


def extra_environment(given: tuple[str, ...], identity: users.Identity) -> tuple[str, ...]:
    """HOME, where the environment has none (or an empty one, as Docker takes it)."""
    if any(entry.startswith("HOME=") and len(entry) > 5 for entry in given):
        return ()
    return (f"HOME={identity.home}",)


def pack_to_memory(content: bytes) -> int:
    """A memory file with this content; the caller's to close."""
    fd = os.memfd_create("blob", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


def inherited(blob: Blob) -> list[int]:
    """Descriptors that wherry-init is told by number."""
    numbers = [blob.control, *blob.streams, blob.proc, blob.target, blob.into, blob.user, *blob.tasks]
    numbers += [fd for fd, _ in blob.attach]
    return list(dict.fromkeys(fd for fd in numbers if fd >= 0))
