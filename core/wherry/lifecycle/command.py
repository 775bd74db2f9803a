"""From a container's configuration to its `Command`: the reference's `populateCommand` and `createDaemonEnvironment`.

Everything here is a function of values; what must be opened or asked of the kernel is done by the steps of `start`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from typing import Final

from wherry.errors import InvalidRequest, NotFound
from wherry.lifecycle import defaults
from wherry.linux.capabilities import DEFAULT, NAMES, last
from wherry.spec.command import (
    Capabilities,
    Device,
    DeviceRule,
    Process,
    Resources,
    Rlimit,
    Seccomp,
    Throttle,
)
from wherry.spec.container import Config, DeviceMapping, HostConfig, ThrottleDevice, Ulimit

RLIMITS: Final = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()
)


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


def environment(config: Config, linked: Sequence[str] = ()) -> tuple[str, ...]:
    """The process's environment: what every container has, then links, then the container's own over both."""
    hostname = f"{config.hostname}.{config.domainname}" if config.domainname else config.hostname
    variables = [f"PATH={defaults.PATH}", f"HOSTNAME={hostname}"]
    if config.tty:
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


def capabilities(privileged: bool, add: Sequence[str] | None, drop: Sequence[str] | None) -> tuple[str, ...]:
    """Docker's default set with `--cap-add` and `--cap-drop`, `ALL` included; InvalidRequest names an unknown one."""
    added = [_capability(name) for name in add or ()]
    dropped = [_capability(name) for name in drop or ()]
    if privileged:
        return NAMES[: last() + 1]
    if "ALL" in added:
        return tuple(c for c in NAMES[: last() + 1] if c not in dropped)
    kept = [] if "ALL" in dropped else [c for c in DEFAULT if c not in dropped]
    return tuple(dict.fromkeys([*kept, *added]))


def _capability(name: str) -> str:
    upper = name.upper()
    if upper == "ALL":
        return "ALL"
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in NAMES:
        raise InvalidRequest(f'invalid capability: unknown capability: "{full}"')
    return full


