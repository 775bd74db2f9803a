"""Waiting for one descriptor, whatever its number is (select(2) knows only those below 1024): poll(2)."""

from __future__ import annotations

import math
import select


def readable(descriptor: int, seconds: float) -> bool:
    """Whether there is something to read, or an end, within `seconds`; 0 or less only looks."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0, math.ceil(seconds * 1000))))
