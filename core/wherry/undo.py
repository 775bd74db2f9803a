"""The way back: inverses registered before their steps, run newest first when something fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)


class Undo:
    """`with Undo() as undo:` runs every inverse in reverse on an error, and none after `keep()`.

    An inverse is idempotent ("already gone" is success) and quiet: what it raises is logged, so that the error the user
    sees is the first one.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def add(self, inverse: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        """Register the inverse of a step that is about to be taken."""
        self._stack.callback(_quietly, inverse, arguments, keywords)

    def keep(self) -> None:
        """Everything is well: forget the inverses."""
        self._stack.pop_all()

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _quietly(inverse: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    try:
        inverse(*arguments, **keywords)
    except Exception:
        log.exception("undoing a step failed: %s", getattr(inverse, "__qualname__", inverse))
