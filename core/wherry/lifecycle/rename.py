"""rename: another name for a container that exists, promised when it returns."""

from __future__ import annotations

import msgspec

from wherry.errors import InvalidRequest
from wherry.house import House
from wherry.lifecycle import networking
from wherry.lifecycle.runs import write_run


def rename(house: House, name: str, new_name: str) -> None:
    """Give a container another name. NameInUse, InvalidRequest. API 1.51 ContainerRename."""
    container = house.containers.get(name)
    house.admit("container.rename", container.id, {"name": new_name})
    wanted = new_name.removeprefix("/")
    if not wanted:
        raise InvalidRequest("Neither old nor new names may be empty")
    with container.operation("rename"):
        old = container.name
        if wanted == old:
            raise InvalidRequest("Renaming a container with the same name as its current name")
        house.containers.reserve(wanted, container.id)
        try:
            container.rewrite(name=wanted)
            container.save(synced=True)
        except BaseException:
            container.rewrite(name=old)
            house.containers.release(wanted, container.id)
            raise
        house.containers.release(old, container.id)
        run = container.run
        if run is not None and run.connection is not None and container.running:
            connection = house.networks.rename(run.connection, networking.request(house, container))
            container.run = msgspec.structs.replace(run, connection=connection)
            write_run(house, container, container.run)
        container.publish()
        house.tell(container, "rename", oldName=f"/{old}")
