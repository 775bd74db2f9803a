"""One thing said is one line of the daemon's log, whatever is in it."""

from __future__ import annotations

import io
import logging

import pytest

from wherry.daemon_log import OneLine, escaped


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain: words, ä, 漢 and \\n", "plain: words, ä, 漢 and \\n"),
        ("two\nlines", "two\\nlines"),
        ("\r\x1b[2J\x07\x00", "\\r\\x1b[2J\\x07\\x00"),
        ("\u2028\u202e", "\\u2028\\u202e"),
        ("\udcff", "\\udcff"),
    ],
)
def test_escaped(text: str, line: str) -> None:
    """What is not printable is written as an escape; the rest stays."""
    assert escaped(text) == line


def test_tracebacks_stand_apart() -> None:
    """An exception's words cannot begin a line either."""
    buffer = io.StringIO()
    handler = logging.StreamHandler(buffer)
    handler.setFormatter(OneLine("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("a\nERROR forged")
    except ValueError:
        logger.exception("it failed:\nERROR %s", "forged")
    lines = buffer.getvalue().splitlines()
    assert lines[0] == "ERROR it failed:\\nERROR forged"
    assert lines[1] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in lines[1:])
