"""A mount as it was asked for: what can be refused before anything is made, and the mount point that it becomes.

Source: API 1.51 Mount; moby `volume/mounts` for the words, which clients show to their users.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from wherry.errors import InvalidRequest
from wherry.spec.container import BindOptions, MountPoint, MountRequest
from wherry.volumes import tmpfs
from wherry.volumes.text import PROPAGATIONS

DRIVER = "local"
"""The only volume driver."""


def check(request: MountRequest) -> None:
    """Raise InvalidRequest, in Docker's words, for what can be no mount. The host is not looked at."""
    try:
        _check(request)
    except InvalidRequest as error:
        raise InvalidRequest(f'invalid mount config for type "{request.type}": {error}') from None


def check_source(request: MountRequest) -> None:
    """Refuse a bind whose source does not exist, unless it is to be made."""
    options = request.bind_options or BindOptions()
    if request.type == "bind" and not options.create_mountpoint and not os.path.exists(request.source):
        raise InvalidRequest(
            f'invalid mount config for type "bind": bind source path does not exist: {request.source}'
        )


def clean_target(target: str) -> str:
    """A path in the container, as mount points have it. InvalidRequest: relative, the root itself, or no path."""
    if "\0" in target:
        raise InvalidRequest("a path has a NUL character in it")
    if target and posixpath.normpath(target).strip("/") == "":
        raise InvalidRequest("invalid specification: destination can't be '/'")
    if not target.startswith("/"):
        raise InvalidRequest(f"invalid mount path: '{target}' mount path must be absolute")
    return posixpath.normpath("/" + target.lstrip("/"))


def point_of(request: MountRequest, mode: str = "") -> MountPoint:
    """The mount point of a request that `check` found good; a volume's source is not known yet."""
    options = request.bind_options or BindOptions()
    is_volume, is_bind = request.type == "volume", request.type == "bind"
    return MountPoint(
        type=request.type,
        name=request.source if is_volume else "",
        source=posixpath.normpath(request.source) if is_bind else "",
        destination=clean_target(request.target),
        driver=DRIVER if is_volume else "",
        mode=mode or ("z" if is_volume else ""),
        rw=not request.read_only,
        propagation=(options.propagation or "rprivate") if is_bind else "",
        request=request,
    )


def beside(point: MountPoint, roots: Sequence[Path]) -> MountPoint:
    """A bind of what the engine's own directories are in, or of what is in them: its mounts follow the host's.

    Otherwise a container would keep what the engine unmounts, such as the namespaces of other containers.
    Raises InvalidRequest where the request says so, as Docker does.
    """
    request = point.request
    if point.type != "bind" or request is None:
        return point
    source = Path(point.source)
    root = next((r for r in roots if source.is_relative_to(r) or r.is_relative_to(source)), None)
    if root is None:
        return point
    asked = request.bind_options.propagation if request.bind_options else ""
    if asked not in ("", "rslave", "rshared"):
        raise InvalidRequest(
            'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within '
            f'the daemon root, daemon root: "{root}", bind mount source: "{point.source}", propagation: "{asked}"'
        )
    return msgspec.structs.replace(point, propagation=asked or "rslave")


def warnings(points: Sequence[MountPoint]) -> Iterator[str]:
    """A sentence for each bind of a file: what surprises there."""
    for point in points:
        if point.type == "bind" and os.path.isfile(point.source):
            yield (
                f"{point.source} is a file: the container keeps the one that is there when it starts, and does not see "
                "another that takes its place, as when an editor saves; bind its directory to see that"
            )


def _check(request: MountRequest) -> None:
    if not request.target:
        raise InvalidRequest("field Target must not be empty")
    if "\0" in request.source:
        raise InvalidRequest("a path has a NUL character in it")
    clean_target(request.target)
    if request.type == "bind":
        _check_bind(request)
    elif request.type == "volume":
        _check_volume(request)
    elif request.type == "tmpfs":
        _refuse_fields(request, "Source", "BindOptions", "VolumeOptions", "ImageOptions")
        tmpfs.parse(tmpfs.words_of(request.tmpfs_options, read_only=request.read_only))
    else:
        raise InvalidRequest("mount type unknown")


def _check_bind(request: MountRequest) -> None:
    if not request.source:
        raise InvalidRequest("field Source must not be empty")
    options = request.bind_options or BindOptions()
    if options.propagation and options.propagation not in PROPAGATIONS:
        raise InvalidRequest(f"invalid propagation mode: {options.propagation}")
    _refuse_fields(request, "VolumeOptions", "TmpfsOptions", "ImageOptions")
    if not request.source.startswith("/"):
        raise InvalidRequest(f"invalid mount path: '{request.source}' mount path must be absolute")
    for name, chosen in (
        ("ReadOnlyNonRecursive", options.read_only_non_recursive),
        ("ReadOnlyForceRecursive", options.read_only_force_recursive),
    ):
        if chosen and not request.read_only:
            raise InvalidRequest(f"mount options conflict: !ReadOnly && BindOptions.{name}")
    if options.read_only_non_recursive and options.read_only_force_recursive:
        raise InvalidRequest(
            "mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive"
        )


def _check_volume(request: MountRequest) -> None:
    _refuse_fields(request, "BindOptions", "TmpfsOptions", "ImageOptions")
    options = request.volume_options
    if options is not None and options.subpath:
        if not request.source:
            raise InvalidRequest("must not set Subpath when using anonymous volumes")
        subpath = posixpath.normpath(options.subpath)
        if subpath.startswith("/") or subpath.split("/")[0] == "..":
            raise InvalidRequest("subpath must be a relative path within the volume")
    if request.read_only and not request.source:
        raise InvalidRequest("must not set ReadOnly mode when using anonymous volumes")


def _refuse_fields(request: MountRequest, *names: str) -> None:
    given = {
        "Source": request.source,
        "BindOptions": request.bind_options,
        "VolumeOptions": request.volume_options,
        "TmpfsOptions": request.tmpfs_options,
        "ImageOptions": request.image_options,
    }
    for name in names:
        if given[name]:
            raise InvalidRequest(f"field {name} must not be specified")
