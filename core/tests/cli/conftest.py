"""The command line sets how its process takes SIGPIPE; these tests call it in theirs, which others go on to use."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def sigpipe() -> Iterator[None]:
    """Put the disposition back: else the next test whose peer hangs up would end the whole run."""
    before = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, before)
