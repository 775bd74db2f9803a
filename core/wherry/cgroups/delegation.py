"""Whose cgroups are the engine's, and that the kernel's controllers reach them. Source: cgroup-v2.rst, "Delegation".

Version 1 needs nothing of this. Of version 2, a cgroup passes controllers on only while it holds no process itself; the
root of all is exempt. So a daemon that sits where its containers shall be goes into a leaf of its own, `daemon`:

    container with a cgroup namespace: /                    ─▶ /daemon, /wherry-<id>/containers/…
    unit with Delegate=yes, DelegateSubgroup=daemon: <unit>/daemon, <unit>/containers/…
"""

from __future__ import annotations

import logging
import os
import posixpath
from dataclasses import dataclass
from typing import Final

from wherry.linux import cgroups

log = logging.getLogger(__name__)

LEAF: Final = "daemon"
_MARKS: Final = ("trusted.delegate", "user.delegate")
"""Extended attributes by which systemd says that a cgroup is its unit's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Territory:
    """`parent`: below it the engine's cgroups are; `root`: what a `--cgroup-parent` without a slash is relative to."""

    parent: str
    root: str = "/"


def settle(wanted: str, engine_id: str) -> Territory:
    """Find this engine's place, `wanted` or the usual one, and make the controllers reach it as far as can be."""
    territory = Territory(parent=wanted or f"/wherry-{engine_id}")
    found = cgroups.hierarchies()
    if found.version == 1:
        return territory
    own = cgroups.own()
    # Not where the daemon itself is in the unit's cgroup: once that passes controllers on, systemd could not start the
    # daemon there again while containers live.
    unit = posixpath.dirname(own)
    if not wanted and unit != "/" and posixpath.basename(own) == LEAF and _delegated(found.unified + unit):
        territory = Territory(parent=unit, root=unit)
    containers = f"{territory.parent}/containers"
    lacking = cgroups.pass_on(containers)
    if lacking and _is_in_the_way(found.unified, own, containers):
        log.info("moving what is in the cgroup %s to %s, so that it can pass controllers on", own, LEAF)
        cgroups.move_aside(own, LEAF)
        lacking = cgroups.pass_on(containers)
    if lacking:
        log.warning(
            "the cgroup controllers %s do not reach %s: what they limit and count is not available",
            ", ".join(sorted(lacking)),
            containers,
        )
    return territory


def _delegated(directory: str) -> bool:
    for mark in _MARKS:
        try:
            if os.getxattr(directory, mark) == b"1":
                return True
        except OSError:
            continue
    return False


def _is_in_the_way(unified: str, own: str, path: str) -> bool:
    """Whether this process is in a cgroup on the way to `path` that is not the root of all, which has no type."""
    above = own.rstrip("/") + "/"
    return f"{path}/".startswith(above) and os.path.exists(f"{unified}{own}/cgroup.type")
