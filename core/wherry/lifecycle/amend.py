"""rename and update: changing a container that exists. Both are promised when they return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from wherry.errors import Conflict, InvalidRequest
from wherry.house import House
from wherry.lifecycle import command
from wherry.lifecycle.create import check
from wherry.spec.container import HostConfig


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
        before = container.record
        try:
            container.record = msgspec.structs.replace(before, name=wanted)
            container.save(synced=True)
        except BaseException:
            container.record = before
            house.containers.release(wanted, container.id)
            raise
        house.containers.release(old, container.id)
        container.publish()
        house.tell(container, "rename", oldName=f"/{old}")


def update(house: House, name: str, fields: Mapping[str, Any]) -> list[str]:
    """Change limits and the restart policy, also of a running container; answers warnings. API 1.51 ContainerUpdate."""
    container = house.containers.get(name)
    house.admit("container.update", container.id, {"fields": dict(fields)})
    known = {field.encode_name for field in msgspec.structs.fields(HostConfig)}
    given = {
        key: value for key, value in fields.items() if key in known and value not in (None, 0, "", [], {})
    }
    if isinstance(given.get("RestartPolicy"), dict) and not given["RestartPolicy"].get("Name"):
        del given["RestartPolicy"]
    with container.operation("update"):
        if container.view.status in ("removing", "dead"):
            raise Conflict(f"Container {container.id} is marked for removal and cannot be updated")
        before = container.host_config
        merged = {**msgspec.to_builtins(before), **given}
        try:
            changed = msgspec.convert(merged, HostConfig)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"invalid update: {error}") from error
        if (
            changed.memory != before.memory
            and "MemorySwap" not in given
            and before.memory_swap == before.memory * 2
        ):
            changed = msgspec.structs.replace(changed, memory_swap=changed.memory * 2)
        check(house, container.record.config, changed)
        run = container.run
        if run is not None and container.running:
            new, old = command.resources(changed), command.resources(before)
            if new != old:
                house.exec_driver(container).call("update", state=run.state, resources=new)
        container.host_config = changed
        container.save(synced=True, host_config=True)
        container.publish()
        house.tell(container, "update")
    return []
