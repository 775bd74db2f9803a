"""One request on its way to the engine: what a handler is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from wherry.errors import InvalidRequest
from wherry.spec.frontend import Engine
from wherry_docker_api.answer import Answer
from wherry_docker_api.decode import document, into
from wherry_docker_api.door import Door
from wherry_docker_api.query import Query
from wherry_docker_api.wire import Exchange

T = TypeVar("T")

Version: TypeAlias = tuple[int, int]
Handler: TypeAlias = Callable[["Call"], Awaitable[Answer | None]]
Route: TypeAlias = tuple[str, str, Handler]
"""(method, path, handler); the one `{…}` of a path is the name."""


@dataclass(slots=True, kw_only=True)
class Call:
    """`name` is the part of the path that names a thing, `version` what the client speaks."""

    exchange: Exchange
    engine: Engine
    door: Door
    name: str
    query: Query
    version: Version
    newest: Version
    oldest: Version

    async def json(self, kind: type[T], *, optional: bool = False) -> T:
        """The body as a `kind`. With `optional`, no body is an empty object. Raises InvalidRequest."""
        value = await self.document(optional=optional)
        return into(kind, {} if value is None and optional else value)

    async def document(self, *, optional: bool = False) -> Any:
        """The body as a JSON value; None where there is none and it is `optional`."""
        body = await self.exchange.whole_body()
        if optional and not body.strip():
            return None
        kind = self.exchange.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if body and kind != b"application/json":
            shown = kind.decode("latin-1")
            raise InvalidRequest(f"unsupported Content-Type header ({shown}): must be 'application/json'")
        return document(body)
