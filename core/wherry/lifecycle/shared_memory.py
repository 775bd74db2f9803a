"""An ipc namespace and the /dev/shm that goes with it, where they are more than one container's.

    private     its own, and nobody else's                     host            the host's, both
    shareable   its own, and others may join                   container:X     those of X
    none        a namespace of its own, and no /dev/shm

A tmpfs lives as long as a mount of it does: whoever joins has one of its own, so that what X put there is there until
the last of them ends. If X starts again meanwhile, it joins those who kept it. Source: API 1.51 HostConfig.IpcMode;
moby `getIPCContainer`.
"""

from __future__ import annotations

import os
from typing import Final, TypeAlias

from wherry.container.container import Container, Run
from wherry.errors import Conflict
from wherry.house import House
from wherry.lifecycle import peers
from wherry.linux import detached, mounts

TARGET: Final = "/dev/shm"


Donor: TypeAlias = tuple[Container, Run]


def donor(house: House, container: Container) -> Donor | None:
    """Whose a start joins, namespace and /dev/shm: its peer's, or what a sharer has kept of the container's own last run.

    NotFound, Conflict: the peer does not run, or does not share.
    """
    mode = container.host_config.ipc_mode
    if peers.of_mode(mode):
        peer, run = peers.running(house, mode, "IPC")
        if peer.host_config.ipc_mode in ("private", "none"):
            raise Conflict(
                f"can't join IPC of container {peer.id}: non-shareable IPC "
                "(hint: use IpcMode:shareable for the donor container)"
            )
        return peer, run
    if mode == "shareable":
        return next(peers.sharers(house, container, "ipc_mode"), None)
    return None


def mount_of(container: Container, found: Donor | None) -> int | None:
    """A detached mount of the /dev/shm of `donor`, or of the host, the caller's; None where it has its own, or none.

    Conflict: whoever has it has none, or is just ending.
    """
    if container.host_config.ipc_mode == "host":
        return mounts.clone_tree(TARGET)
    if found is None:
        return None
    peer, run = found
    namespace = peers.open_namespace(peer, run, "mnt")
    try:
        taken = detached.taken_from(namespace, TARGET, kind=detached.TMPFS_MAGIC)
    finally:
        os.close(namespace)
    if taken is None:
        raise Conflict(f"can't join IPC of container {peer.id}: it has no tmpfs on {TARGET}")
    return taken


def has_its_own(container: Container) -> bool:
    """Whether a new /dev/shm is made for it, if nothing else lies there."""
    return container.host_config.ipc_mode in ("private", "shareable")
