"""Containers that live in namespaces of others: `container:ID`, from what was asked for to the one that is meant.

A name is turned into an id once, when a container is created: whoever has that name later is somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from wherry.container.container import Container, Run
from wherry.errors import Conflict, InvalidRequest, NotFound
from wherry.house import House
from wherry.linux import namespaces, processes
from wherry.spec.container import HostConfig

_MODES = ("network_mode", "ipc_mode", "pid_mode")


def of_mode(mode: str) -> str:
    """The name or id in `container:…`; "" for every other mode."""
    head, separator, name = mode.partition(":")
    return name if separator and head == "container" else ""


def by_id(house: House, host: HostConfig) -> HostConfig:
    """The same with ids in place of names. InvalidRequest: there is no name, or nobody of that name."""
    changes = {}
    for field in _MODES:
        mode = getattr(host, field)
        if mode.partition(":")[0] == "container":
            if not of_mode(mode):
                raise InvalidRequest(
                    f"invalid {field.replace('_', ' ')}: invalid container format container:<name|id>"
                )
            try:
                changes[field] = f"container:{house.containers.get(of_mode(mode)).id}"
            except NotFound as error:
                # A 404 of create is how the docker program hears that there is no such image.
                raise InvalidRequest(
                    f"can't join the {field.removesuffix('_mode')} namespace: {error}"
                ) from None
    return msgspec.structs.replace(host, **changes)


def end_of(house: House, host: HostConfig, field: str) -> str:
    """The mode that a field comes to: that of the last container in the row, where one joins another who joins a third."""
    mode: str = getattr(host, field)
    seen: set[str] = set()
    while (name := of_mode(mode)) and name not in seen:
        seen.add(name)
        try:
            mode = getattr(house.containers.get(name).host_config, field)
        except NotFound:
            break
    return mode


def all_of(house: House, host: HostConfig) -> Iterator[Container]:
    """The containers that one with this configuration joins; those that are gone are left out."""
    for field in _MODES:
        if name := of_mode(getattr(host, field)):
            try:
                yield house.containers.get(name)
            except NotFound:
                continue


def sharers(house: House, container: Container, field: str) -> Iterator[tuple[Container, Run]]:
    """The running containers that joined this one by a field of their configuration, and their runs."""
    for other in house.containers.all():
        run = other.run
        if (
            getattr(other.host_config, field) == f"container:{container.id}"
            and other.running
            and run is not None
        ):
            yield other, run


def running(house: House, mode: str, what: str) -> tuple[Container, Run]:
    """The container of `container:ID`, and its run. NotFound, Conflict: it does not run, in Docker's words."""
    name = of_mode(mode)
    try:
        peer = house.containers.get(name)
    except NotFound as error:
        raise NotFound("container", name, f"can't join {what} of container {name}: {error}") from None
    run = peer.run
    if peer.view.status == "restarting":
        raise Conflict(
            f"can't join {what} of container {peer.id}: Container {peer.id} is restarting, wait until the container is running"
        )
    if not peer.running or run is None:
        raise Conflict(f"can't join {what} of container {peer.id}: container {peer.id} is not running")
    return peer, run


def open_namespace(peer: Container, run: Run, kind: str) -> int:
    """A descriptor of the namespace that process 1 of a running container is in. Conflict: it has just ended."""
    try:
        descriptor = namespaces.open_namespace(run.pid, kind)
        try:
            if processes.start_time(run.pid) == run.start_time:
                return descriptor
        except OSError:
            pass
        os.close(descriptor)
    except OSError:
        pass
    raise Conflict(f"container {peer.name} is just ending; try again")
