"""Execs from made to ended, whoever speaks first."""

from __future__ import annotations

import pytest

from wherry.container.exec_table import KEPT, MADE, Execs
from wherry.errors import Conflict, NotFound
from wherry.spec.frontend import ExecRequest, ExecView


def made(number: int = 0) -> ExecView:
    return ExecView(id=f"e{number}", container_id="c", request=ExecRequest(cmd=("true",)))


def test_an_end_is_final() -> None:
    """A process that ended before its pid was known has ended all the same; it ends once."""
    execs = Execs()
    execs.add(made())
    assert execs.end("e0", 1) is None
    execs.begin("e0")
    ended = execs.end("e0", 3)
    assert ended is not None and (ended.running, ended.exit_code) == (False, 3)
    assert execs.started("e0", 99) == ended
    assert execs.end("e0", 137) is None
    with pytest.raises(Conflict, match="has already run"):
        execs.begin("e0")
    with pytest.raises(Conflict, match="not running"):
        execs.resize("e0", 1, 2)
    with pytest.raises(NotFound):
        execs.get("e1")


def test_it_begins_once() -> None:
    execs = Execs()
    execs.add(made())
    execs.begin("e0")
    with pytest.raises(Conflict, match="is already running"):
        execs.begin("e0")
    assert execs.started("e0", 7).pid == 7


def test_a_size_before_the_start_is_remembered() -> None:
    execs = Execs()
    execs.add(made())
    assert execs.resize("e0", 5, 6).pid == 0
    assert execs.begin("e0").request.console_size == (5, 6)


def test_what_is_known_stays() -> None:
    """An exec of an earlier daemon is taken up once, and not again after it ended."""
    execs = Execs()
    execs.add(made())
    execs.begin("e0")
    execs.end("e0", 4)
    assert execs.add(made()).exit_code == 4


def test_the_oldest_are_forgotten() -> None:
    """Ended ones by when they ended, made ones by when they were made; running ones never."""
    execs = Execs()
    for number in range(KEPT + 2):
        execs.add(made(number))
        execs.begin(f"e{number}")
    for number in reversed(range(1, KEPT + 2)):
        execs.end(f"e{number}", 0)
    assert execs.get("e0").running
    with pytest.raises(NotFound):
        execs.get(f"e{KEPT + 1}")
    assert execs.get("e1").exit_code == 0
    for number in range(MADE + 10):
        execs.add(made(10_000 + number))
    with pytest.raises(NotFound):
        execs.get("e10000")
    assert execs.known(["e10000", "e0"]) == ["e0"]
    assert execs.get(f"e{10_000 + MADE + 9}")
