"""From method and path to the function that answers, and the version of the API that was asked for.

Every path exists with and without `/v1.NN` in front. Source: API 1.51; dockerd `server/middleware/version.go`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from wherry.errors import InvalidRequest, NotFound
from wherry.spec.frontend import Engine
from wherry_docker_api import (
    absent,
    archives,
    attaching,
    containers,
    execs,
    images,
    logs,
    networks,
    stats,
    system,
    volumes,
)
from wherry_docker_api.answer import Answer
from wherry_docker_api.call import Call, Route, Version
from wherry_docker_api.door import Door
from wherry_docker_api.query import Query
from wherry_docker_api.wire import Exchange

LEAST: Final[Version] = (1, 24)

__all__ = ["LEAST", "Router", "Version", "parse_version", "show"]

_AREAS: Final[Sequence[Sequence[Route]]] = (
    system.ROUTES,
    containers.ROUTES,
    archives.ROUTES,
    attaching.ROUTES,
    logs.ROUTES,
    stats.ROUTES,
    execs.ROUTES,
    images.ROUTES,
    networks.ROUTES,
    volumes.ROUTES,
    absent.ROUTES,
)

_VERSIONED: Final = re.compile(r"/v([0-9][0-9.]*)(/.*)", re.ASCII)

Handler = Callable[[Call], Awaitable[Answer | None]]


class Router:
    """All that can be asked, in the order in which it is tried."""

    def __init__(self, engine: Engine, door: Door, version: Version) -> None:
        self._engine, self._door, self._version = engine, door, version
        self._plain: dict[tuple[str, str], Handler] = {}
        self._named: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}
        for area in _AREAS:
            for method, path, handler in area:
                if "{" not in path:
                    self._plain[method, path] = handler
                    continue
                key = (method, path.split("/")[1])
                self._named.setdefault(key, []).append((_pattern(path), handler))

    async def answer(self, exchange: Exchange) -> Answer | None:
        """The answer, or None where the handler has sent it itself."""
        target, _, raw_query = exchange.target.partition(b"?")
        if target.startswith(b"http://"):  # an absolute target, as to a proxy: RFC 9112, 3.2.2
            target = b"/" + target.removeprefix(b"http://").partition(b"/")[2]
        try:
            path = unquote_to_bytes(target).decode()
        except UnicodeDecodeError:
            raise InvalidRequest("the path of the request is no UTF-8") from None
        version = self._version
        if path.startswith("/v") and (found := _VERSIONED.fullmatch(path)):
            version, path = self._accept(found[1]), found[2]
        handler, name = self._find(exchange.method, path)
        return await handler(
            Call(
                exchange=exchange,
                engine=self._engine,
                door=self._door,
                name=name,
                query=Query(raw_query),
                version=version,
                newest=self._version,
                oldest=LEAST,
            )
        )

    def _find(self, method: str, path: str) -> tuple[Handler, str]:
        handler = self._plain.get((method, path))
        if handler is not None:
            return handler, ""
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        for pattern, candidate in self._named.get((method, first), ()):
            if found := pattern.fullmatch(path):
                return candidate, found[1]
        raise NotFound("page", path, "page not found")

    def _accept(self, text: str) -> Version:
        version = parse_version(text)
        if version > self._version:
            raise InvalidRequest(
                f"client version {text} is too new. Maximum supported API version is {show(self._version)}"
            )
        if version < LEAST:
            raise InvalidRequest(
                f"client version {text} is too old. Minimum supported API version is {show(LEAST)}, "
                "please upgrade your client to a newer version"
            )
        return version


def parse_version(text: str) -> Version:
    """`1.51` → (1, 51). Raises InvalidRequest."""
    found = re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]{1,4}))?(?:\.[0-9]{1,4})*", text, re.ASCII)
    if not found:
        raise InvalidRequest(f'"{text[:40]}" is no version of the API; write it like 1.51')
    return int(found[1]), int(found[2] or 0)


def show(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def _pattern(path: str) -> re.Pattern[str]:
    """`/images/{name}/json`: a name may have slashes in it."""
    return re.compile(re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(path)), re.DOTALL)
