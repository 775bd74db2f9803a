"""From a mount point to a `Mount`: sources become descriptors, in the host's namespace; words become options."""

from __future__ import annotations

from pathlib import Path

from wherry.errors import InvalidRequest, StartFailed
from wherry.lifecycle.descriptors import Descriptors
from wherry.linux import mountinfo, mounts
from wherry.spec.command import Mount
from wherry.spec.container import MountPoint


def mount_of(point: MountPoint, descriptors: Descriptors, *, recursive: bool) -> Mount:
    """What the exec driver is to mount; a bind's source is made if it is missing, as `-v` has it. StartFailed."""
    if point.type == "tmpfs":
        return _tmpfs(point)
    source = Path(point.source)
    if point.type == "bind" and not source.exists():
        source.mkdir(parents=True, exist_ok=True)
    if point.propagation.endswith("shared") and not mountinfo.is_shared(source):
        raise InvalidRequest(f"path {source} is mounted on {source} but it is not a shared mount")
    try:
        descriptor = mounts.clone_tree(source, recursive=recursive)
    except OSError as error:
        raise StartFailed(f"cannot mount {source} on {point.destination}: {error.strerror}") from error
    return Mount(
        kind="bind",
        target=point.destination,
        source=point.source,
        descriptor=descriptors.add(descriptor),
        read_only=not point.rw,
        propagation=point.propagation or "rprivate",
        is_directory=source.is_dir(),
    )


def _tmpfs(point: MountPoint) -> Mount:
    flags, data = ["nosuid", "nodev", "noexec"], []
    for word in filter(None, point.mode.split(",")):
        if word in ("exec", "suid", "dev"):
            flags.remove(f"no{word}")
        elif word in ("ro", "rw", "defaults", "nosuid", "nodev", "noexec"):
            continue
        elif word in ("noatime", "relatime", "nodiratime", "strictatime", "sync"):
            flags.append(word)
        elif word.partition("=")[0] in ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"):
            data.append(word)
        else:
            raise InvalidRequest(f'invalid tmpfs option ["{word}"]')
    read_only = not point.rw or "ro" in point.mode.split(",")
    return Mount(
        kind="tmpfs", target=point.destination, flags=tuple(flags), data=",".join(data), read_only=read_only
    )
