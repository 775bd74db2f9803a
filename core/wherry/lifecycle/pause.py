"""pause and unpause: the container's processes frozen where they are. Source: reference Pause, Unpause."""

from __future__ import annotations

from wherry.container.container import Container
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
        if container.view.status == "restarting":
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if not container.running or run is None:
            raise Conflict(f"container {container.id} is not running")
        house.exec_driver(container).call("pause", state=run.state)
        container.move(Move.PAUSED)
        container.save(synced=False)
        house.tell(container, "pause")


def unpause(house: House, name: str) -> None:
    """Thaw a paused container. Conflict if it is not paused."""
    container = house.containers.get(name)
    house.admit("container.unpause", container.id)
    if not thaw(house, container):
        raise Conflict(f"Container {container.id} is not paused")


def thaw(house: House, container: Container) -> bool:
    """Let a paused container run on. Answers whether it was paused."""
    with container.operation("unpause"):
        run = container.run
        if container.view.status != "paused" or run is None:
            return False
        house.exec_driver(container).call("unpause", state=run.state)
        container.move(Move.UNPAUSED)
        container.save(synced=False)
        house.tell(container, "unpause")
        return True
