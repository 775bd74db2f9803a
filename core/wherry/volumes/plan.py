"""What a container mounts of volumes, of the host and of memory, from all that can ask for it, as mount points.

Who comes later wins where two want the same target: the image's volumes, `--volumes-from`, `-v`, `--mount`; of the
last two and `--tmpfs` none may ask twice. Source: reference `prepareVolumes`; API 1.51 HostConfig.Binds, Mounts, Tmpfs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from wherry.errors import InvalidRequest, NotFound, Unsupported
from wherry.spec.container import (
    BindOptions,
    Config,
    ContainerView,
    HostConfig,
    MountPoint,
    MountRequest,
    VolumeOptions,
)
from wherry.undo import Undo
from wherry.volumes import requests, text, tmpfs
from wherry.volumes.named import Volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where plans are made: the engine's volumes and containers, and what is its own on this host."""

    volumes: Volumes
    container: Callable[[str], ContainerView]
    """A container by name; NotFound."""
    roots: tuple[Path, ...] = ()
    """The engine's own directories."""
    read_only_recursive: bool = True
    """Whether a read-only bind is so with all that is mounted below it, where nobody says."""


def plan(config: Config, host: HostConfig, place: Place, undo: Undo) -> list[MountPoint]:
    """Every mount point of a container about to be created, outer targets first; makes the volumes that it names.

    `--tmpfs` is checked here, and has no mount points: Docker shows none. `undo` removes what is anonymous and new.
    """
    wanted: dict[str, MountPoint] = {}
    for target in config.volumes or ():
        destination = requests.clean_target(target)
        wanted[destination] = MountPoint(type="volume", destination=destination, driver=requests.DRIVER)
    for source in host.volumes_from or ():
        for point in _of_another(source, place):
            wanted[point.destination] = point
    asked = _asked(host, place)
    for target, words in (host.tmpfs or {}).items():
        destination = requests.clean_target(target)
        if destination in asked:
            raise InvalidRequest(f"Duplicate mount point: {destination}")
        tmpfs.parse(words)
        wanted.pop(destination, None)
    wanted |= asked
    points = [_made(point, place, undo) for point in wanted.values()]
    return sorted(points, key=lambda point: depth(point.destination))


def depth(destination: str) -> tuple[int, str]:
    """What mounts are sorted by, so that none hides another that lies deeper."""
    return destination.count("/"), destination


def _of_another(source: str, place: Place) -> list[MountPoint]:
    name, read_only = text.volumes_from(source)
    try:
        theirs = place.container(name).mounts
    except NotFound as error:
        # Of the request, not of what it is sent to: clients would take a 404 for a missing image.
        raise InvalidRequest(str(error)) from None
    return [_inherited(point, read_only) for point in theirs if point.type != "tmpfs"]


def _inherited(point: MountPoint, read_only: bool) -> MountPoint:
    request = point.request
    if point.type == "volume":
        request = request or MountRequest(type="volume", source=point.name, target=point.destination)
        options = msgspec.structs.replace(request.volume_options or VolumeOptions(), no_copy=True)
        request = msgspec.structs.replace(request, volume_options=options)
    return msgspec.structs.replace(point, mode="", rw=point.rw and not read_only, request=request)


def _asked(host: HostConfig, place: Place) -> dict[str, MountPoint]:
    found: dict[str, MountPoint] = {}
    for written in host.binds or ():
        request, mode = text.bind(written, host.volume_driver)
        try:
            requests.check(request)
        except InvalidRequest as error:
            raise InvalidRequest(f"invalid volume specification: '{written}': {error}") from None
        _add(found, requests.point_of(request, mode), place)
    for request in host.mounts or ():
        requests.check(request)
        requests.check_source(request)
        _add(found, requests.point_of(request), place)
    return found


def _add(found: dict[str, MountPoint], point: MountPoint, place: Place) -> None:
    if point.destination in found:
        raise InvalidRequest(f"Duplicate mount point: {point.destination}")
    found[point.destination] = _as_usual(requests.beside(point, place.roots), place)


def _as_usual(point: MountPoint, place: Place) -> MountPoint:
    """With what is meant where a read-only bind does not say how deep."""
    request = point.request
    if point.type != "bind" or point.rw or place.read_only_recursive or request is None:
        return point
    options = request.bind_options or BindOptions()
    if options.read_only_force_recursive:
        return point
    shallow = msgspec.structs.replace(options, read_only_non_recursive=True)
    return msgspec.structs.replace(point, request=msgspec.structs.replace(request, bind_options=shallow))


def _made(point: MountPoint, place: Place, undo: Undo) -> MountPoint:
    """With its volume, which is made if there is none of that name."""
    if point.type != "volume" or point.source:
        return point
    options = (point.request.volume_options if point.request else None) or VolumeOptions()
    driver = options.driver_config
    if driver is not None and driver.name not in ("", requests.DRIVER):
        raise InvalidRequest(
            f'error looking up volume plugin {driver.name}: plugin "{driver.name}" not found: '
            f'the only volume driver is "{requests.DRIVER}"'
        )
    if driver is not None and driver.options:
        raise Unsupported(
            f"options of a volume ({', '.join(sorted(driver.options))}) are not supported yet: mount it on the host, and "
            "bind that directory"
        )
    volume = place.volumes.ensure(point.name, options.labels)
    if volume.anonymous and not point.name:
        undo.add(place.volumes.discard, volume.name)
    return msgspec.structs.replace(point, name=volume.name, source=str(place.volumes.path(volume.name)))
