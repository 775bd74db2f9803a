"""One cgroup in the hierarchies of version 1: a directory of the same path in each. cgroup-v1/ of the kernel's documentation."""

from __future__ import annotations

import errno
import math
import os
import signal
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, Protocol

from wherry.linux.cgroup_counters import Counters, counters_v1
from wherry.linux.cgroup_files import (
    Before,
    Entrance,
    Limits,
    Rule,
    Writes,
    below,
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

CONTROLLERS: Final = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
"""Those that isolate or count. (A Java machine wants to see the first four, or it believes in no limit at all.)"""


class _Put(Protocol):
    """Writes a value into a controller's file, if there is a value."""

    def __call__(
        self, controller: str, file: str, value: int | str | None, before: Before = str.strip
    ) -> None: ...


class CgroupV1:
    """`roots`: controller → where its hierarchy is mounted; several may share one."""

    version = 1

    def __init__(self, path: str, roots: Mapping[str, str]) -> None:
        self.path = checked(path)
        self._roots = {name: roots[name] for name in CONTROLLERS if name in roots}

    @cached_property
    def _directories(self) -> tuple[str, ...]:
        return tuple(root + self.path for root in dict.fromkeys(self._roots.values()))

    @cached_property
    def _tracker(self) -> str:
        """The directory whose processes are the container's."""
        for name in ("freezer", "pids", "devices", "memory"):
            if name in self._roots:
                return self._roots[name] + self.path
        return self._directories[0]

    def _directory(self, controller: str) -> str | None:
        root = self._roots.get(controller)
        return None if root is None else root + self.path

    # ---- life ------------------------------------------------------------------------------------------------------
    def create(self) -> None:
        """Make the cgroup, with what is missing above it. FileExistsError: it is there already."""
        made: list[str] = []
        try:
            for directory in self._directories:
                cpuset = directory == self._directory("cpuset")
                try:
                    os.mkdir(directory, 0o755)
                except FileNotFoundError:
                    root = directory[: -len(self.path)]
                    _make_parents(root, self.path, cpuset)
                    os.mkdir(directory, 0o755)
                made.append(directory)
                if cpuset:
                    _fill_cpuset(directory)
        except BaseException:
            for directory in made:
                os.rmdir(directory)
            raise

    def exists(self) -> bool:
        return os.path.isdir(self._tracker)

    def entrance(self) -> Entrance:
        """Descriptors by which a process comes in."""
        opened: list[int] = []
        try:
            for directory in self._directories:
                opened.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
        return Entrance(tasks=tuple(opened))

    def entrance_of(self, pid: int) -> Entrance:
        """As `entrance`: in version 1 a cgroup with others below it takes processes as well."""
        return self.entrance()

    def remove(self, timeout: float = 2.0) -> None:
        """Remove the cgroup; gone already is success. OSError EBUSY: a process is in it."""
        first: OSError | None = None
        for directory in self._directories:
            try:
                remove(directory, timeout)
            except OSError as error:
                first = first or error
        if first is not None:
            raise first

    def views(self) -> list[tuple[str, str]]:
        """What a container sees as its own cgroup: (name below /sys/fs/cgroup, directory of the host)."""
        return [(os.path.basename(root), root + self.path) for root in dict.fromkeys(self._roots.values())]

    def links(self) -> list[tuple[str, str]]:
        """(controller, name in `views`) where several controllers share a hierarchy."""
        return [
            (name, os.path.basename(root))
            for name, root in self._roots.items()
            if name != os.path.basename(root)
        ]

    # ---- limits ----------------------------------------------------------------------------------------------------
    def limit(self, limits: Limits, restore: bool = False) -> None:
        """Apply limits. OSError EOPNOTSUPP: this kernel lacks one of them; EBUSY: more memory is in use.

        With `restore` a failure puts back what was written before it, as far as the kernel lets.
        """
        with Writes(restore=restore) as writes:

            def put(controller: str, file: str, value: int | str | None, before: Before = str.strip) -> None:
                if value is None or value == "":
                    return
                directory = self._directory(controller)
                if directory is None:
                    raise OSError(errno.EOPNOTSUPP, f"the cgroup hierarchy {controller} is not mounted", file)
                if value == -1 and not os.path.exists(f"{directory}/{file}"):
                    return  # no limit is what there is without the file
                writes.put(f"{directory}/{file}", str(value), before)

            self._limit(limits, put)

    def _limit(self, limits: Limits, put: _Put) -> None:
        self._limit_memory(limits, put)
        if limits.oom_kill_disable:
            put("memory", "memory.oom_control", 1)
        put("memory", "memory.soft_limit_in_bytes", limits.memory_reservation)
        put("memory", "memory.swappiness", limits.swappiness)
        put("cpu", "cpu.shares", limits.cpu_shares)
        _pair(put, ("cpu.cfs_period_us", limits.cpu_period), ("cpu.cfs_quota_us", limits.cpu_quota))
        self._limit_realtime(limits, put)
        put("cpuset", "cpuset.cpus", limits.cpuset_cpus)
        put("cpuset", "cpuset.mems", limits.cpuset_mems)
        put("pids", "pids.max", "max" if limits.pids == -1 else limits.pids)
        self._limit_blocks(limits, put)
        if limits.unified:
            raise OSError(
                errno.EOPNOTSUPP, "only cgroups of version 2 have this file", next(iter(limits.unified))
            )

    def _limit_memory(self, limits: Limits, put: _Put) -> None:
        memory, swap = limits.memory, limits.memory_swap
        if memory == -1 and swap is None:
            swap = -1
        file, both = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
        # The sum may never be below the memory: what grows goes first.
        sum_first = swap == -1
        if memory is not None and swap is not None and swap != -1:
            directory = self._directory("memory")
            sum_first = directory is not None and number(f"{directory}/{both}") < swap
        for each in (both, file) if sum_first else (file, both):
            put("memory", each, memory if each == file else swap)

    def _limit_realtime(self, limits: Limits, put: _Put) -> None:
        root = self._roots.get("cpu")
        if root is not None and limits.cpu_realtime_runtime:
            period = limits.cpu_realtime_period or number(f"{root}{self.path}/cpu.rt_period_us")
            _pass_realtime(root, self.path, limits.cpu_realtime_runtime / max(period, 1))
        _pair(
            put,
            ("cpu.rt_period_us", limits.cpu_realtime_period),
            ("cpu.rt_runtime_us", limits.cpu_realtime_runtime),
        )

    def _limit_blocks(self, limits: Limits, put: _Put) -> None:
        directory = self._directory("blkio")
        bfq = directory is not None and os.path.exists(f"{directory}/blkio.bfq.weight")
        put("blkio", "blkio.bfq.weight" if bfq else "blkio.weight", limits.blkio_weight)
        weights = "blkio.bfq.weight_device" if bfq else "blkio.weight_device"
        for file, throttles, unset in (
            (weights, limits.blkio_weight_device, "default"),
            ("blkio.throttle.read_bps_device", limits.blkio_read_bps, "0"),
            ("blkio.throttle.write_bps_device", limits.blkio_write_bps, "0"),
            ("blkio.throttle.read_iops_device", limits.blkio_read_iops, "0"),
            ("blkio.throttle.write_iops_device", limits.blkio_write_iops, "0"),
        ):
            for throttle in throttles:
                device = f"{throttle.major}:{throttle.minor}"
                put("blkio", file, f"{device} {throttle.rate}", of_device(device, unset))

    def allow_devices(self, rules: Sequence[Rule]) -> None:
        """Deny all devices, then apply `rules` in order. OSError EOPNOTSUPP: nothing here can keep a process from one."""
        directory = self._directory("devices")
        if directory is None:
            raise OSError(errno.EOPNOTSUPP, "the cgroup hierarchy devices is not mounted", "devices.deny")
        write(f"{directory}/devices.deny", "a")
        for rule in rules:
            numbers = ":".join("*" if part is None else str(part) for part in (rule.major, rule.minor))
            text = "a" if rule.kind == "a" and numbers == "*:*" else f"{rule.kind} {numbers} {rule.access}"
            write(f"{directory}/devices.{'allow' if rule.allow else 'deny'}", text)

    # ---- processes -------------------------------------------------------------------------------------------------
    def pids(self) -> list[int]:
        """Processes in the cgroup and below, in the numbers of this process's pid namespace."""
        return processes(self._tracker)

    def freeze(self, timeout: float = 10.0) -> None:
        """Stop every process until `thaw`. TimeoutError, thawed again, where that does not come to pass."""
        directory = self._directory("freezer")
        if directory is None:
            raise OSError(errno.EOPNOTSUPP, "no freezer hierarchy is mounted")

        def frozen() -> bool:
            # A fork meanwhile leaves it FREEZING; writing again is what helps.
            write(f"{directory}/freezer.state", "FROZEN")
            return read(f"{directory}/freezer.state").strip() == "FROZEN"

        if not wait_until(frozen, timeout):
            self.thaw()
            raise TimeoutError(f"the processes of {self.path} did not stop within {timeout:g} s")

    def thaw(self) -> None:
        directory = self._directory("freezer")
        if directory is not None:
            try:
                write(f"{directory}/freezer.state", "THAWED")
            except FileNotFoundError:
                pass  # the cgroup is gone, and with it what was frozen

    def is_frozen(self) -> bool:
        directory = self._directory("freezer")
        return directory is not None and read_or(f"{directory}/freezer.state").strip() in (
            "FROZEN",
            "FREEZING",
        )

    def kill(self, timeout: float = 10.0) -> bool:
        """SIGKILL to all, again and again until the cgroup is empty. Answers whether anything was there.

        TimeoutError: a process does not die (it waits in the kernel).
        """
        if not self.pids():
            return False

        def empty() -> bool:
            # Frozen, nothing forks between being listed and being killed, and no number is used again.
            directory = self._directory("freezer")
            if directory is not None:
                try:
                    write(f"{directory}/freezer.state", "FROZEN")
                except FileNotFoundError:
                    return True
            pids = self.pids()
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            # Also what the container itself has frozen below: who is frozen does not die.
            for each in (*below(directory), directory) if directory is not None else ():
                try:
                    write(f"{each}/freezer.state", "THAWED")
                except FileNotFoundError:
                    pass
            return not pids

        if not wait_until(empty, timeout):
            raise TimeoutError(f"processes of {self.path} did not end within {timeout:g} s of SIGKILL")
        return True

    # ---- what it used ----------------------------------------------------------------------------------------------
    def oom_kills(self) -> int:
        """How many processes the kernel killed here for lack of memory."""
        directory = self._directory("memory")
        if directory is None:
            return 0
        return sum(
            table(f"{each}/memory.oom_control").get("oom_kill", 0) for each in (directory, *below(directory))
        )

    def oom_notice(self) -> int:
        """An eventfd(2) that becomes readable when memory runs out here, or in a cgroup above; the caller's to close.

        Memory may run out without a kill: where killing is disabled, everyone waits.
        """
        directory = self._directory("memory")
        if directory is None:
            raise OSError(errno.EOPNOTSUPP, "no memory hierarchy is mounted")
        notice = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                write(f"{directory}/cgroup.event_control", f"{notice} {control}")
            finally:
                os.close(control)
        except BaseException:
            os.close(notice)
            raise
        return notice

    def counters(self) -> Counters:
        """The counters now. FileNotFoundError: the cgroup is gone."""
        if not self.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._tracker)
        return counters_v1(self._directory)


