"""`Command`: what an exec driver runs, as one immutable value.

The engine builds it from a container's record; it travels to the keeper as JSON, and the exec driver reads it there.
Nothing in it depends on the daemon, and no driver changes it.

Descriptors. A root file system, a bind mount and a joined namespace are handed over as open descriptors, never as
paths to be resolved again. A field of type `Descriptor` holds, on the wire, the position of the descriptor among those
sent with the message; the keeper replaces it (`with_descriptors`) by the number that the descriptor has in the
keeper before any driver sees the command. The keeper owns and closes them.

Source: the reference's `execdriver.Command` and `populateCommand`; runtime-spec `config.md` for names that came later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Descriptor: TypeAlias = int

NamespaceKind = Literal["own", "host", "joined"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """Where a process lives for one kind of namespace: its `own` (new), the `host`'s, or a `joined` one."""

    kind: NamespaceKind = "own"
    descriptor: Descriptor | None = None
    """For `joined`: an open namespace file (nsfs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdMap:
    """`size` ids from `inside` in the container stand for those from `outside` on the host: user_namespaces(7)."""

    inside: int
    outside: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdMaps:
    """Which ids of the host stand for those in a user namespace. Both begin with what stands for 0, root."""

    uids: tuple[IdMap, ...]
    gids: tuple[IdMap, ...]

    @property
    def root(self) -> tuple[int, int]:
        """(uid, gid) on the host of root in the namespace."""
        return self.uids[0].outside, self.gids[0].outside

    def uid_outside(self, uid: int) -> int | None:
        """The host's id for `uid` inside; None if there is none."""
        return _mapped(uid, ((each.inside, each.outside, each.size) for each in self.uids))

    def gid_outside(self, gid: int) -> int | None:
        """The host's id for `gid` inside; None if there is none."""
        return _mapped(gid, ((each.inside, each.outside, each.size) for each in self.gids))

    def uid_inside(self, uid: int) -> int | None:
        """What the host's `uid` is inside; None if it is nobody there."""
        return _mapped(uid, ((each.outside, each.inside, each.size) for each in self.uids))

    def gid_inside(self, gid: int) -> int | None:
        """What the host's `gid` is inside; None if it is nobody there."""
        return _mapped(gid, ((each.outside, each.inside, each.size) for each in self.gids))


