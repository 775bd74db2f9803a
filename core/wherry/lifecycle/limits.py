"""Limits of containers against what this kernel has: what it cannot honour is said and dropped, what cannot be is refused.

Source: reference `verifyDaemonSettings`; its successor in Docker, whose words these are, because clients match them;
API 1.51 Resources.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Any, Final

import msgspec

from wherry.cgroups.support import Support, disks_with_weights
from wherry.errors import InvalidRequest
from wherry.linux import cgroups
from wherry.spec.container import HostConfig

LEAST_MEMORY: Final = 6 << 20
"""Bytes. Not the kernel's: with less, a container does not come up."""
SHARES: Final = range(2, 262144 + 1)
PERIODS: Final = range(1000, 1_000_000 + 1)
"""Microseconds."""
LEAST_QUOTA: Final = 1000
BLKIO_WEIGHTS: Final = range(10, 1000 + 1)
HIGHEST_CPU: Final = 8192


def _no(what: str, end: str = "Limitation discarded.", mounted: bool = True) -> str:
    return f"Your kernel does not support {what}{' or the cgroup is not mounted' if mounted else ''}. {end}"


_DROPS: Final = (
    ("swappiness", ("memory_swappiness",), _no("memory swappiness capabilities", "Memory swappiness discarded.")),
    ("reservation", ("memory_reservation",), _no("memory soft limit capabilities")),
    ("oom_kill_disable", ("oom_kill_disable",), _no("OomKillDisable", "OomKillDisable discarded.", mounted=False)),
    ("pids", ("pids_limit",), _no("PIDs limit capabilities", "PIDs limit discarded.")),
    ("shares", ("cpu_shares",), _no("CPU shares", "Shares discarded.")),
    ("cfs", ("cpu_period", "cpu_quota"), _no("CPU CFS scheduler", "CPU period/quota discarded.", mounted=False)),
    ("cpuset", ("cpuset_cpus", "cpuset_mems"), _no("cpuset", "Cpuset discarded.")),
    ("weight", ("blkio_weight",), _no("Block I/O weight", "Weight discarded.")),
    ("weight_device", ("blkio_weight_device",), _no("Block I/O weight_device", "Weight-device discarded.")),
    ("read_bps", ("blkio_device_read_bps",), _no("BPS Block I/O read limit", "Block I/O BPS read limit discarded.")),
    ("write_bps", ("blkio_device_write_bps",), _no("BPS Block I/O write limit", "Block I/O BPS write limit discarded.")),
    ("read_iops", ("blkio_device_read_i_ops",), _no("IOPS Block read limit", "Block I/O IOPS read limit discarded.")),
    ("write_iops", ("blkio_device_write_i_ops",), _no("IOPS Block write limit", "Block I/O IOPS write limit discarded.")),
)  # fmt: skip
"""(what `Support` calls it, fields, what is said when they are dropped for lack of it)."""

_OBSOLETE: Final = (
    # No kernel since 5.4 does what it says when it takes one.
    ("kernel_memory", _no("kernel memory limit capabilities")),
    ("kernel_memory_tcp", _no("kernel TCP memory limit capabilities")),
    ("cpu_percent", "linux does not support CPU percent. Percent discarded."),
)
_UNSAID: Final = HostConfig()


def honoured(host: HostConfig, found: Support, *, update: bool = False) -> tuple[HostConfig, list[str]]:
    """The host configuration without what this kernel cannot do, and the warnings about that. InvalidRequest.

    `update`: it is an existing container's, whose memory may have been limited before.
    """
    if host.memory_swappiness == -1:
        host = msgspec.structs.replace(
            host, memory_swappiness=None
        )  # what "not said" was before there was null
    if host.memory and host.memory < LEAST_MEMORY:
        raise InvalidRequest("Minimum memory limit allowed is 6MB")
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and not found.realtime:
        raise InvalidRequest("kernel does not support CPU real-time scheduler")
    if host.nano_cpus > 0 and not found.cfs:
        raise InvalidRequest(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    weighed = host.blkio_weight or host.blkio_weight_device
    if weighed and found.version == 1 and not disks_with_weights():
        found = replace(found, weight=False, weight_device=False)
    host, warnings = _without(host, found)
    if host.oom_kill_disable and not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )
    _check_memory(host, update)
    _check_cpu(host)
    _check_blocks(host)
    return host, warnings


