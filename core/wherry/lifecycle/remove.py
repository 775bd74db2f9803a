"""remove and prune: a container's end. Its record goes first, by a synced rename: what is left then belongs to nobody,
and is deleted beside the caller, or at the next start."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Final

from wherry.clock import parse
from wherry.container.container import Container
from wherry.container.state import Move
from wherry.errors import Conflict, NotFound, WherryError
from wherry.house import House
from wherry.lifecycle.stop import cancel_start, force
from wherry.lifecycle.waiting import settle
from wherry.spec.frontend import Filters
from wherry.state import atomic

log = logging.getLogger(__name__)

ASIDE: Final = ".removing-"


def remove(house: House, name: str, *, kill: bool = False, volumes: bool = False) -> None:
    """Delete a container, its layer and its files; with `volumes` its anonymous volumes. The name is free on return.

    Conflict if it runs and `kill` is not given. Source: API 1.51 ContainerDelete.
    """
    container = house.containers.get(name)
    house.admit("container.remove", container.id, {"force": kill})
    if kill:
        cancel_start(container)
    if container.running or container.view.status == "restarting":
        if not kill:
            status = container.view.status
            raise Conflict(
                f'cannot remove container "{container.name}": container is {status}'
                + (
                    " and must be unpaused first"
                    if status == "paused"
                    else ": stop the container before removing or force remove"
                )
            )
        container.stop_requested = True
        force(house, container)
    with container.operation("remove"):
        if container.view.status == "removing":
            raise NotFound("container", name)
        if container.running:
            raise Conflict(f'cannot remove container "{container.name}": it was started meanwhile')
        purge(house, container, volumes=volumes)


def purge(house: House, container: Container, *, volumes: bool) -> None:
    """Remove a container that does not run, inside its operation."""
    code = container.state.exit_code
    container.move(Move.REMOVING)
    try:
        aside = container.directory.with_name(ASIDE + container.id)
        with contextlib.suppress(FileNotFoundError):
            os.rename(container.directory, aside)
        house.storage.call("remove", layer=container.id)
        atomic.sync_directory(aside.parent)
    except (OSError, WherryError) as error:
        container.move(Move.STUCK, error=f"removing failed: {error}")
        settle(container, code, str(error))
        raise
    house.containers.drop(container)
    house.networks.promises.drop(container.id)
    for exec_id in container.exec_ids:
        house.execs.drop(exec_id)
    house.tell(container, "destroy")
    settle(container, code, removed=True)
    house.background.submit(shutil.rmtree, aside, ignore_errors=True)
    _let_go_of_image(house, container.record.image)
    if volumes:
        for point in container.record.mounts:
            if point.type == "volume":
                _drop_anonymous(house, point.name)


def _let_go_of_image(house: House, image_id: str) -> None:
    """An image that was removed by force under this container leaves its layers now."""
    if image_id:
        try:
            house.images.get(image_id)
        except NotFound:
            house.background.submit(house.images.sweep, house.using)


def _drop_anonymous(house: House, name: str) -> None:
    used = any(point.name == name for c in house.containers.all() for point in c.record.mounts)
    try:
        if not used and house.volumes.get(name).anonymous:
            house.volumes.remove(name)
    except WherryError as error:
        log.debug("volume %s: %s", name, error)


def prune(house: House, filters: Filters | None = None) -> tuple[list[str], int]:
    """Remove every container that does not run and fits; (ids, bytes of their layers)."""
    removed: list[str] = []
    reclaimed = 0
    for container in house.containers.all():
        view = container.view
        if view.status not in ("created", "exited", "dead") or not _fits(container, filters or {}):
            continue
        try:
            size = int(house.storage.call("usage", layer=container.id))
            remove(house, container.id)
        except WherryError as error:
            log.info("prune: %s stays: %s", container.name, error)
            continue
        removed.append(container.id)
        reclaimed += size
    return removed, reclaimed


def _fits(container: Container, filters: Filters) -> bool:
    labels = container.record.config.labels or {}
    for wanted in filters.get("label", ()):
        name, equals, value = wanted.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    for unwanted in filters.get("label!", ()):
        name, equals, value = unwanted.partition("=")
        if name in labels and (not equals or labels[name] == value):
            return False
    until = filters.get("until", ())
    return all(parse(container.record.created) < int(float(text) * 1e9) for text in until)


def leftovers(directory: Path) -> list[Path]:
    """What removals that were cut short have left in the directory of containers."""
    return [path for path in directory.iterdir() if path.name.startswith(ASIDE)]
