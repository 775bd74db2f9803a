"""What is left of a container whose start never said how it went: found by its cgroup alone."""

from __future__ import annotations

from wherry.plugins import Driver


def clean_up(driver: Driver, container_id: str, cgroup: str) -> None:
    """Kill who lives in a container's cgroup, and remove it; nothing there is success."""
    state = {"id": container_id, "cgroup": cgroup, "pid": 0, "start_time": 0, "boot_id": ""}
    driver.call("kill", state=state, signal=9, everyone=True)
    driver.call("clean", state=state)
