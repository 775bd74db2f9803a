"""What clients may ask for and this engine does not have: each answer says so, and names a way around if there is one.

Of a swarm it answers as an engine does that is not part of one. Source: API 1.51; moby `daemon/cluster/errors.go`.
"""

from __future__ import annotations

from typing import Final

from wherry.errors import Unavailable, Unsupported
from wherry_docker_api.answer import Answer, json
from wherry_docker_api.call import Call, Handler, Route

_NO_MANAGER: Final = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


def _unsupported(message: str) -> Handler:
    async def refuse(call: Call) -> Answer:
        raise Unsupported(message)

    return refuse


async def _no_manager(call: Call) -> Answer:
    raise Unavailable(_NO_MANAGER)


async def _no_member(call: Call) -> Answer:
    raise Unavailable("This node is not part of a swarm")


async def _none(call: Call) -> Answer:
    return json([])


_swarm: Final = _unsupported("swarms are not supported by this engine")
_build: Final = _unsupported(
    "building images is not supported yet: build elsewhere, then `docker save` there and `docker load` here"
)
_registry: Final = _unsupported(
    "registries are not supported yet: bring images with `docker load` or `docker import`"
)
_plugins: Final = _unsupported(
    "docker's plugins are not supported: a driver of wherry is a Python distribution, `wherry drivers` lists them"
)

_SWARM_THINGS: Final = ("nodes", "services", "tasks", "secrets", "configs")

ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/swarm", _no_manager),
    ("GET", "/swarm/unlockkey", _no_manager),
    ("POST", "/swarm/unlock", _no_manager),
    ("POST", "/swarm/update", _no_manager),
    ("POST", "/swarm/leave", _no_member),
    ("POST", "/swarm/init", _swarm),
    ("POST", "/swarm/join", _swarm),
    *(("GET", f"/{thing}", _no_manager) for thing in _SWARM_THINGS),
    *(("POST", f"/{thing}/create", _no_manager) for thing in _SWARM_THINGS),
    *(
        (method, f"/{thing}/{{id}}", _no_manager)
        for thing in _SWARM_THINGS
        for method in ("GET", "POST", "DELETE")
    ),
    ("POST", "/auth", _registry),
    ("GET", "/images/search", _registry),
    ("POST", "/images/{name}/push", _registry),
    ("GET", "/distribution/{name}/json", _registry),
    (
        "POST",
        "/session",
        _unsupported("BuildKit sessions are not supported: there is only the classic builder"),
    ),
    ("POST", "/grpc", _unsupported("BuildKit is not supported: there is only the classic builder")),
    ("POST", "/build", _build),
    ("POST", "/build/prune", _build),
    ("POST", "/build/cancel", _build),
    ("POST", "/commit", _unsupported("making an image of a container (docker commit) is not supported yet")),
    ("GET", "/plugins", _none),
    ("GET", "/plugins/privileges", _plugins),
    *((method, "/plugins/{name}", _plugins) for method in ("GET", "POST", "DELETE")),
)
