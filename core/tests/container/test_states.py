"""A container's states, its record on disk, and names."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.container import record as records
from wherry.container.operation import Operation
from wherry.container.record import Record
from wherry.container.registry import Containers
from wherry.container.state import MOVES, Move, moved
from wherry.errors import Busy, Conflict, InvalidRequest, NameInUse
from wherry.spec.container import Config, HostConfig, Status


@pytest.mark.parametrize("status", get_args(Status))
@pytest.mark.parametrize("move", list(Move))
def test_only_the_moves_of_the_table_are_possible(status: Status, move: Move) -> None:
    """An illegal move is a Conflict that says from where to where."""
    if move in MOVES[status]:
        assert moved(status, move, "x") in get_args(Status)
    else:
        with pytest.raises(Conflict, match=f"is {status} and cannot {move.value}"):
            moved(status, move, "x")


def test_whatever_happens_a_container_can_end() -> None:
    """From every state "removing" can be reached."""
    for status in get_args(Status):
        reached, edge = {status}, [status]
        while edge:
            for after in MOVES[edge.pop()].values():
                if after not in reached:
                    reached.add(after)
                    edge.append(after)
        assert "removing" in reached


def make(identifier: str = "a" * 64) -> Record:
    return Record(
        id=identifier, name="x", created="2026-01-01T00:00:00Z", config=Config(image="i", env=["A=b"])
    )


def test_a_record_comes_back(tmp_path: Path) -> None:
    directory = tmp_path / ("a" * 64)
    directory.mkdir()
    host = HostConfig(memory=1 << 30, binds=["/a:/b"])
    records.save(directory, make(), host, synced=True)
    assert records.load(directory) == (make(), host)
    assert sorted(p.name for p in directory.iterdir()) == ["config.v2.json", "hostconfig.json"]


@given(st.integers(min_value=0, max_value=400))
def test_a_record_cut_at_any_byte_is_damage_not_a_crash(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as top:
        directory = Path(top) / ("a" * 64)
        directory.mkdir()
        records.save(directory, make(), HostConfig(), synced=False)
        whole = (directory / records.CONFIG).read_bytes()
        (directory / records.CONFIG).write_bytes(whole[: min(cut, len(whole) - 1)])
        with pytest.raises(ValueError):
            records.load(directory)


def test_a_newer_record_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / ("a" * 64)
    directory.mkdir()
    records.save(directory, msgspec.structs.replace(make(), version=99), HostConfig(), synced=False)
    with pytest.raises(ValueError, match="newer than this engine's"):
        records.load(directory)


def test_another_operation_is_named() -> None:
    """Who waits in vain is told which operation holds the container, and its step."""
    operation = Operation("b" * 64)
    with operation("start") as now:
        now.step = "network"
        seen: list[str] = []

        def other() -> None:
            try:
                with operation("remove", patience=0.01):
                    pass
            except Busy as error:
                seen.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "busy: start, at step network" in seen[0]
    with operation("remove", patience=0.01):
        pass


def test_names() -> None:
    names = Containers()
    assert names.reserve("/web", "a") == "web"
    assert names.reserve("web", "a") == "web"
    with pytest.raises(NameInUse, match='The container name "/web" is already in use by container "a"'):
        names.reserve("web", "b")
    names.release("web", "b")
    with pytest.raises(NameInUse):
        names.reserve("web", "b")
    names.release("web", "a")
    assert names.reserve("web", "b") == "web"
    for bad in ("a b", "-x", "x/y", "ä"):
        with pytest.raises(InvalidRequest, match="Invalid container name"):
            names.reserve(bad, "c")
    made = {names.reserve("", str(i)) for i in range(500)}
    assert len(made) == 500
