"""The daemon's log: one line for each thing said, whatever words of a client, an image or a container are in it."""

from __future__ import annotations

import logging
import sys
from typing import Final

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def begin(level: int | str) -> None:
    """Send all logging to stderr, from `level` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(_FORMAT))
    logging.basicConfig(level=level, handlers=[handler])


class OneLine(logging.Formatter):
    """Control characters are written as escapes: nobody can forge a line, or steer the terminal of who reads. Tracebacks
    stay as they are, a little to the right."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = escaped(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        whole = super().formatException(ei)  # type: ignore[arg-type]  # the supertype's own spelling is private
        return "\n".join(f"    {escaped(line)}" for line in whole.splitlines())


def escaped(text: str) -> str:
    r"""`text` on one line: a newline as `\n`, an escape as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
