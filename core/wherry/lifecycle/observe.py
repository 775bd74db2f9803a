"""top, stats, changes, sizes: looking at a container without touching it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from typing import Final

from wherry.container.container import Run
from wherry.errors import Conflict, InvalidRequest, NotFound
from wherry.house import House
from wherry.spec.exec import Stats
from wherry.spec.frontend import Usage
from wherry.spec.storage import Change

NANOSECONDS_PER_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def top(house: House, name: str, arguments: str = "-ef") -> tuple[list[str], list[list[str]]]:
    """(titles, rows) of the container's processes, as the host's ps(1) shows them. Conflict if it does not run."""
    container = house.containers.get(name)
    house.admit("container.top", container.id)
    run = container.run
    if run is None or not container.running:
        raise Conflict(f"container {container.id} is not running")
    words = arguments.split() or ["-ef"]
    if any(not re.fullmatch(r"[A-Za-z0-9_,=:%+./-]+", word) for word in words):
        raise InvalidRequest(f"invalid ps arguments: {arguments}")
    pids = {str(pid) for pid in house.exec_driver(container).call("pids", state=run.state)}
    environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", "")}
    answer = subprocess.run(
        ["ps", *words], capture_output=True, text=True, timeout=10, check=False, env=environment
    )
    if answer.returncode != 0:
        raise InvalidRequest(
            f"error running ps: {answer.stderr.strip().splitlines()[0] if answer.stderr else arguments}"
        )
    lines = answer.stdout.splitlines()
    titles = lines[0].split()
    if "PID" not in titles:
        raise InvalidRequest("Couldn't find PID field in ps output")
    place = titles.index("PID")
    rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
    return titles, [row for row in rows if len(row) > place and row[place] in pids]


def usage(house: House, name: str) -> Usage:
    """The container's counters with the system's, taken at one moment; zeros while it does not run."""
    container = house.containers.get(name)
    run = container.run
    stats, networks = Stats(), dict[str, Mapping[str, int]]()
    if run is not None and container.running:
        try:
            stats = house.exec_driver(container).call("stats", state=run.state)
            networks = _interfaces(run)
        except NotFound:
            stats = Stats()
    with open("/proc/stat") as lines:
        ticks = sum(int(word) for word in lines.readline().split()[1:9])
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
        with open(f"/proc/{run.pid}/net/dev") as lines:
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
