"""One cgroup of version 2: cgroup-v2.rst of the kernel's documentation."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final

from wherry.linux import device_filter
from wherry.linux.cgroup_files import (
    Counters,
    Entrance,
    Limits,
    Rule,
    Throttle,
    checked,
    number,
    processes,
    put_back,
    read,
    read_or,
    remove,
    table,
    wait_until,
    write,
)

CONTROLLERS: Final = ("cpu", "cpuset", "io", "memory", "pids")


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

        OSError EBUSY: a cgroup above it holds processes, and so can pass no controller on.
        """
        parent = os.path.dirname(self._directory)
        wanted = set(CONTROLLERS) & set(read_or(f"{self._root}/cgroup.controllers").split())
        if not wanted <= set(read_or(f"{parent}/cgroup.subtree_control").split()):
            self._make_parents(wanted)
        elif not os.path.isdir(parent):
            self._make_parents(set())
        os.mkdir(self._directory, 0o755)

    def _make_parents(self, wanted: set[str]) -> None:
        here = self._root
        for name in ["", *self.path.strip("/").split("/")[:-1]]:
            here = f"{here}/{name}" if name else here
            try:
                os.mkdir(here, 0o755)
            except FileExistsError:
                pass
            missing = wanted - set(read(f"{here}/cgroup.subtree_control").split())
            if missing:
                write(f"{here}/cgroup.subtree_control", " ".join(f"+{word}" for word in sorted(missing)))

    def exists(self) -> bool:
        return os.path.isdir(self._directory)

    def entrance(self) -> Entrance:
        """The directory into which a process clones itself."""
        return Entrance(into=os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def entrance_of(self, pid: int) -> Entrance:
        """As `entrance`, for the cgroup below this one in which `pid` is now: one with cgroups below takes no process."""
        for line in read_or(f"/proc/{pid}/cgroup").splitlines():
            if line.startswith("0::"):
                path = line[3:]
                if path.startswith(self.path + "/"):
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                    return Entrance(into=os.open(self._root + path, flags))
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
    def limit(self, limits: Limits, restore: bool = False) -> list[str]:
        """Apply limits. Answers those that this kernel does not have, by file name; they are not applied.

        With `restore` a failure puts back what was written before it, as far as the kernel lets.
        """
        missing: list[str] = []
        before: list[tuple[str, str]] = []
        try:
            self._limit(limits, missing, before if restore else None)
        except OSError:
            put_back(before)
            raise
        return missing

    def _limit(self, limits: Limits, missing: list[str], before: list[tuple[str, str]] | None) -> None:

        def put(file: str, value: int | str | None) -> None:
            if value is None or value == "":
                return
            try:
                if before is not None:
                    before.append((f"{self._directory}/{file}", read(f"{self._directory}/{file}").strip()))
                write(f"{self._directory}/{file}", "max" if value == -1 else str(value))
            except FileNotFoundError:
                missing.append(file)

        put("memory.max", limits.memory)
        put("memory.swap.max", self._swap(limits))
        put("memory.low", limits.memory_reservation)
        put("cpu.weight", _weight_of_shares(limits.cpu_shares))
        if limits.cpu_quota is not None or limits.cpu_period is not None:
            quota, period = [*read_or(f"{self._directory}/cpu.max").split(), "max", "100000"][:2]
            if limits.cpu_quota is not None:
                quota = "max" if limits.cpu_quota <= 0 else str(limits.cpu_quota)
            put("cpu.max", f"{quota} {limits.cpu_period or period}")
        put("cpuset.cpus", limits.cpuset_cpus)
        put("cpuset.mems", limits.cpuset_mems)
        put("pids.max", limits.pids)
        if limits.blkio_weight is not None:
            if os.path.exists(f"{self._directory}/io.bfq.weight"):
                put("io.bfq.weight", limits.blkio_weight)
            else:
                put("io.weight", _weight_of_blocks(limits.blkio_weight))
        for throttle in limits.blkio_weight_device:
            put("io.bfq.weight", f"{throttle.major}:{throttle.minor} {throttle.rate}")
        for word, throttles in (
            ("rbps", limits.blkio_read_bps),
            ("wbps", limits.blkio_write_bps),
            ("riops", limits.blkio_read_iops),
            ("wiops", limits.blkio_write_iops),
        ):
            for throttle in throttles:
                put("io.max", _throttle(throttle, word))
        for file, text in limits.unified.items():
            if "/" in file or file.startswith("cgroup."):
                raise OSError(errno.EINVAL, f'"{file}" is not a file of a controller')
            put(file, text)
        for unknown, value in (
            ("memory.swappiness", limits.swappiness),
            ("cpu.rt_runtime_us", limits.cpu_realtime_runtime),
        ):
            if value is not None:
                missing.append(unknown)

    def _swap(self, limits: Limits) -> int | None:
        """Version 2 counts swap alone, where the request has memory and swap together."""
        if limits.memory_swap is None or limits.memory_swap == -1:
            return limits.memory_swap
        memory = limits.memory
        if memory is None:
            memory = number(f"{self._directory}/memory.max")
        return max(limits.memory_swap - memory, 0) if memory != -1 else None

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

    def counters(self) -> Counters:
        """The counters now. FileNotFoundError: the cgroup is gone."""
        here = self._directory
        if not self.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), here)
        cpu = table(f"{here}/cpu.stat")
        return Counters(
            cpu_total=cpu.get("usage_usec", 0) * 1000,
            cpu_user=cpu.get("user_usec", 0) * 1000,
            cpu_system=cpu.get("system_usec", 0) * 1000,
            cpu_throttling={
                "periods": cpu.get("nr_periods", 0),
                "throttled_periods": cpu.get("nr_throttled", 0),
                "throttled_time": cpu.get("throttled_usec", 0) * 1000,
            },
            memory_usage=number(f"{here}/memory.current"),
            memory_max=number(f"{here}/memory.peak"),
            memory_limit=number(f"{here}/memory.max"),
            memory_failures=table(f"{here}/memory.events").get("max", 0),
            memory_raw=table(f"{here}/memory.stat"),
            pids_current=number(f"{here}/pids.current"),
            pids_limit=number(f"{here}/pids.max"),
            blkio=_blocks(f"{here}/io.stat"),
        )


def _weight_of_shares(shares: int | None) -> int | None:
    """2…262144 of version 1 onto 1…10000, as runc maps them."""
    return None if not shares else 1 + (max(shares, 2) - 2) * 9999 // 262142


def _weight_of_blocks(weight: int) -> int:
    """10…1000 of version 1 onto 1…10000."""
    return 1 + (max(weight, 10) - 10) * 9999 // 990


def _throttle(throttle: Throttle, word: str) -> str:
    return f"{throttle.major}:{throttle.minor} {word}={throttle.rate}"


def _blocks(path: str) -> dict[str, tuple[tuple[int, int, str, int], ...]]:
    words = {
        "rbytes": ("io_service_bytes_recursive", "read"),
        "wbytes": ("io_service_bytes_recursive", "write"),
        "rios": ("io_serviced_recursive", "read"),
        "wios": ("io_serviced_recursive", "write"),
    }
    rows: dict[str, list[tuple[int, int, str, int]]] = {name: [] for name, _ in words.values()}
    for line in read_or(path).splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in words and value.isdigit():
                name, operation = words[key]
                rows[name].append((int(major), int(minor), operation, int(value)))
    return {name: tuple(found) for name, found in rows.items()}
