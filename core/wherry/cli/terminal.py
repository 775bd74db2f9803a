"""The user's terminal: its size, raw mode for as long as a container has it, and the keys that detach."""

from __future__ import annotations

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from wherry.errors import InvalidRequest

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


def size() -> tuple[int, int] | None:
    """(rows, columns) of the terminal on stdout, or stdin; None if there is none."""
    for descriptor in (1, 0, 2):
        try:
            columns, rows = os.get_terminal_size(descriptor)
        except OSError:
            continue
        return (rows, columns) if rows and columns else None
    return None


@contextmanager
def raw(wanted: bool) -> Iterator[None]:
    """Keys go to the container as they are pressed, for the time of the block."""
    descriptor = 0
    if not wanted or not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def parse_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` → what the terminal sends for it."""
    found = bytearray()
    for key in text.split(","):
        if len(key) == 1:
            found += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6 and ("a" <= key[5] <= "z" or key[5] in "@[\\]^_"):
            found.append(0 if key[5] == "@" else ord(key[5].upper()) - 64)
        else:
            raise InvalidRequest(
                f"invalid detach keys ({text}): write single letters or ctrl-x, with commas between"
            )
    return bytes(found)


class DetachKeys:
    """Watches what is typed for the sequence that detaches; a beginning of it is held back until it is decided."""

    def __init__(self, keys: bytes) -> None:
        self._keys, self._held = keys, b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what goes on to the container, whether the sequence is complete)."""
        data = self._held + data
        if not self._keys:
            return data, False
        at = data.find(self._keys)
        if at >= 0:
            return data[:at], True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self._held = data[-length:]
                return data[:-length], False
        self._held = b""
        return data, False
