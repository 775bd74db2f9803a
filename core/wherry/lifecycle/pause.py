"""pause and unpause: the container's processes frozen where they are. Source: reference Pause, Unpause."""

from __future__ import annotations

from wherry.container.state import Move
from wherry.errors import Conflict
from wherry.house import House


def pause(house: House, name: str) -> None:
    """Freeze a running container. Conflict if it does not run, or is paused."""
    container = house.containers.get(name)
    house.admit("container.pause", container.id)
    with container.operation("pause"):
        run = container.run
        if container.view.status == "paused":
            raise Conflict(f"Container {container.id} is already paused")
        if not container.running or run is None:
            raise Conflict(f"Container {container.id} is not running")
        house.exec_driver(container).call("pause", state=run.state)
        container.move(Move.PAUSED)
        container.save(synced=False)
        house.tell(container, "pause")


def unpause(house: House, name: str) -> None:
    """Thaw a paused container. Conflict if it is not paused."""
    container = house.containers.get(name)
    house.admit("container.unpause", container.id)
    with container.operation("unpause"):
        run = container.run
        if container.view.status != "paused" or run is None:
            raise Conflict(f"Container {container.id} is not paused")
        house.exec_driver(container).call("unpause", state=run.state)
        container.move(Move.UNPAUSED)
        container.save(synced=False)
        house.tell(container, "unpause")
