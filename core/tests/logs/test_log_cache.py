"""The copy that makes `docker logs` work where the driver cannot read back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import Unsupported
from wherry.logs.cache import cached, open_reader, open_sink
from wherry.plugins import Driver, Resolved, load
from wherry.spec import hookimpl
from wherry.spec.log import Batch, LogContext, LogSink, Query
from wherry.testing.log import MakeContext, Writer, context_factory, drain


class Away:
    """A driver that sends lines away and cannot read them back."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.options: dict[str, str] = {}
        self.closed = 0
        self.broken = False

    @hookimpl
    def open(self, context: LogContext) -> LogSink:
        self.options = dict(context.options)
        return self

    def write(self, batch: Batch) -> None:
        if self.broken:
            raise OSError("the line is down")
        self.lines += [record.data for record in batch.records()]

    def close(self) -> None:
        self.closed += 1


def made(module: str, attribute: str) -> Driver:
    return load(Resolved(kind="log", name="under-test", module=module, attribute=attribute), None)


@pytest.fixture
def away() -> Driver:
    return made(__name__, "Away")


@pytest.fixture
def local() -> Driver:
    return made("wherry_jsonfile_log", "JsonFileLog")


@pytest.fixture
def context(tmp_path: Path) -> MakeContext:
    return context_factory(tmp_path)


def test_what_is_sent_away_can_be_read_here(away: Driver, local: Driver, context: MakeContext) -> None:
    """Every record goes to both; the options that are ours do not reach the driver."""
    of = context(mode="blocking", some="option")
    writer = Writer(open_sink(away, local, of))
    writer.write("stdout", b"a\nb\n")
    writer.write("stderr", b"c\n")
    writer.sink.close()
    assert away.instance.lines == [b"a\n", b"b\n", b"c\n"]
    assert away.instance.options == {"some": "option"}
    assert away.instance.closed == 1
    reader = open_reader(away, local, of, Query())
    assert drain(reader) == writer.records
    reader.close()
    assert [path.name for path in of.directory.iterdir()] == ["log-cache"]


def test_the_copy_is_bounded(away: Driver, local: Driver, context: MakeContext) -> None:
    """`cache-max-size` × `cache-max-file` and no more."""
    of = context(cache_max_size="1k", cache_max_file="3")
    writer = Writer(open_sink(away, local, of))
    for number in range(500):
        writer.write("stdout", b"line %d\n" % number)
    writer.sink.close()
    assert sum(path.stat().st_size for path in (of.directory / "log-cache").iterdir()) <= 3000
    assert len(away.instance.lines) == 500


def test_cache_disabled(away: Driver, local: Driver, context: MakeContext) -> None:
    """No copy is made, and reading is refused in Docker's words."""
    of = context(cache_disabled="true")
    sink = open_sink(away, local, of)
    assert sink is away.instance
    with pytest.raises(Unsupported, match=r"^configured logging driver does not support reading$"):
        open_reader(away, local, of, Query())
    assert list(of.directory.iterdir()) == []


def test_without_a_driver_for_the_copy_there_is_none(away: Driver, context: MakeContext) -> None:
    """wherry works without wherry-jsonfile-log."""
    assert open_sink(away, None, context()) is away.instance
    with pytest.raises(Unsupported):
        open_reader(away, None, context(), Query())


@pytest.mark.parametrize("name", ["json-file", "none"])
def test_who_reads_back_is_not_copied(local: Driver, context: MakeContext, name: str) -> None:
    """json-file reads its own; none says itself that there is nothing, and is believed."""
    driver = {"json-file": local, "none": made("wherry_none_log", "NoneLog")}[name]
    of = context()
    sink = open_sink(driver, local, of)
    sink.close()
    assert not (of.directory / "log-cache").exists()


@pytest.mark.parametrize("broken", ["copy", "driver"])
def test_trouble_on_one_side_leaves_the_other(
    away: Driver, local: Driver, context: MakeContext, broken: str
) -> None:
    """A copy that cannot be written does not keep lines from the driver, nor the other way round; it is told."""
    of = context()
    writer = Writer(open_sink(away, local, of))
    writer.write("stdout", b"a\n")
    if broken == "driver":
        away.instance.broken = True
    else:
        writer.sink.copy = Broken()  # type: ignore[attr-defined]
    with pytest.raises(OSError):
        writer.write("stdout", b"b\n")
    writer.sink.close()
    if broken == "driver":
        reader = open_reader(away, local, of, Query())
        assert [record.data for record in drain(reader)] == [b"a\n", b"b\n"]
        reader.close()
    else:
        assert away.instance.lines == [b"a\n", b"b\n"]


class Broken:
    def write(self, batch: Batch) -> None:
        raise OSError("no space")

    def close(self) -> None:
        pass


def test_a_copy_that_cannot_be_opened_gives_the_sink_back(local: Driver, context: MakeContext) -> None:
    """Whoever opened the driver's sink need not close it when the copy fails."""
    of = context()
    shutil.rmtree(of.directory)
    sink: Any = Away()
    with pytest.raises(OSError):
        cached(of, sink, local)
    assert sink.closed == 1
    assert not replace(of).directory.exists()
