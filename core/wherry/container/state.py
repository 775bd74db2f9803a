"""The states of a container as a table: an illegal move changes nothing and says from where to where."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from wherry.errors import Conflict
from wherry.spec.container import Status


class Move(StrEnum):
    """What can happen to a container."""

    STARTED = "start"
    FAILED = "fail to start"
    PAUSED = "pause"
    UNPAUSED = "unpause"
    DIED = "die"
    BACKED_OFF = "wait for its restart"
    REMOVING = "be removed"
    STUCK = "fail to be removed"


MOVES: Final[dict[Status, dict[Move, Status]]] = {
    "created": {Move.STARTED: "running", Move.FAILED: "created", Move.REMOVING: "removing"},
    "running": {Move.PAUSED: "paused", Move.DIED: "exited", Move.BACKED_OFF: "restarting"},
    "paused": {Move.UNPAUSED: "running", Move.DIED: "exited", Move.BACKED_OFF: "restarting"},
    "restarting": {
        Move.STARTED: "running",
        Move.FAILED: "exited",
        Move.DIED: "exited",
        Move.BACKED_OFF: "restarting",
    },
    "exited": {
        Move.STARTED: "running",
        Move.FAILED: "exited",
        Move.BACKED_OFF: "restarting",
        Move.REMOVING: "removing",
    },
    "removing": {Move.STUCK: "dead", Move.REMOVING: "removing"},
    "dead": {Move.REMOVING: "removing"},
}

RUNNING: Final[frozenset[Status]] = frozenset({"running", "paused"})


def moved(status: Status, move: Move, name: str) -> Status:
    """The state after `move`; Conflict if it is not possible from `status`."""
    try:
        return MOVES[status][move]
    except KeyError:
        raise Conflict(f"container {name} is {status} and cannot {move.value}") from None
