"""What the engine makes of a container that runs out of memory: `OOMKilled`, the event `oom`, a line that says whose limit."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from wherry.container.container import Container
from wherry.errors import WherryError
from wherry.house import House
from wherry.quantities import human_size
from wherry.spec.exec import Stats

log = logging.getLogger(__name__)

_MACHINE: Final = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def ran_out(house: House, container: Container, event: Mapping[str, Any]) -> None:
    """Take what a keeper tells. In the hub's thread, so that `oom` comes before `die`: nothing here waits.

    `kills` is 0 where everyone waits for memory because killing is disabled. Source: API 1.51 ContainerState.OOMKilled.
    """
    container.oom_told = True
    if event["kills"] and not container.state.oom_killed:
        container.change(oom_killed=True)
    house.tell(container, "oom")
    house.workers.submit(_explain, house, container, int(event["kills"]))


def _explain(house: House, container: Container, kills: int) -> None:
    run = container.run
    stats = Stats()
    try:
        if run is not None:
            stats = house.exec_driver(container).call("stats", state=run.state)
    except WherryError:
        pass  # it has just ended
    what = f"{kills} of its processes killed so far" if kills else "its processes wait for memory"
    # Of version 1, the failures are not counted where memory and swap together were what was limited.
    met = stats.memory_failures or stats.memory_max >= stats.memory_limit * 0.95
    if met and 0 < stats.memory_limit < _MACHINE:
        where = f"its own limit of {human_size(stats.memory_limit, 1024)}"
    else:
        where = "a limit of a cgroup above its own, or of the machine"
    log.warning("container %s ran out of memory, by %s: %s", container.name, where, what)
