"""Where a container's cgroup is: below the engine's own, or below the parent that the user names."""

from __future__ import annotations

import posixpath
from typing import Final

from wherry.errors import InvalidRequest

_LONGEST: Final = 255


def cgroup_path(wanted: str, container_id: str, *, usual: str, root: str) -> str:
    """The path below each hierarchy's root; `wanted` is `--cgroup-parent`, relative to `root`, or empty: then `usual`.

    InvalidRequest: it is none. Source: API 1.51 HostConfig.CgroupParent.
    """
    if not wanted:
        return posixpath.join("/", usual, container_id)
    if wanted.endswith(".slice") and "/" not in wanted:
        raise InvalidRequest(
            f'the cgroup parent "{wanted}" is a slice of systemd, and cgroups are made as directories here (cgroupfs): '
            f"give a path, e.g. /{wanted}"
        )
    words = [word for word in wanted.split("/") if word]
    if any(word in (".", "..") or len(word.encode()) > _LONGEST or not word.isprintable() for word in words):
        raise InvalidRequest(
            f'the cgroup parent "{wanted}" is no path below the root of the cgroups: name each directory, without . and ..'
        )
    return posixpath.join("/" if wanted.startswith("/") else root, *words, container_id)
