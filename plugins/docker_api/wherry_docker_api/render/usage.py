"""What a container uses. Clients subtract two samples of it. Source: moby `api/types/container/stats.go`."""

from __future__ import annotations

import os
from typing import Any, Final

from wherry.spec.frontend import Stats, Usage
from wherry_docker_api.words import ZERO_TIME, stamp

_BLKIO: Final = (
    "io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive",
    "io_wait_time_recursive", "io_merged_recursive", "io_time_recursive", "sectors_recursive",
)  # fmt: skip
_NO_CPU: Final = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
_ALL_MEMORY: Final = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
_ONLY_V1: Final = ("max_usage", "failcnt")


def sample(name: str, container_id: str, usage: Usage | None, before: Usage | None) -> dict[str, Any]:
    """One sample, with the CPU times of the one `before`; None: of a container that does not run."""
    shown: dict[str, Any] = {
        "name": f"/{name}",
        "id": container_id,
        "read": stamp(usage.read_ns) if usage else ZERO_TIME,
        "preread": stamp(before.read_ns) if before else ZERO_TIME,
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(_BLKIO),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(usage) if usage else _NO_CPU,
        "precpu_stats": _cpu(before) if before else _NO_CPU,
        "memory_stats": {},
    }
    if usage is None:
        return shown
    stats = usage.stats
    shown["pids_stats"] = {"current": stats.pids_current}
    if stats.pids_limit > 0:
        shown["pids_stats"]["limit"] = stats.pids_limit
    shown["blkio_stats"] = {table: _blkio(stats, table) for table in _BLKIO}
    shown["memory_stats"] = {
        "usage": stats.memory_usage,
        "max_usage": stats.memory_max,
        "stats": dict(stats.memory_raw),
        "failcnt": stats.memory_failures,
        "limit": min(stats.memory_limit or _ALL_MEMORY, _ALL_MEMORY),  # without one, the machine is the limit
    }
    for field in _ONLY_V1:
        if not shown["memory_stats"][field]:
            del shown["memory_stats"][field]
    if usage.networks:
        shown["networks"] = {interface: dict(counters) for interface, counters in usage.networks.items()}
    return shown


def _cpu(usage: Usage) -> dict[str, Any]:
    stats = usage.stats
    cpu: dict[str, Any] = {"total_usage": stats.cpu_total}
    if stats.cpu_per_core:
        cpu["percpu_usage"] = list(stats.cpu_per_core)
    cpu["usage_in_kernelmode"] = stats.cpu_system
    cpu["usage_in_usermode"] = stats.cpu_user
    throttling = stats.cpu_throttling
    return {
        "cpu_usage": cpu,
        "system_cpu_usage": usage.system_cpu,
        "online_cpus": usage.online_cpus,
        "throttling_data": {
            "periods": throttling.get("periods", throttling.get("nr_periods", 0)),
            "throttled_periods": throttling.get("throttled_periods", throttling.get("nr_throttled", 0)),
            "throttled_time": throttling.get("throttled_time", 0),
        },
    }


def _blkio(stats: Stats, table: str) -> list[dict[str, Any]] | None:
    if table not in stats.blkio:
        return None
    return [
        {"major": major, "minor": minor, "op": operation.lower(), "value": value}
        for major, minor, operation, value in stats.blkio[table]
    ]
