"""Memory of the daemon and of what stays with each container, in pages that nobody shares (USS)."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path

from bench.daemons import Daemon
from bench.figures import Row


def memory(wherry: Daemon, dockerd: Daemon, containers: int) -> list[Row]:
    """With `containers` idle containers on each."""
    ours, theirs = _one(wherry, containers), _one(dockerd, containers)
    daemon = ours["wherryd"]
    peers = sum(size for name, size in theirs.items() if name in ("dockerd", "containerd"))
    launcher = sum(size for name, size in ours.items() if "launch" in name)
    keepers = sum(size for name, size in ours.items() if "keep" in name)
    others = sum(ours.values()) - daemon - launcher - keepers
    shims = sum(theirs.values()) - peers

    def row(what: str, peer: str, mine: float, peers_: float | None) -> Row:
        return Row(
            what=f"private memory: {what}",
            unit="MiB",
            peer=peer,
            ours=mine / MIB,
            theirs=peers_ and peers_ / MIB,
        )

    return [
        row("daemon", "dockerd + containerd", daemon, peers),
        row("launcher", "", launcher, None),
        row(f"per container ({containers} idle)", "shim", keepers / containers, shims / containers),
        *([row("everything else", "", others, None)] if others else []),
        row(f"all, with {containers} idle containers", "dockerd", sum(ours.values()), sum(theirs.values())),
    ]


MIB = 1 << 20


def _one(daemon: Daemon, containers: int) -> dict[str, int]:
    """Name of a program → bytes that only it (or its like, summed) holds."""
    for number in range(containers):
        daemon.docker("run", "-d", "--name", f"bench-{number}", "busybox", "sleep", "86400")
    found: dict[str, int] = defaultdict(int)
    assert daemon.enclosure is not None
    for pid in daemon.enclosure.pids():
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name in ("sh", "sleep", "unshare"):
                continue  # the namespace's own pid 1
            found[name] += private(pid)
    daemon.clear()
    return found


def private(pid: int) -> int:
    """Bytes of memory that no other process shares: Private_* of /proc/<pid>/smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return sum(
        int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))
    )