def rlimits(own: Sequence[Ulimit] | None, daemon: Sequence[Rlimit]) -> tuple[Rlimit, ...]:
    """The container's limits, and the daemon's for those that it does not name. Nothing is inherited."""
    wanted: dict[str, Rlimit | Ulimit] = {limit.name: limit for limit in daemon}
    wanted |= {limit.name: limit for limit in own or ()}
    for limit in wanted.values():
        if limit.name not in RLIMITS:
            raise InvalidRequest(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidRequest(
                f"ulimit {limit.name}: soft limit {limit.soft} must be less than or equal to hard limit {limit.hard}"
            )
    return tuple(Rlimit(name=u.name, soft=u.soft, hard=u.hard) for u in wanted.values())


def security(options: Sequence[str] | None, privileged: bool) -> tuple[Seccomp, bool, str, str]:
    """`--security-opt`: (seccomp, no-new-privileges, AppArmor profile, SELinux label)."""
    seccomp = Seccomp(mode="unconfined") if privileged else Seccomp()
    no_new_privileges, apparmor, labels = False, "", []
    for option in options or ():
        name, separator, value = option.partition("=")
        if not separator:
            name, _, value = option.partition(":")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            no_new_privileges = value != "false"
        elif name == "seccomp":
            if value == "unconfined":
                seccomp = Seccomp(mode="unconfined")
            elif value not in ("builtin", "default"):
                seccomp = Seccomp(mode="custom", document=value)
        elif name == "apparmor":
            apparmor = value
        elif name == "label":
            labels.append(value)
        elif name in ("systempaths", "writable-cgroups"):
            continue
        else:
            raise InvalidRequest(f'invalid --security-opt: "{option}"')
    return seccomp, no_new_privileges, apparmor, ",".join(labels)


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


def devices(host: HostConfig) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """(nodes in /dev, rules of the cgroup): the defaults, and the user's; all of the host's with `--privileged`."""
    if host.privileged:
        found = (device for path in _walk("/dev", skip=("pts", "shm", "mqueue", "console", "fd"))
                 if (device := device_at(path, path)) is not None)  # fmt: skip
        return tuple(found), ()
    own: list[Device] = []
    rules = list(defaults.DEVICE_RULES)
    for mapping in host.devices or ():
        mapped = _mapped(mapping)
        own.extend(mapped)
        access = mapping.cgroup_permissions or "rwm"
        if not re.fullmatch(r"[rwm]{1,3}", access):
            raise InvalidRequest(f"invalid device mode: {access}")
        rules.extend(
            DeviceRule(allow=True, kind=d.kind, major=d.major, minor=d.minor, access=access)
            for d in mapped
            if d.kind != "p"
        )
    rules.extend(device_rule(text) for text in host.device_cgroup_rules or ())
    named = {device.path: device for device in (*defaults.DEVICES, *own)}
    return tuple(named.values()), tuple(rules)


def _mapped(mapping: DeviceMapping) -> list[Device]:
    inside = mapping.path_in_container or mapping.path_on_host
    device = device_at(mapping.path_on_host, inside)
    if device is not None:
        return [device]
    found = [
        device
        for path in _walk(mapping.path_on_host, skip=())
        if (device := device_at(path, path.replace(mapping.path_on_host, inside, 1))) is not None
    ]
    if not found:
        reason = (
            "no such file or directory" if not os.path.exists(mapping.path_on_host) else "not a device node"
        )
        raise NotFound(
            "device",
            mapping.path_on_host,
            f'error gathering device information while adding custom device "{mapping.path_on_host}": {reason}',
        )
    return found


def device_at(path: str, inside: str) -> Device | None:
    """The device node at `path` on the host, to be made as `inside`; None if it is not one."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        return Device(
            path=inside,
            kind="c" if stat.S_ISCHR(found.st_mode) else "b",
            major=os.major(found.st_rdev),
            minor=os.minor(found.st_rdev),
            mode=stat.S_IMODE(found.st_mode),
            uid=found.st_uid,
            gid=found.st_gid,
        )
    return None


def _walk(top: str, skip: tuple[str, ...]) -> Iterable[str]:
    for directory, names, files in os.walk(top):
        if directory == top:
            names[:] = [name for name in names if name not in skip]
            files = [name for name in files if name not in skip]
        yield from (os.path.join(directory, name) for name in files)


def device_rule(text: str) -> DeviceRule:
    """`--device-cgroup-rule`: `c 1:3 rwm`, with * for any number. InvalidRequest."""
    match = re.fullmatch(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})", text)
    if match is None:
        raise InvalidRequest(f"invalid device cgroup rule format: '{text}'")
    kind, major, minor, access = match.groups()
    return DeviceRule(
        allow=True,
        kind="a" if kind == "a" else "b" if kind == "b" else "c",
        major=None if major == "*" else int(major),
        minor=None if minor == "*" else int(minor),
        access=access,
    )


def process(config: Config, host: HostConfig, env: tuple[str, ...], limits: Sequence[Rlimit]) -> Process:
    """Process 1 of a container."""
    kept = capabilities(host.privileged, host.cap_add, host.cap_drop)
    seccomp, no_new_privileges, apparmor, label = security(host.security_opt, host.privileged)
    size = tuple(host.console_size or ())
    return Process(
        argv=argv(config),
        env=env,
        cwd=config.working_dir or "/",
        user=config.user,
        groups=tuple(host.group_add or ()),
        tty=config.tty,
        console_size=(size[0], size[1]) if len(size) == 2 and all(size) else None,
        capabilities=Capabilities(bounding=kept, effective=kept, permitted=kept),
        rlimits=rlimits(host.ulimits, limits),
        no_new_privileges=no_new_privileges,
        oom_score_adj=host.oom_score_adj,
        seccomp=seccomp,
        apparmor=apparmor,
        selinux_label=label,
        privileged=host.privileged,
    )
