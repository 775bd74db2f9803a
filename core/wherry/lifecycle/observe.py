"""stats, changes, sizes, export: looking at a container without touching it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Final

from wherry.container.container import Run
from wherry.errors import NotFound
from wherry.house import House
from wherry.spec.exec import Stats
from wherry.spec.frontend import Usage
from wherry.spec.storage import Change

NANOSECONDS_PER_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def usage(house: House, name: str) -> Usage:
    """The container's counters with the system's, taken at one moment; zeros while it does not run."""
    container = house.containers.get(name)
    run = container.run
    stats, networks = Stats(), dict[str, Mapping[str, int]]()
    if run is not None and container.running:
        try:
            stats = house.exec_driver(container).call("stats", state=run.state)
            # The host's own interfaces are not the container's.
            networks = _interfaces(run) if run.connection is not None and run.connection.sandbox else {}
        except NotFound:
            stats = Stats()
    with open("/proc/stat") as lines:
        ticks = sum(int(word) for word in lines.readline().split()[1:8])
    return Usage(
        stats=stats,
        read_ns=time.time_ns(),
        system_cpu=ticks * NANOSECONDS_PER_TICK,
        online_cpus=os.cpu_count() or 1,
        networks=networks,
    )


def _interfaces(run: Run) -> dict[str, Mapping[str, int]]:
    names = "rx_bytes rx_packets rx_errors rx_dropped . . . . tx_bytes tx_packets tx_errors tx_dropped . . . .".split()
    found: dict[str, Mapping[str, int]] = {}
    try:
        with open(f"/proc/{run.pid}/net/dev", errors="replace") as lines:
            for line in lines.readlines()[2:]:
                link, _, numbers = line.partition(":")
                if link.strip() != "lo":
                    counted = zip(names, numbers.split(), strict=False)
                    found[link.strip()] = {name: int(number) for name, number in counted if name != "."}
    except OSError:
        return {}
    return found


def changes(house: House, name: str) -> list[Change]:
    """What the container has changed in its root file system."""
    container = house.containers.get(name)
    found: list[Change] = house.storage.call("changes", layer=container.id)
    return found


def sizes(house: House, name: str) -> tuple[int, int]:
    """(bytes of the writable layer, bytes of the whole): reference GetSize."""
    container = house.containers.get(name)
    own = int(house.storage.call("usage", layer=container.id))
    image = house.images.get(container.record.image).size if container.record.image else 0
    return own, own + image
