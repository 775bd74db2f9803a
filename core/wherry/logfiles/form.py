"""What a line of the file looks like: the one thing that two log drivers with files differ in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from wherry.spec.log import Batch, Record


class LineEncoder(Protocol):
    """Makes lines of batches, for one container."""

    def encode(self, batch: Batch) -> bytes:
        """The records of a batch, each on a line of its own, which ends in a newline and holds no other."""


class LineDecoder(Protocol):
    """Makes records of lines. A line that is none is counted in `bad`, and never a reason to stop."""

    bad: int

    def decode(self, chunk: bytes) -> list[Record]:
        """The records in `chunk`, which ends in a newline."""

    def line(self, line: bytes) -> Record | None:
        """The record on one line, with or without its newline, or None; counts nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A way to write records as lines."""

    decoder: Callable[[], LineDecoder]
