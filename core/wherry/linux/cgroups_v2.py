"""One cgroup of version 2: cgroup-v2.rst of the kernel's documentation."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Sequence
from typing import Final, Protocol

from wherry.linux import device_filter
from wherry.linux.cgroup_counters import Counters, counters_v2
from wherry.linux.cgroup_files import (
    Before,
    Entrance,
    Limits,
    Rule,
    Writes,
    checked,
    number,
    of_device,
    processes,
    read,
    read_or,
    remove,
    table,
    wait_until,
    write,
)

CONTROLLERS: Final = ("cpu", "cpuset", "io", "memory", "pids")
UNLIMITED: Final = (1 << 64) - 1
_OF_CONTROLLER: Final = re.compile(
    r"(?:cpu|cpuset|hugetlb|io|memory|misc|pids|rdma)(?:\.[a-z0-9_]+)+", re.ASCII
)


class _Put(Protocol):
    """Writes a value into a file of the cgroup, if there is a value."""

    def __call__(self, file: str, value: int | str | None, before: Before = str.strip) -> None: ...


class CgroupV2:
    """`root`: where the hierarchy is mounted."""

    version = 2

    def __init__(self, path: str, root: str) -> None:
        self.path = checked(path)
        self._root = root
        self._directory = root + self.path

    # ---- life ------------------------------------------------------------------------------------------------------
    def create(self) -> None:
        """Make the cgroup, with what is missing above it. FileExistsError: it is there already.

        Of the controllers it has those that could be passed on to it (`pass_on`): `limit` tells of one that is lacking.
        """
        parent = os.path.dirname(self._directory)
        wanted = set(CONTROLLERS) & set(read_or(f"{self._root}/cgroup.controllers").split())
        if not wanted <= set(read_or(f"{parent}/cgroup.subtree_control").split()) or not os.path.isdir(
            parent
        ):
            pass_on(self._root, os.path.dirname(self.path))
        os.mkdir(self._directory, 0o755)

    def exists(self) -> bool:
        return os.path.isdir(self._directory)

    def entrance(self) -> Entrance:
        """The directory into which a process clones itself."""
        return Entrance(into=os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def entrance_of(self, pid: int) -> Entrance:
        """As `entrance`, for the cgroup below this one in which `pid` is now: one with cgroups below takes no process."""
        try:
            for line in read_or(f"/proc/{pid}/cgroup").splitlines():
                if line.startswith("0::" + self.path + "/"):
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                    return Entrance(into=os.open(self._root + line[3:], flags))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it went elsewhere meanwhile, or ended: then the next thing to fail says it better
        return self.entrance()

    def remove(self, timeout: float = 2.0) -> None:
        """Remove the cgroup; gone already is success. OSError EBUSY: a process is in it."""
        remove(self._directory, timeout)

    def views(self) -> list[tuple[str, str]]:
        """What a container sees as its own cgroup: (name below /sys/fs/cgroup, directory of the host)."""
        return [("", self._directory)]

    def links(self) -> list[tuple[str, str]]:
        return []

    # ---- limits ----------------------------------------------------------------------------------------------------
    def limit(self, limits: Limits, restore: bool = False) -> None:
        """Apply limits. OSError EOPNOTSUPP: there is no such limit here; EBUSY: more memory is in use.

        With `restore` a failure puts back what was written before it, as far as the kernel lets.
        """
        with Writes(restore=restore) as writes:

            def put(file: str, value: int | str | None, before: Before = str.strip) -> None:
                if value is None or value == "":
                    return
                text = "max" if value == -1 else str(value)
                if text == "max" and not os.path.exists(f"{self._directory}/{file}"):
                    return  # no limit is what there is without the file
                writes.put(f"{self._directory}/{file}", text, before)

            self._limit_memory(limits, put, reclaim=restore)
            self._limit_cpu(limits, put)
            put("pids.max", limits.pids)
            self._limit_blocks(limits, put)
            for file, text in limits.unified.items():
                if not _OF_CONTROLLER.fullmatch(file):
                    raise OSError(errno.EINVAL, "this is no limit that a controller has", file)
                put(file, text)
            for file, value in (
                ("memory.swappiness", limits.swappiness),
                ("memory.oom_control", limits.oom_kill_disable or None),
                ("cpu.rt_runtime_us", limits.cpu_realtime_runtime),
                ("cpu.rt_period_us", limits.cpu_realtime_period),
            ):
                if value is not None:
                    raise OSError(errno.EOPNOTSUPP, "only cgroups of version 1 have this file", file)

    def _limit_memory(self, limits: Limits, put: _Put, reclaim: bool) -> None:
        swap = _swap(limits, number(f"{self._directory}/memory.max", -1))
        if swap != 0 or os.path.exists(f"{self._directory}/memory.swap.max"):
            put("memory.swap.max", swap)
        if reclaim and limits.memory is not None and limits.memory > 0:
            self._make_room(limits.memory)
        put("memory.max", limits.memory)
        put("memory.low", limits.memory_reservation)

    def _make_room(self, size: int) -> None:
        """Have no more than `size` bytes in use. A limit below what is in use would be met by killing; this is EBUSY."""
        over = number(f"{self._directory}/memory.current") - size
        if over > 0:
            try:
                write(f"{self._directory}/memory.reclaim", str(over))
            except OSError:
                pass  # before Linux 5.19 there is no such file; EAGAIN: not all of it went
            used = number(f"{self._directory}/memory.current")
            if used > size:
                raise OSError(errno.EBUSY, f"{used} bytes are in use", f"{self._directory}/memory.max")

    def _limit_cpu(self, limits: Limits, put: _Put) -> None:
        put("cpu.weight", weight_of_shares(limits.cpu_shares))
        if limits.cpu_quota is not None or limits.cpu_period is not None:
            quota, period = [*read_or(f"{self._directory}/cpu.max").split(), "max", "100000"][:2]
            if limits.cpu_quota is not None:
                quota = "max" if limits.cpu_quota <= 0 else str(limits.cpu_quota)
            put("cpu.max", f"{quota} {limits.cpu_period or period}")
        put("cpuset.cpus", limits.cpuset_cpus)
        put("cpuset.mems", limits.cpuset_mems)

    def _limit_blocks(self, limits: Limits, put: _Put) -> None:
        bfq = os.path.exists(f"{self._directory}/io.bfq.weight")
        file = "io.bfq.weight" if bfq else "io.weight"

        def weight(value: int) -> int:
            return value if bfq else weight_of_blocks(value)

        if limits.blkio_weight is not None:
            put(file, weight(limits.blkio_weight), _first_line)
        for throttle in limits.blkio_weight_device:
            device = f"{throttle.major}:{throttle.minor}"
            put(file, f"{device} {weight(throttle.rate)}", of_device(device, "default"))
        for word, throttles in (
            ("rbps", limits.blkio_read_bps),
            ("wbps", limits.blkio_write_bps),
            ("riops", limits.blkio_read_iops),
            ("wiops", limits.blkio_write_iops),
        ):
            for throttle in throttles:
                device = f"{throttle.major}:{throttle.minor}"
                unset = "rbps=max wbps=max riops=max wiops=max"
                put("io.max", f"{device} {word}={throttle.rate or 'max'}", of_device(device, unset))

    def allow_devices(self, rules: Sequence[Rule]) -> None:
        """Deny all devices but what `rules` allow, in order."""
        device_filter.attach(self._directory, rules)

    # ---- processes -------------------------------------------------------------------------------------------------
    def pids(self) -> list[int]:
        """Processes in the cgroup and below, in the numbers of this process's pid namespace."""
        return processes(self._directory)

    def freeze(self, timeout: float = 10.0) -> None:
        """Stop every process until `thaw`. TimeoutError, thawed again, where that does not come to pass."""
        write(f"{self._directory}/cgroup.freeze", "1")
        if not wait_until(lambda: table(f"{self._directory}/cgroup.events").get("frozen") == 1, timeout):
            self.thaw()
            raise TimeoutError(f"the processes of {self.path} did not stop within {timeout:g} s")

    def thaw(self) -> None:
        try:
            write(f"{self._directory}/cgroup.freeze", "0")
        except FileNotFoundError:
            pass  # the cgroup is gone, and with it what was frozen

    def is_frozen(self) -> bool:
        return read_or(f"{self._directory}/cgroup.freeze").strip() == "1"

    def kill(self, timeout: float = 10.0) -> bool:
        """SIGKILL to all (frozen ones too) until the cgroup is empty. Answers whether anything was there.

        TimeoutError: a process does not die (it waits in the kernel).
        """
        if not self.pids():
            return False

        def empty() -> bool:
            try:
                write(f"{self._directory}/cgroup.kill", "1")
            except FileNotFoundError:
                return True
            return not self.pids()

        if not wait_until(empty, timeout):
            raise TimeoutError(f"processes of {self.path} did not end within {timeout:g} s of SIGKILL")
        return True

    # ---- what it used ----------------------------------------------------------------------------------------------
    def oom_kills(self) -> int:
        """How many processes the kernel killed here, or in a cgroup below, for lack of memory."""
        return table(f"{self._directory}/memory.events").get("oom_kill", 0)

    def oom_notice(self) -> int:
        """memory.events, which polls with EPOLLPRI when one of its numbers has changed; the caller's to close."""
        return os.open(f"{self._directory}/memory.events", os.O_RDONLY | os.O_CLOEXEC)

    def counters(self) -> Counters:
        """The counters now. FileNotFoundError: the cgroup is gone."""
        if not self.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._directory)
        return counters_v2(self._directory)


