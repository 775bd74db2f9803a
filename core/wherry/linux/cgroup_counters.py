"""What a cgroup used, read from its files, in one form for both versions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from wherry.linux.cgroup_files import number, read_or, table

_THROTTLED: Final = ("io_service_bytes_recursive", "io_serviced_recursive")
_TABLES: Final = (
    *_THROTTLED,
    *("io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive", "io_merged_recursive"),
    *("io_time_recursive", "sectors_recursive"),
)
_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a cgroup used. Times in nanoseconds, sizes in bytes; `raw` keeps the kernel's own words."""

    cpu_total: int = 0
    cpu_user: int = 0
    cpu_system: int = 0
    cpu_per_core: tuple[int, ...] = ()
    cpu_throttling: Mapping[str, int] = field(default_factory=dict)
    """`periods`, `throttled_periods`, `throttled_time`."""
    memory_usage: int = 0
    memory_max: int = 0
    memory_limit: int = 0
    memory_failures: int = 0
    """How often the limit was met (version 2: and nothing could be reclaimed)."""
    memory_raw: Mapping[str, int] = field(default_factory=dict)
    pids_current: int = 0
    pids_limit: int = 0
    """0 or 2**64 - 1: none."""
    blkio: Mapping[str, tuple[tuple[int, int, str, int], ...]] = field(default_factory=dict)
    """`io_service_bytes_recursive`, … → (major, minor, operation, value); a table that is not there is not named."""


def counters_v1(directory: Callable[[str], str | None]) -> Counters:
    """`directory`: of a controller, if its hierarchy is mounted."""
    cpu, account, memory, pids, blocks = (
        directory(name) or "/nonexistent" for name in ("cpu", "cpuacct", "memory", "pids", "blkio")
    )
    spent = table(f"{account}/cpuacct.stat")
    throttled = table(f"{cpu}/cpu.stat")
    return Counters(
        cpu_total=number(f"{account}/cpuacct.usage"),
        cpu_user=spent.get("user", 0) * _TICK,
        cpu_system=spent.get("system", 0) * _TICK,
        cpu_per_core=tuple(map(int, read_or(f"{account}/cpuacct.usage_percpu").split())),
        cpu_throttling={
            "periods": throttled.get("nr_periods", 0),
            "throttled_periods": throttled.get("nr_throttled", 0),
            "throttled_time": throttled.get("throttled_time", 0),
        },
        memory_usage=number(f"{memory}/memory.usage_in_bytes"),
        memory_max=number(f"{memory}/memory.max_usage_in_bytes"),
        memory_limit=number(f"{memory}/memory.limit_in_bytes"),
        memory_failures=number(f"{memory}/memory.failcnt"),
        memory_raw=table(f"{memory}/memory.stat"),
        pids_current=number(f"{pids}/pids.current"),
        pids_limit=0 if read_or(f"{pids}/pids.max").strip() == "max" else number(f"{pids}/pids.max"),
        blkio={
            # Some are of CFQ, which is gone: their files are not there.
            name: _blocks_v1(f"{blocks}/blkio.{'throttle' if name in _THROTTLED else 'bfq'}.{name}")
            for name in _TABLES
        },
    )


def counters_v2(here: str) -> Counters:
    """`here`: the cgroup's directory."""
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
        memory_failures=table(f"{here}/memory.events").get("oom", 0),
        memory_raw=table(f"{here}/memory.stat"),
        pids_current=number(f"{here}/pids.current"),
        pids_limit=number(f"{here}/pids.max"),
        blkio=_blocks_v2(f"{here}/io.stat"),
    )


def _blocks_v1(path: str) -> tuple[tuple[int, int, str, int], ...]:
    rows = []
    for line in read_or(path).splitlines():
        words = line.split()  # 8:0 Read 4096; the last line is a total
        if len(words) == 3 and ":" in words[0]:
            major, _, minor = words[0].partition(":")
            rows.append((int(major), int(minor), words[1].lower(), int(words[2])))
    return tuple(rows)


def _blocks_v2(path: str) -> dict[str, tuple[tuple[int, int, str, int], ...]]:
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
