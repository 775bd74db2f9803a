"""Volumes: the engine has none that can be named on their own yet. Source: API 1.51 /volumes."""

from __future__ import annotations

from typing import Final

from wherry.errors import NotFound, Unsupported
from wherry_docker_api.answer import Answer, json
from wherry_docker_api.call import Call, Route

_FILTERS: Final = frozenset({"dangling", "driver", "label", "name"})
_PRUNE_FILTERS: Final = frozenset({"all", "label", "label!"})


async def list_(call: Call) -> Answer:
    call.query.filters(_FILTERS)
    return json({"Volumes": [], "Warnings": None})


async def create(call: Call) -> Answer:
    raise Unsupported("volumes cannot be made on their own yet: name one in `docker run --volume`")


async def missing(call: Call) -> Answer:
    raise NotFound("volume", call.name, f"get {call.name}: no such volume")


async def prune(call: Call) -> Answer:
    call.query.filters(_PRUNE_FILTERS)
    return json({"VolumesDeleted": None, "SpaceReclaimed": 0})


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/volumes", list_),
    ("POST", "/volumes/create", create),
    ("POST", "/volumes/prune", prune),
    ("GET", "/volumes/{name}", missing),
    ("DELETE", "/volumes/{name}", missing),
)
