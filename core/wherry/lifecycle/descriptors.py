"""Descriptors on their way to a keeper: a list that owns them, and gives each its position in the message."""

from __future__ import annotations

import os
from types import TracebackType


class Descriptors:
    """Owned until the `with` ends; the keeper has its own copies by then."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def add(self, descriptor: int) -> int:
        """Take over `descriptor`; its position is what a `Command` names it by."""
        self.numbers.append(descriptor)
        return len(self.numbers) - 1

    def lend(self, descriptor: int) -> int:
        """As `add`, for one that stays its owner's: a duplicate goes."""
        return self.add(os.dup(descriptor))

    def close(self) -> None:
        while self.numbers:
            os.close(self.numbers.pop())

    def __enter__(self) -> Descriptors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
