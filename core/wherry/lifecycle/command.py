"""From a container's configuration to its `Command`: the reference's `populateCommand` and `createDaemonEnvironment`.

Everything here is a function of values; what must be opened or asked of the kernel is done by the steps of `start`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence

from wherry.errors import InvalidRequest
from wherry.lifecycle import capability_sets, defaults, labels, reach, security, ulimits
from wherry.lifecycle.usual import Usual
from wherry.spec.command import Process, Resources, Throttle
from wherry.spec.container import Config, HostConfig, ThrottleDevice


def argv(config: Config) -> tuple[str, ...]:
    """Entrypoint and command as one; InvalidRequest if there is nothing to run."""
    entrypoint = [config.entrypoint] if isinstance(config.entrypoint, str) else list(config.entrypoint or ())
    command = [config.cmd] if isinstance(config.cmd, str) else list(config.cmd or ())
    whole = [*entrypoint, *command]
    if entrypoint == [""]:
        whole = command
    if not whole or not whole[0]:
        raise InvalidRequest("no command specified")
    return tuple(whole)


def environment(config: Config, linked: Sequence[str] = (), *, tty: bool | None = None) -> tuple[str, ...]:
    """A process's environment: what every container has, then links, then the container's own over both.

    `tty`: whether the process has a terminal; None: as the container.
    """
    hostname = f"{config.hostname}.{config.domainname}" if config.domainname else config.hostname
    variables = [f"PATH={defaults.PATH}", f"HOSTNAME={hostname}"]
    if config.tty if tty is None else tty:
        variables.append("TERM=xterm")
    return merge_environment([*variables, *linked], config.env or ())


def merge_environment(base: Iterable[str], changes: Iterable[str]) -> tuple[str, ...]:
    """`base` with the values of `changes` in place, or appended; `NAME` without `=` removes. Source: reference."""
    merged: dict[str, str | None] = {}
    for entry in base:
        merged[entry.partition("=")[0]] = entry
    for entry in changes:
        name, equals, _ = entry.partition("=")
        if equals:
            merged[name] = entry
        else:
            merged.pop(name, None)
    return tuple(entry for entry in merged.values() if entry is not None)


def resources(host: HostConfig) -> Resources:
    """Limits as the exec driver takes them: 0 in the API is "not limited"."""
    quota, period = host.cpu_quota or None, host.cpu_period or None
    if host.nano_cpus:
        period, quota = 100_000, host.nano_cpus // 10_000
    swap = host.memory_swap or (host.memory * 2 if host.memory else None)
    return Resources(
        memory=host.memory or None,
        memory_swap=swap,
        memory_reservation=host.memory_reservation or None,
        swappiness=None if host.memory_swappiness in (None, -1) else host.memory_swappiness,
        oom_kill_disable=bool(host.oom_kill_disable),
        cpu_shares=host.cpu_shares or None,
        cpu_quota=quota,
        cpu_period=period,
        cpu_realtime_runtime=host.cpu_realtime_runtime or None,
        cpu_realtime_period=host.cpu_realtime_period or None,
        cpuset_cpus=host.cpuset_cpus,
        cpuset_mems=host.cpuset_mems,
        pids=host.pids_limit or None,
        blkio_weight=host.blkio_weight or None,
        blkio_weight_device=tuple(_throttle(w.path, w.weight) for w in host.blkio_weight_device or ()),
        blkio_read_bps=_throttles(host.blkio_device_read_bps),
        blkio_write_bps=_throttles(host.blkio_device_write_bps),
        blkio_read_iops=_throttles(host.blkio_device_read_i_ops),
        blkio_write_iops=_throttles(host.blkio_device_write_i_ops),
    )


def _throttles(limits: Sequence[ThrottleDevice] | None) -> tuple[Throttle, ...]:
    return tuple(_throttle(limit.path, limit.rate) for limit in limits or ())


def _throttle(path: str, rate: int) -> Throttle:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InvalidRequest(f"block device {path}: {error.strerror}") from error
    if not stat.S_ISBLK(found.st_mode):
        raise InvalidRequest(f"{path} is not a block device, so its I/O cannot be limited")
    return Throttle(major=os.major(found.st_rdev), minor=os.minor(found.st_rdev), rate=rate)


def process(config: Config, host: HostConfig, env: tuple[str, ...], usual: Usual) -> Process:
    """Process 1 of a container."""
    names = capability_sets.kept(host.privileged, host.cap_add, host.cap_drop)
    guards = security.parse(host.security_opt, privileged=host.privileged, usual=usual.security)
    size = tuple(host.console_size or ())
    return Process(
        argv=argv(config),
        env=env,
        cwd=config.working_dir or "/",
        user=config.user,
        groups=tuple(host.group_add or ()),
        tty=config.tty,
        console_size=(size[0], size[1]) if len(size) == 2 and all(size) else None,
        capabilities=capability_sets.sets(names),
        rlimits=ulimits.settle(host.ulimits, usual.rlimits),
        no_new_privileges=guards.no_new_privileges,
        oom_score_adj=max(host.oom_score_adj, reach.oom_score_adj()),
        seccomp=guards.seccomp,
        apparmor=guards.apparmor,
        selinux_label=labels.label(guards.labels),
        privileged=host.privileged,
    )
