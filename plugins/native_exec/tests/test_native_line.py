"""The line between a keeper and who becomes the process: what was said before the end is heard."""

from __future__ import annotations

import os

import pytest

from wherry.errors import InvalidRequest, StartFailed
from wherry_native_exec.line import Line, pair, tell_error


def test_an_error_is_heard_although_something_was_left_unread() -> None:
    """Whoever fails does not read what the keeper has sent meanwhile: why he failed is told all the same."""
    ours, theirs = pair()
    line = Line(ours, "true", "/", False, "the process")
    line.helpers.append(os.getpid())
    ours.send(b"means that nobody reads")
    tell_error(theirs, InvalidRequest("that cannot be mounted"))
    theirs.close()
    with pytest.raises(InvalidRequest, match="that cannot be mounted"):
        line.until_ready(5)
    ours.close()


def test_an_end_without_a_word() -> None:
    """It is an end, whether something was left unread or not."""
    for sent in (b"", b"means"):
        ours, theirs = pair()
        line = Line(ours, "true", "/", False, "the process")
        if sent:
            ours.send(sent)
        theirs.close()
        with pytest.raises(StartFailed, match="the process ended before it could be started"):
            line.until_ready(5)
        ours.close()
