"""What a container mounts, from `-v`, `--mount`, `--tmpfs`, the image's volumes and `--volumes-from`, as mount points.

Later words win over earlier ones for the same target: image, volumes-from, binds, mounts. Source: reference
`prepareVolumes`; API 1.51 HostConfig.Binds, Mounts, Tmpfs.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from wherry.errors import InvalidRequest
from wherry.spec.container import Config, ContainerView, HostConfig, MountPoint, MountRequest
from wherry.volumes.named import Volumes

PROPAGATIONS: Final = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_MODES: Final = PROPAGATIONS | {
    "ro",
    "rw",
    "z",
    "Z",
    "nocopy",
    "consistent",
    "cached",
    "delegated",
    "volume-nocopy",
}


def plan(
    config: Config,
    host: HostConfig,
    volumes: Volumes,
    other: Callable[[str], ContainerView],
) -> list[MountPoint]:
    """Every mount point of a container about to be created; makes the volumes that it names."""
    points: dict[str, MountPoint] = {}
    wanted: dict[str, Callable[[], MountPoint]] = {}
    for target in config.volumes or ():
        wanted[_clean(target)] = partial(_anonymous, _clean(target), volumes)
    for source in host.volumes_from or ():
        name, _, mode = source.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z"):
            raise InvalidRequest(f'invalid mode for volumes-from: "{mode}"')
        for point in other(name).mounts:
            if point.type != "tmpfs":
                inherited = msgspec.structs.replace(point, rw=False) if mode == "ro" else point
                wanted[point.destination] = partial(_as_it_is, inherited)
    named: set[str] = set()
    for text in host.binds or ():
        point = _bind(text)
        _once(named, point.destination)
        wanted[point.destination] = partial(_made, point, volumes)
    for request in host.mounts or ():
        point = _requested(request)
        _once(named, point.destination)
        wanted[point.destination] = partial(_made, point, volumes, request)
    for target, options in (host.tmpfs or {}).items():
        destination = _clean(target)
        _once(named, destination)
        tmpfs = MountPoint(type="tmpfs", destination=destination, mode=options, rw=True)
        wanted[destination] = partial(_as_it_is, tmpfs)
    for destination, make in wanted.items():
        points[destination] = make()
    return sorted(points.values(), key=lambda p: (p.destination.count("/"), p.destination))


def _once(named: set[str], destination: str) -> None:
    if destination in named:
        raise InvalidRequest(f"Duplicate mount point: {destination}")
    named.add(destination)


def _clean(target: str) -> str:
    if not target.startswith("/"):
        raise InvalidRequest(f"invalid mount path: '{target}' mount path must be absolute")
    cleaned = posixpath.normpath("/" + target.lstrip("/"))
    if cleaned == "/":
        raise InvalidRequest("invalid specification: destination can't be '/'")
    return cleaned


def _as_it_is(point: MountPoint) -> MountPoint:
    return point


def _anonymous(target: str, volumes: Volumes) -> MountPoint:
    return _made(MountPoint(type="volume", destination=target, driver="local"), volumes)


def _bind(text: str) -> MountPoint:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0] or not parts[1]:
        raise InvalidRequest(f"invalid volume specification: '{text}'")
    source, destination = parts[0], _clean(parts[1])
    mode = parts[2] if len(parts) == 3 else ""
    words = [word for word in mode.split(",") if word]
    if unknown := [word for word in words if word not in _MODES]:
        raise InvalidRequest(f"invalid mode: {unknown[0]}")
    if "ro" in words and "rw" in words:
        raise InvalidRequest(f"invalid mode: {mode}")
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    if source.startswith("/"):
        return MountPoint(
            type="bind",
            source=posixpath.normpath(source),
            destination=destination,
            mode=mode,
            rw="ro" not in words,
            propagation=propagation or "rprivate",
        )
    return MountPoint(
        type="volume",
        name=source,
        destination=destination,
        driver="local",
        mode=mode or "z",
        rw="ro" not in words,
        propagation=propagation,
    )


def _requested(request: MountRequest) -> MountPoint:
    if not request.target:
        raise InvalidRequest("invalid mount config: field Target must not be empty")
    destination = _clean(request.target)
    if request.type == "bind":
        if not request.source.startswith("/"):
            raise InvalidRequest(
                f"invalid mount config for type \"bind\": invalid mount path: '{request.source}' mount path must be absolute"
            )
        options = request.bind_options
        if not Path(request.source).exists() and not (options and options.create_mountpoint):
            raise InvalidRequest(
                f'invalid mount config for type "bind": bind source path does not exist: {request.source}'
            )
        propagation = options.propagation if options else ""
        if propagation and propagation not in PROPAGATIONS:
            raise InvalidRequest(f"invalid mount config: invalid propagation mode: {propagation}")
        return MountPoint(
            type="bind",
            source=posixpath.normpath(request.source),
            destination=destination,
            rw=not request.read_only,
            propagation=propagation or "rprivate",
        )
    if request.type == "volume":
        return MountPoint(
            type="volume",
            name=request.source,
            destination=destination,
            driver="local",
            mode="z",
            rw=not request.read_only,
        )
    if request.type == "tmpfs":
        options_ = request.tmpfs_options
        words = []
        if options_ and options_.size_bytes:
            words.append(f"size={options_.size_bytes}")
        if options_ and options_.mode:
            words.append(f"mode={options_.mode:o}")
        if request.source:
            raise InvalidRequest('invalid mount config for type "tmpfs": field Source must not be specified')
        return MountPoint(
            type="tmpfs", destination=destination, mode=",".join(words), rw=not request.read_only
        )
    raise InvalidRequest(f'invalid mount config: mount type unknown: "{request.type}"')


def _made(point: MountPoint, volumes: Volumes, request: MountRequest | None = None) -> MountPoint:
    if point.type != "volume":
        return point
    options = request.volume_options if request else None
    volume = volumes.ensure(
        point.name,
        options.labels if options else None,
        options.driver_config.options if options and options.driver_config else None,
    )
    source = volumes.path(volume.name)
    if options and options.subpath:
        if ".." in Path(options.subpath).parts:
            raise InvalidRequest(f"invalid volume subpath: {options.subpath}")
        source = source / options.subpath
    return msgspec.structs.replace(point, name=volume.name, source=str(source))
