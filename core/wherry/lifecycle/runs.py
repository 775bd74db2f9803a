"""Recording runs: what the next daemon finds of a container that ran on."""

from __future__ import annotations

import msgspec

from wherry.container.container import Container, Run
from wherry.house import House
from wherry.state import atomic


def write_run(house: House, container: Container, run: Run) -> None:
    """Record a run on the exec root, not synced: it is void at the next boot."""
    atomic.replace(house.run_file(container), msgspec.json.encode(run))