def _mapped(number: int, ranges: Iterable[tuple[int, int, int]]) -> int | None:
    for first, other, size in ranges:
        if first <= number < first + size:
            return other + number - first
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespaces:
    """One choice per kind of namespace. The mount namespace is always the container's own."""

    net: Namespace = Namespace()
    ipc: Namespace = Namespace()
    pid: Namespace = Namespace()
    uts: Namespace = Namespace()
    cgroup: Namespace = Namespace()
    user: Namespace = Namespace(kind="host")
    """Where it is not the host's, the namespaces of the container's own belong to it, the mount namespace too."""
    id_maps: IdMaps | None = None
    """Of the user namespace, where that is `own` or `joined`. The root file system, and binds that are to be, are handed
    over with their ids mapped already; what the driver makes belongs to `id_maps.root`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Five sets of capability names as in capabilities(7), `CAP_` included, upper case."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rlimit:
    """One limit of getrlimit(2). `name` as in Docker's `--ulimit`: nofile, nproc, core, …; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seccomp:
    """Which system calls are allowed.

    `default`: the profile that `wherry.linux.seccomp.default_profile()` gives. `custom`: `document` is a profile in
    the format of Docker (JSON with `includes` and `excludes`). `unconfined`: no filter.
    """

    mode: Literal["default", "custom", "unconfined"] = "default"
    document: str = ""
    capabilities: tuple[str, ...] | None = None
    """The set that conditions of the profile are about. None: the process's own bounding set. An exec that has more
    than its container is filtered as the container is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process to be made in a container: process 1, or an exec."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    """`NAME=value`, in order. HOME is added by the driver from the container's passwd file if it is not there."""
    cwd: str = "/"
    user: str = ""
    """`name|uid[:group|gid]`, looked up in the container's own /etc/passwd and /etc/group; empty is root."""
    groups: tuple[str, ...] = ()
    """Supplementary groups by name or gid, besides those of the user. What is a number is an id, here as in `user`."""
    umask: int | None = None
    """None is 022, as Docker has it: never the engine's own."""
    personality: int = 0
    """personality(2): 0 is Linux of 64 bits, 8 of 32."""
    tty: bool = False
    console_size: tuple[int, int] | None = None
    """(rows, columns) that the terminal has before the program starts."""
    capabilities: Capabilities = Capabilities()
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int = 0
    seccomp: Seccomp = Seccomp()
    apparmor: str = ""
    selinux_label: str = ""
    privileged: bool = False
    """Of process 1: where the command has no device rules, all devices are allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount of a container, besides its root.

    `bind`: `descriptor` is a detached mount (open_tree(2) with OPEN_TREE_CLONE) of the source, made by the daemon.
    `tmpfs`, `proc`, `sysfs`, `devpts`, `mqueue`, `cgroup`: made by the driver inside the container's namespaces.
    `target` is resolved inside the container's root and never out of it. Mounts are made in the order given.
    """

    kind: Literal["bind", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup"]
    target: str
    source: str = ""
    """What the user named, for messages; nothing opens it again."""
    descriptor: Descriptor | None = None
    read_only: bool = False
    recursive_read_only: bool = False
    flags: tuple[str, ...] = ()
    """nosuid, nodev, noexec, noatime, relatime, strictatime, …: mount(8)."""
    data: str = ""
    """File system options, comma separated: `size=65536k,mode=1777`."""
    propagation: str = ""
    """private, rprivate, slave, rslave, shared, rshared; empty is rprivate."""
    is_directory: bool = True
    """What to make where the target is missing: a directory or an empty file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node that exists in the container's /dev: mknod(2)."""

    path: str
    kind: Literal["c", "b", "p"]
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRule:
    """A rule of the devices cgroup: `kind` a (all), b or c; None is any number; `access` of r, w, m."""

    allow: bool
    kind: Literal["a", "b", "c"] = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """A block I/O limit of one device: bytes or operations per second (0: no limit), or a weight."""

    major: int
    minor: int
    rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits of a container's cgroup. None: not limited, nothing is written. Sizes in bytes, times in microseconds."""

    memory: int | None = None
    memory_swap: int | None = None
    """Memory plus swap; -1 is unlimited swap."""
    memory_reservation: int | None = None
    swappiness: int | None = None
    oom_kill_disable: bool = False
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_realtime_runtime: int | None = None
    cpu_realtime_period: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int | None = None
    """-1 is unlimited."""
    blkio_weight: int | None = None
    blkio_weight_device: tuple[Throttle, ...] = ()
    blkio_read_bps: tuple[Throttle, ...] = ()
    blkio_write_bps: tuple[Throttle, ...] = ()
    blkio_read_iops: tuple[Throttle, ...] = ()
    blkio_write_iops: tuple[Throttle, ...] = ()
    unified: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """All that an exec driver needs to run a container."""

    id: str
    """The container's id, 64 hexadecimal digits."""
    rootfs: Descriptor
    """A detached mount of the container's root (fsmount(2) or open_tree(2)); used once, in `move_mount`."""
    readonly_rootfs: bool = False
    process: Process
    hostname: str = ""
    domainname: str = ""
    init: bool = False
    """Run `wherry-init` as process 1, to reap and to forward signals."""
    namespaces: Namespaces = Namespaces()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    device_rules: tuple[DeviceRule, ...] = ()
    """In order; the kernel's state before the first is: everything denied. Empty with `privileged`: all allowed."""
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resources: Resources = Resources()
    cgroup: str = ""
    """Path of the container's cgroup below each hierarchy's root, e.g. `/wherry-0a1b2c3d/containers/<id>`."""
    rootfs_propagation: str = ""
    shm: Descriptor | None = None
    """A detached mount for /dev/shm, when the ipc namespace is shared; otherwise /dev/shm is in `mounts`, or there is none.
    It is attached before any mount whose target lies below it."""
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Driver-specific, per container: lxc-conf and the like."""


def with_descriptors(command: Command, descriptors: Sequence[int]) -> Command:
    """`command` with every `Descriptor` field, a position on the wire, replaced by `descriptors[position]`."""

    def real(value: Any) -> Any:
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return tuple(real(item) for item in value) if isinstance(value, tuple) else value
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            old = getattr(value, field.name)
            if field.name in ("rootfs", "descriptor", "shm"):
                new = None if old is None else descriptors[old]
            else:
                new = real(old)
            if new is not old:
                changes[field.name] = new
        return dataclasses.replace(value, **changes) if changes else value

    bound = real(command)
    assert isinstance(bound, Command)
    return bound