def _without(host: HostConfig, found: Support) -> tuple[HostConfig, list[str]]:
    changes: dict[str, Any] = {}
    warnings = []
    if host.memory and not found.memory:
        changes |= {"memory": 0, "memory_swap": -1}
        warnings.append(_no("memory limit capabilities"))
    elif host.memory and host.memory_swap != -1 and not found.swap:
        changes["memory_swap"] = -1
        warnings.append(_no("swap limit capabilities", "Memory limited without swap."))
    for limit, names, warning in _DROPS:
        if not getattr(found, limit) and any(_said(host, name) for name in names):
            changes |= {name: getattr(_UNSAID, name) for name in names}
            warnings.append(warning)
    for name, warning in _OBSOLETE:
        if getattr(host, name):
            changes[name] = 0
            warnings.append(warning)
    return msgspec.structs.replace(host, **changes) if changes else host, warnings


def _said(host: HostConfig, name: str) -> bool:
    value = getattr(host, name)
    return bool(value) or (name == "memory_swappiness" and value is not None)


# ---- What is refused ---------------------------------------------------------------------------------------------
def _check_memory(host: HostConfig, update: bool) -> None:
    if host.memory and 0 < host.memory_swap < host.memory:
        raise InvalidRequest("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory_swap > 0 and not host.memory and not update:
        raise InvalidRequest("You should always set the Memory limit when using Memoryswap limit, see usage")
    if host.memory_swap < -1:
        raise InvalidRequest(
            f"Invalid value {host.memory_swap} for the limit of memory plus swap: -1 is none"
        )
    if host.memory_swappiness is not None and not 0 <= host.memory_swappiness <= 100:
        raise InvalidRequest(
            f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100"
        )
    if host.memory_reservation and host.memory_reservation < LEAST_MEMORY:
        raise InvalidRequest("Minimum memory reservation allowed is 6MB")
    if host.memory and host.memory < host.memory_reservation:
        raise InvalidRequest("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host.shm_size < 0:
        raise InvalidRequest("SHM size can not be less than 0")


def _check_cpu(host: HostConfig) -> None:
    if host.nano_cpus > 0 and host.cpu_period > 0:
        raise InvalidRequest("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus > 0 and host.cpu_quota > 0:
        raise InvalidRequest("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    there = len(os.sched_getaffinity(0))
    if not 0 <= host.nano_cpus <= there * 1_000_000_000:
        raise InvalidRequest(
            f"Range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
        )
    if host.cpu_shares < 0:
        raise InvalidRequest("shares: invalid argument")
    if host.cpu_shares and host.cpu_shares < SHARES[0]:
        raise InvalidRequest(f"the minimum allowed cpu-shares is {SHARES[0]}")
    if host.cpu_shares > SHARES[-1]:
        raise InvalidRequest(f"the maximum allowed cpu-shares is {SHARES[-1]}")
    if host.cpu_period and host.cpu_period not in PERIODS:
        raise InvalidRequest(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < host.cpu_quota < LEAST_QUOTA or 0 < host.nano_cpus < LEAST_QUOTA * 10_000:
        raise InvalidRequest("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.cpu_realtime_period < 0 or host.cpu_realtime_runtime < 0:
        raise InvalidRequest("cpu real-time period and runtime cannot be negative")
    if 0 < host.cpu_realtime_period < host.cpu_realtime_runtime:
        raise InvalidRequest("cpu real-time runtime cannot be higher than cpu real-time period")
    if host.cpuset_cpus or host.cpuset_mems:
        cpus, mems = cgroups.processors()
        _check_set(host.cpuset_cpus, cpus, "cpuset cpus", "CPUs")
        _check_set(host.cpuset_mems, mems, "cpuset mems", "memory nodes")


def _check_set(wanted: str, available: str, what: str, members: str) -> None:
    if not wanted:
        return
    try:
        asked = numbers(wanted)
    except ValueError as error:
        raise InvalidRequest(f"Invalid value {wanted} for {what}: {error}") from None
    if not asked <= numbers(available):
        raise InvalidRequest(
            f"Requested {members} are not available - requested {wanted}, available: {available}"
        )


def numbers(text: str) -> frozenset[int]:
    """The set that `0-3,6` stands for: cpuset(7), list format. ValueError."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part, re.ASCII)
        if match is None:
            raise ValueError(f"invalid format: {text}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"invalid format: {text}")
        if last > HIGHEST_CPU:
            raise ValueError(f"value of out range, maximum is {HIGHEST_CPU}")
        found.update(range(first, last + 1))
    return frozenset(found)


def _check_blocks(host: HostConfig) -> None:
    weights = [host.blkio_weight, *(each.weight for each in host.blkio_weight_device or ())]
    if any(weight and weight not in BLKIO_WEIGHTS for weight in weights):
        raise InvalidRequest("Range of blkio weight is from 10 to 1000")
    if host.io_maximum_bandwidth or host.io_maximum_iops:
        raise InvalidRequest(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps"
        )
