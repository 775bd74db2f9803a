"""`--device`, `--device-cgroup-rule`, `--privileged`: the device nodes of a container, and what it may do with them.

A device is looked at when a container starts: it may come and go. Source: reference `getDevicesFromPath`; moby
`oci/devices_linux.go`.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from wherry.errors import InvalidRequest, NotFound
from wherry.lifecycle import defaults
from wherry.spec.command import Device, DeviceRule
from wherry.spec.container import DeviceMapping, DeviceRequest, HostConfig

_ACCESS: Final = re.compile(r"[rwm]{1,3}")
_RULE: Final = re.compile(r"([acb]) ([0-9]{1,10}|\*):([0-9]{1,10}|\*) ([rwm]{1,3})")
_NOT_DEVICES: Final = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"))
"""Names below /dev that every container has of its own."""
_HIGHEST: Final = (1 << 32) - 1


def devices(host: HostConfig) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """(nodes, rules of the cgroup). With `--privileged` all nodes of the host, and no rules: everything is allowed.

    NotFound: a device that was asked for is not there, or is none.
    """
    own = [
        (device, mapping.cgroup_permissions or "rwm")
        for mapping in host.devices or ()
        for device in mapped(mapping)
    ]
    if host.privileged:
        nodes = (*_below("/dev", "/dev", skip=_NOT_DEVICES), *(device for device, _ in own))
        return _by_path(nodes), ()
    rules = (
        *defaults.DEVICE_RULES,
        *(
            DeviceRule(allow=True, kind=d.kind, major=d.major, minor=d.minor, access=access)
            for d, access in own
            if d.kind != "p"
        ),
        *(rule for text in host.device_cgroup_rules or () for rule in parse_rule(text)),
    )
    return _by_path((*defaults.DEVICES, *(device for device, _ in own))), rules


def check(host: HostConfig) -> None:
    """What can be refused before there is a container: InvalidRequest."""
    for mapping in host.devices or ():
        if "\0" in mapping.path_on_host + mapping.path_in_container:
            raise InvalidRequest(
                f"invalid device: {mapping.path_on_host!r}: a path has a NUL character in it"
            )
        if not mapping.path_on_host.startswith("/"):
            raise InvalidRequest(f"invalid device: {mapping.path_on_host} is not an absolute path")
        if mapping.path_in_container and not mapping.path_in_container.startswith("/"):
            raise InvalidRequest(f"invalid device: {mapping.path_in_container} is not an absolute path")
        if not _ACCESS.fullmatch(mapping.cgroup_permissions or "rwm"):
            raise InvalidRequest(f"invalid device mode: {mapping.cgroup_permissions}")
    for text in host.device_cgroup_rules or ():
        parse_rule(text)
    _check_requests(host.device_requests or ())


def _check_requests(requests: Sequence[DeviceRequest]) -> None:
    """There is no driver of devices, as in a Docker without one: its words, in Go's way of printing."""
    for request in requests:
        wanted = " ".join(f"[{' '.join(words)}]" for words in request.capabilities or ())
        raise InvalidRequest(
            f'could not select device driver "{request.driver}" with capabilities: [{wanted}]'
        )


def mapped(mapping: DeviceMapping) -> list[Device]:
    """One `--device`: a device node, by a link or not, or all those in a directory and below. NotFound."""
    inside = posixpath.normpath(mapping.path_in_container or mapping.path_on_host)
    source = os.path.realpath(mapping.path_on_host)
    device = at(source, inside)
    found = [device] if device is not None else list(_below(source, inside))
    if not found:
        reason = "not a device node" if os.path.lexists(source) else "no such file or directory"
        raise NotFound(
            "device",
            mapping.path_on_host,
            f'error gathering device information while adding custom device "{mapping.path_on_host}": {reason}',
        )
    return found


def at(path: str, inside: str) -> Device | None:
    """The device node that is `path` itself, on the host, to be made as `inside`; None if it is something else."""
    try:
        found = os.lstat(path)
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


def parse_rule(text: str) -> tuple[DeviceRule, ...]:
    """One `--device-cgroup-rule`, e.g. `c 1:3 mr`. InvalidRequest.

    What is for both kinds (`a`) becomes a rule of each: to the kernel `a` means all devices, whatever numbers follow.
    """
    match = _RULE.fullmatch(text)
    numbers = [None if word == "*" else int(word) for word in match.groups()[1:3]] if match else []
    if match is None or any(number is not None and number > _HIGHEST for number in numbers):
        raise InvalidRequest(f"invalid device cgroup rule format: '{text}'")
    kinds = "cb" if match[1] == "a" else match[1]
    return tuple(
        DeviceRule(
            allow=True, kind="b" if kind == "b" else "c", major=numbers[0], minor=numbers[1], access=match[4]
        )
        for kind in kinds
    )


def _below(top: str, inside: str, skip: frozenset[str] = frozenset()) -> Iterator[Device]:
    """Device nodes in a directory, wherever they lie in it; links are passed over: what they mean is there itself."""
    for directory, names, files in os.walk(top):
        names[:] = sorted(name for name in names if name not in skip)
        for name in sorted(files):
            path = os.path.join(directory, name)
            if name not in skip and (device := at(path, inside + path[len(top) :])) is not None:
                yield device


def _by_path(nodes: Sequence[Device]) -> tuple[Device, ...]:
    """One node for each path: the last that was asked for."""
    return tuple({device.path: device for device in nodes}.values())