def _swap(limits: Limits, memory_now: int) -> int | None:
    """Version 2 counts swap alone, where the request has memory and swap together."""
    memory = memory_now if limits.memory is None else limits.memory
    if limits.memory_swap is None:
        return -1 if limits.memory == -1 else None
    if limits.memory_swap == -1 or not 0 < memory < UNLIMITED:
        return limits.memory_swap
    return max(limits.memory_swap - memory, 0)


def weight_of_shares(shares: int | None) -> int | None:
    """2…262144 of version 1 onto 1…10000, so that 1024, the default there, is 100, the default here.

    The curve is that of runc and crun since 2025. Before, they mapped evenly, and 1024 came to 39: a container that asked
    for the default had a third of the weight of whoever had asked for nothing.
    """
    if not shares:
        return None
    power = math.log2(min(max(shares, 2), 262144))
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def weight_of_blocks(weight: int) -> int:
    """10…1000 of version 1 onto 1…10000."""
    return 1 + (max(weight, 10) - 10) * 9999 // 990


def _first_line(content: str) -> str:
    return content.partition("\n")[0]


def pass_on(root: str, path: str) -> set[str]:
    """Make the cgroups on the way to `path` that are missing, and have each pass its controllers on.

    Answers those that do not reach what is below `path`: this kernel has them not, a cgroup above does not pass them on,
    or one on the way holds processes (and so may pass on nothing: cgroup-v2.rst, "No Internal Process Constraint").
    """
    here, lacking = root, set[str]()
    for name in ["", *path.strip("/").split("/")]:
        here = f"{here}/{name}" if name else here
        try:
            os.mkdir(here, 0o755)
        except FileExistsError:
            pass
        available = set(read_or(f"{here}/cgroup.controllers").split())
        for controller in sorted(set(CONTROLLERS) - set(read_or(f"{here}/cgroup.subtree_control").split())):
            try:
                if controller not in available:
                    raise FileNotFoundError
                write(f"{here}/cgroup.subtree_control", f"+{controller}")
            except OSError:
                lacking.add(controller)
    return lacking


def move_aside(root: str, path: str, leaf: str) -> None:
    """Move every process that is in the cgroup `path` itself into its child `leaf`. OSError: one does not let itself be moved."""
    here = f"{root}{path.rstrip('/')}"
    os.makedirs(f"{here}/{leaf}", exist_ok=True)
    # They fork meanwhile; each round there are fewer who can.
    for _ in range(10):
        # 0 is one that this pid namespace does not see.
        pids = [pid for pid in read(f"{here}/cgroup.procs").split() if pid != "0"]
        if not pids:
            return
        for pid in pids:
            try:
                write(f"{here}/{leaf}/cgroup.procs", pid)
            except ProcessLookupError:
                pass
