"""Checks of the kernel: each tries the thing itself and leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wherry.doctor.findings import Finding, good, lacking, missing
from wherry.linux import capabilities, cgroups, mounts, namespaces, paths, processes, seccomp

SMALLEST_KERNEL: Final = (6, 1)
MACHINES: Final = ("x86_64", "aarch64")
CONTROLLERS: Final = ("memory", "pids", "cpu", "cpuset")
USEFUL_CONTROLLERS: Final = {1: ("devices", "freezer", "blkio"), 2: ("io",)}


def kernel() -> Finding:
    release = os.uname().release
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2])
    if numbers < SMALLEST_KERNEL:
        return missing(
            "kernel", f"Linux {release} is older than 6.1", "boot a newer kernel (Debian 12 has 6.1)"
        )
    return good("kernel", f"Linux {release}")


def machine() -> Finding:
    name = os.uname().machine
    if name not in MACHINES:
        return missing("machine", f"{name} is not supported", f"use one of {', '.join(MACHINES)}")
    return good("machine", name)


def privileges() -> Finding:
    held = set(capabilities.names(capabilities.of("self", "Eff")))
    needed = {
        "CAP_SYS_ADMIN",
        "CAP_NET_ADMIN",
        "CAP_MKNOD",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_SETUID",
        "CAP_KILL",
    }
    if lost := sorted(needed - held):
        return missing(
            "privileges",
            f"without {', '.join(lost)}",
            "run as root, outside of containers without --privileged",
        )
    if "CAP_SYS_RESOURCE" not in held:
        return lacking(
            "privileges",
            "without CAP_SYS_RESOURCE: hard limits cannot be raised, oom scores not lowered",
            "give the daemon CAP_SYS_RESOURCE; or live with the limits it has (`ulimit -Hn`)",
        )
    return good("privileges", f"uid {os.geteuid()}, {len(held)} capabilities")


def control_groups() -> Finding:
    try:
        found = cgroups.hierarchies()
    except OSError:
        return missing(
            "cgroups", "no cgroup file system is mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
        )
    if found.version == 2:
        there = set(Path(found.unified, "cgroup.controllers").read_text().split())
    else:
        there = set(found.v1)
    what = f"version {found.version}: {' '.join(sorted(there))}"
    if not there & {"memory", "pids"}:
        return missing(
            "cgroups", what, "boot with cgroup_enable=memory, or enable the controllers in the parent cgroup"
        )
    lost = [name for name in (*CONTROLLERS, *USEFUL_CONTROLLERS[found.version]) if name not in there]
    if lost:
        return lacking(
            "cgroups",
            f"{what}; not {' '.join(lost)}",
            "limits of these do not work; build a kernel with them",
        )
    return good("cgroups", what)


def swap_limits() -> Finding:
    found = cgroups.hierarchies()
    memory = found.v1.get("memory")
    if memory is None or Path(memory, "memory.memsw.limit_in_bytes").exists():
        return good("swap limits", "memory and swap are counted")
    return lacking(
        "swap limits", "swap is not counted: --memory-swap does nothing", "boot with swapaccount=1"
    )


def name_spaces() -> Finding:
    lost = [
        name
        for name in ("mnt", "pid", "net", "ipc", "uts", "cgroup")
        if not Path("/proc/self/ns", name).exists()
    ]
    if lost:
        return missing(
            "namespaces",
            f"the kernel has no {', '.join(lost)} namespaces",
            "build a kernel with CONFIG_NAMESPACES",
        )
    return good("namespaces", "mnt pid net ipc uts cgroup")


def user_namespaces() -> Finding:
    limit = Path("/proc/sys/user/max_user_namespaces")
    if not Path("/proc/self/ns/user").exists() or (limit.exists() and int(limit.read_text()) == 0):
        return lacking(
            "user namespaces", "cannot be made", "sysctl -w user.max_user_namespaces=10000, if you want them"
        )
    return good("user namespaces", "can be made")


def mount_calls() -> Finding:
    try:
        fd = mounts.tmpfs(size="64k")
        try:
            mounts.mount_setattr(fd, add=mounts.attributes(["ro"])[0])
        finally:
            os.close(fd)
    except OSError as error:
        return _refused("mount API", "fsopen, fsmount, mount_setattr", error)
    return good("mount API", "fsopen, fsmount, open_tree, move_mount, mount_setattr")


def path_calls() -> Finding:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(paths.open_in_root(root, "proc", os.O_PATH | os.O_CLOEXEC))
    except OSError as error:
        return _refused("openat2", "openat2 with RESOLVE_IN_ROOT", error)
    finally:
        os.close(root)
    return good("openat2", "paths of containers are resolved inside them")


def process_descriptors() -> Finding:
    try:
        os.close(processes.pidfd_open(os.getpid()))
    except OSError as error:
        return _refused("pidfd", "pidfd_open", error)
    return good("pidfd", "processes are held by descriptor")


def overlay() -> Finding:
    try:
        with _layers() as (lower, upper, work):
            os.close(mounts.overlay([lower], upper, work))
    except OSError as error:
        return lacking(
            "overlay",
            f"cannot be mounted: {error.strerror}",
            "modprobe overlay, and put --data-root on ext4 or xfs (ftype=1); the vfs driver works, slowly and large",
        )
    return good("overlay", "layers can be stacked")


def mapped_mounts() -> Finding:
    try:
        with _layers() as (lower, _, _), _user_namespace() as userns:
            fd = mounts.clone_tree(lower)
            try:
                mounts.idmap(fd, userns)
            finally:
                os.close(fd)
    except OSError as error:
        return lacking(
            "idmapped mounts",
            f"do not work: {error.strerror}",
            "put --data-root on ext4, xfs or btrfs; only user namespaces want them",
        )
    return good("idmapped mounts", "layers can be shown with other ids")


def system_call_filter() -> Finding:
    if not Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        return missing("seccomp", "the kernel has no filters", "build a kernel with CONFIG_SECCOMP_FILTER")
    try:
        program = seccomp.compile_profile(seccomp.default_profile(), capabilities.DEFAULT)
    except OSError:
        return missing("seccomp", "libseccomp.so.2 is not installed", "apt-get install libseccomp2")
    except ValueError as error:
        return missing("seccomp", str(error), "install a newer libseccomp2 (2.5)")
    return good("seccomp", f"the default profile has {len(program) // 8} instructions")


def security_module() -> Finding:
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    if enabled.exists() and enabled.read_text().strip() == "Y":
        return good("security module", "AppArmor")
    if Path("/sys/fs/selinux/enforce").exists():
        return good("security module", "SELinux")
    return lacking(
        "security module", "neither AppArmor nor SELinux", "containers rely on seccomp and capabilities alone"
    )


@contextmanager
def _layers() -> Iterator[tuple[Path, Path, Path]]:
    below = Path("/var/lib/wherry")
    while not below.is_dir():
        below = below.parent
    with tempfile.TemporaryDirectory(prefix=".wherry-doctor-", dir=below) as name:
        parts = [Path(name, part) for part in ("lower", "upper", "work")]
        for part in parts:
            part.mkdir()
        yield parts[0], parts[1], parts[2]


@contextmanager
def _user_namespace() -> Iterator[int]:
    """A descriptor of a user namespace with one id mapped, made by a child that waits until we have it."""
    release_read, release_write = os.pipe()
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(release_write)
            namespaces.unshare(namespaces.CLONE_NEWUSER)
            os.write(ready_write, b"1")
            os.read(release_read, 1)
        finally:
            os._exit(0)
    os.close(ready_write)
    os.close(release_read)
    try:
        if not os.read(ready_read, 1):
            raise OSError(1, "no user namespace can be made")
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{kind}").write_text("0 100000 1\n")
        fd = namespaces.open_namespace(child, "user")
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        os.close(release_write)
        os.close(ready_read)
        os.waitpid(child, 0)


def _refused(subject: str, what: str, error: OSError) -> Finding:
    return missing(
        subject,
        f"{what}: {error.strerror}",
        "use a newer kernel; inside another container, let its seccomp profile allow them",
    )
