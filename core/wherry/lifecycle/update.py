"""update: other limits, and another restart policy, for a container that exists. All or nothing, and promised."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from wherry.container.container import Container
from wherry.errors import Conflict, InvalidRequest, WherryError
from wherry.house import House
from wherry.lifecycle import command
from wherry.lifecycle.create import check
from wherry.lifecycle.limits import honoured
from wherry.spec.command import Resources
from wherry.spec.container import HostConfig

FIELDS: Final = frozenset(
    "BlkioWeight BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps "
    "CpuShares CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems NanoCpus Memory "
    "MemoryReservation MemorySwap MemorySwappiness KernelMemory PidsLimit RestartPolicy".split()
)
"""What can be changed; a device, for one, cannot be taken away from who has it open."""
_TOGETHER: Final = (("memory", "memory_swap"), ("cpu_quota", "cpu_period"))
"""What has to be said together because the kernel compares the two, or keeps them in one file."""

_WITHOUT: Final = {"cpu_shares": 1024, "blkio_weight": 100}
"""What a cgroup has that was told nothing, where that is not -1 for "no limit"."""


def update(house: House, name: str, fields: Mapping[str, Any]) -> list[str]:
    """Change limits and the restart policy, also of a running container; answers warnings.

    A field that is 0, empty or null stays as it is, except for `PidsLimit`, of which 0 and -1 are "no limit". The
    container's devices and their rules are not touched. Conflict: it does not fit what the container has.
    Source: API 1.51 ContainerUpdate; moby `Container.UpdateContainer`.
    """
    container = house.containers.get(name)
    house.admit("container.update", container.id, {"fields": dict(fields)})
    given = {key: value for key, value in fields.items() if value not in (None, 0, "", [], {})}
    if isinstance(given.get("RestartPolicy"), dict) and not given["RestartPolicy"].get("Name"):
        del given["RestartPolicy"]
    pids = fields.get("PidsLimit")
    if isinstance(pids, int) and pids <= 0:
        given["PidsLimit"] = 0
    warnings = [f"{key} cannot be updated. {key} discarded." for key in sorted(given.keys() - FIELDS)]
    with container.operation("update"):
        if container.view.status in ("removing", "dead"):
            raise _refused(container, 'container is marked for removal and cannot be "update"')
        before = container.host_config
        changed = _merged(container, {key: value for key, value in given.items() if key in FIELDS})
        changed, dropped = honoured(changed, house.support, update=True)
        check(house, container.record.config, changed)
        undone = _apply(house, container, before, changed)
        container.host_config = changed
        try:
            container.save(synced=True, host_config=True)
        except BaseException:
            container.host_config = before
            if undone is not None:
                with contextlib.suppress(WherryError):  # the error that led here is the one to tell
                    _tell_driver(house, container, undone)
            raise
        container.publish()
        house.tell(container, "update")
    return warnings + dropped


def _merged(container: Container, given: Mapping[str, Any]) -> HostConfig:
    before = container.host_config
    try:
        changed = msgspec.convert({**msgspec.to_builtins(before), **given}, HostConfig)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"invalid update: {error}") from error
    for one, other, words in (
        ("nano_cpus", "cpu_period", ("Nano CPUs", "CPU Period")),
        ("nano_cpus", "cpu_quota", ("Nano CPUs", "CPU Quota")),
        ("cpu_period", "nano_cpus", ("CPU Period", "NanoCPUs")),
        ("cpu_quota", "nano_cpus", ("CPU Quota", "NanoCPUs")),
    ):
        if getattr(changed, one) != getattr(before, one) and getattr(before, other) > 0:
            raise _refused(
                container,
                f"Conflicting options: {words[0]} cannot be updated as {words[1]} has already been set",
            )
    if "MemorySwap" not in given and changed.memory != before.memory:
        if before.memory_swap == before.memory * 2:
            # It was not chosen, so it goes along. (Docker refuses to limit a container that was not limited before.)
            changed = msgspec.structs.replace(changed, memory_swap=changed.memory * 2)
        elif 0 < before.memory_swap < changed.memory:
            raise _refused(
                container,
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            )
    if "RestartPolicy" in given and before.auto_remove and changed.restart_policy.name != "no":
        raise _refused(
            container, "Restart policy cannot be updated because AutoRemove is enabled for the container"
        )
    return changed


def _refused(container: Container, why: str) -> Conflict:
    return Conflict(f"Cannot update container {container.id}: {why}")


def _apply(house: House, container: Container, before: HostConfig, changed: HostConfig) -> Resources | None:
    """Tell the driver of a running container what is different; answers what would undo that."""
    new, old = command.resources(changed), command.resources(before)
    if new == old or container.run is None or not container.running:
        return None
    _tell_driver(house, container, difference(new, old))
    return difference(old, new)


def _tell_driver(house: House, container: Container, resources: Resources) -> None:
    assert container.run is not None
    house.exec_driver(container).call("update", state=container.run.state, resources=resources)


def difference(new: Resources, old: Resources) -> Resources:
    """What `new` says differently, all else unsaid; what there is without a limit for one that it has no longer."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(Resources):
        value, was = getattr(new, field.name), getattr(old, field.name)
        if value != was:
            changes[field.name] = _WITHOUT.get(field.name, -1) if value is None else value
    for name in ("blkio_read_bps", "blkio_write_bps", "blkio_read_iops", "blkio_write_iops"):
        if name in changes:
            kept = {(each.major, each.minor) for each in changes[name]}
            gone = (each for each in getattr(old, name) if (each.major, each.minor) not in kept)
            changes[name] += tuple(dataclasses.replace(each, rate=0) for each in gone)
    for pair in _TOGETHER:
        if any(name in changes for name in pair):
            changes |= {name: getattr(new, name) for name in pair if name not in changes}
    return Resources(**changes)