def _pair(put: _Put, period: tuple[str, int | None], share: tuple[str, int | None]) -> None:
    """Write a period and the part of it that is given; the kernel wants the part to fit after each of the two."""
    try:
        put("cpu", *period)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        put("cpu", *share)
        put("cpu", *period)
    put("cpu", *share)


def _pass_realtime(root: str, path: str, share: float) -> None:
    """Give each cgroup above `path` as much of real time as those below it will have together: new ones have none.

    What they have already is not taken away again. `share`: runtime in periods.
    """
    needed: list[tuple[str, float]] = []
    child = f"{root}{path}"
    while os.path.dirname(child) != root:
        parent = os.path.dirname(child)
        siblings = (entry.path for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False))
        share += sum(_realtime(each) for each in siblings if each != child)
        needed.append((parent, share))
        child = parent
    for directory, wanted in reversed(needed):
        if _realtime(directory) < wanted:
            period = number(f"{directory}/cpu.rt_period_us")
            write(f"{directory}/cpu.rt_runtime_us", str(math.ceil(wanted * period)))


def _realtime(directory: str) -> float:
    return number(f"{directory}/cpu.rt_runtime_us") / max(number(f"{directory}/cpu.rt_period_us"), 1)


def _make_parents(root: str, path: str, cpuset: bool) -> None:
    here = root
    for name in path.strip("/").split("/")[:-1]:
        here = f"{here}/{name}"
        try:
            os.mkdir(here, 0o755)
        except FileExistsError:
            pass
        if cpuset:
            _fill_cpuset(here)
            # From here on a new cpuset begins with what the one above has.
            write(f"{here}/cgroup.clone_children", "1")


def _fill_cpuset(directory: str) -> None:
    """A cpuset without processors or memory takes no process; it begins with what the one above has."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not read(f"{directory}/{file}").strip():
            write(f"{directory}/{file}", read(f"{os.path.dirname(directory)}/{file}").strip())
