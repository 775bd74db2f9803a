"""attach, logs, resize: a running container's streams, and what it said before."""

from __future__ import annotations

import logging
import os

from wherry.container.container import Container
from wherry.errors import Conflict, WherryError
from wherry.house import House
from wherry.lifecycle.replay import attach_after_replay, replay
from wherry.lifecycle.start import log_context
from wherry.logs.cache import open_reader
from wherry.logs.stream import LogStream
from wherry.spec.frontend import Attachment
from wherry.spec.log import Query

log = logging.getLogger(__name__)


def attach(house: House, name: str, attachment: Attachment) -> None:
    """Hand a client to the container's keeper, or, before the start, keep it until there is one.

    Takes over the descriptor, also when it raises. API 1.51 ContainerAttach.
    """
    try:
        container = house.containers.get(name)
        house.admit("container.attach", container.id)
        if container.view.status == "paused":
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        if container.view.status == "restarting":
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
    except WherryError:
        os.close(attachment.descriptor)
        raise
    _give(house, container, attachment)
    house.tell(container, "attach")


def _give(house: House, container: Container, attachment: Attachment) -> None:
    keeper = container.keeper if container.running else None
    try:
        if keeper is not None and attachment.stream and attachment.logs:
            attach_after_replay(house, container, keeper, attachment)
        elif keeper is not None and attachment.stream:
            keeper.attach(attachment)
        else:
            _keep(house, container, attachment)
    except OSError as error:
        log.info("a client that attached to %s is gone: %s", container.name, error)


def _keep(house: House, container: Container, attachment: Attachment) -> None:
    """For a container that does not run, and for a client that only wants what is there."""
    try:
        if attachment.logs:
            replay(house, container, attachment)
    except BaseException:
        os.close(attachment.descriptor)
        raise
    if container.view.status in ("created", "exited") and attachment.stream:
        container.pending.append(attachment)
    else:
        os.close(attachment.descriptor)


def logs(house: House, name: str, query: Query, follow: bool = False) -> LogStream:
    """What the container has written, and with `follow` what it goes on to write."""
    container = house.containers.get(name)
    house.admit("container.logs", container.id)
    reader = open_reader(house.log_driver(container), house.log_copy(), log_context(container), query)

    def live() -> bool:
        return container.run is not None and not container.keeper_gone.is_set()

    stream = LogStream(reader, follow=follow, live=live)
    if follow:
        container.log_streams.add(stream)
        stream.on_close(lambda: container.log_streams.discard(stream))
        keeper = container.keeper
        if keeper is not None:
            keeper.follow_log(True)
    return stream


def resize(house: House, name: str, rows: int, columns: int) -> None:
    """Tell the container's terminal its size; before the first start it is remembered. Conflict if it has ended."""
    container = house.containers.get(name)
    keeper = container.keeper
    container.terminal_size = (rows, columns)
    if container.view.status in ("created", "restarting"):
        return
    if not container.running or keeper is None:
        raise Conflict(f"cannot resize a stopped container: container {container.id} is not running")
    keeper.resize(rows, columns)
    house.tell(container, "resize", height=str(rows), width=str(columns))
