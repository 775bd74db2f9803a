"""The copy that makes `docker logs` work where the driver cannot read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.errors import Unsupported
from wherry.logs.cache import copy_context, driver_context, open_reader
from wherry.plugins import Driver, Resolved, load
from wherry.spec import hookimpl
from wherry.spec.log import Batch, LogContext, LogSink, Query
from wherry.testing.log import MakeContext, Writer, context_factory, drain


class Away:
    """A driver that sends lines away and cannot read them back."""

    @hookimpl
    def open(self, context: LogContext) -> LogSink:
        return self

    def write(self, batch: Batch) -> None: ...

    def close(self) -> None: ...


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
    """What the copy was given is what the reader answers; it lies in a directory of its own."""
    of = context(mode="blocking", some="option")
    kept = copy_context(away, of)
    assert kept is not None
    kept.directory.mkdir()
    writer = Writer(local.call("open", context=kept))
    writer.write("stdout", b"a\nb\n")
    writer.write("stderr", b"c\n")
    writer.sink.close()
    reader = open_reader(away, local, of, Query())
    assert drain(reader) == writer.records
    reader.close()
    assert [path.name for path in of.directory.iterdir()] == ["log-cache"]


def test_who_is_told_which_options(away: Driver, context: MakeContext) -> None:
    """The driver sees its own options, the copy's driver those of the cache, bounded if nobody says otherwise."""
    of = context(mode="blocking", some="option", cache_max_file="3")
    assert driver_context(of).options == {"some": "option"}
    kept = copy_context(away, of)
    assert kept is not None and kept.options == {"max-size": "20m", "max-file": "3"}


def test_cache_disabled(away: Driver, local: Driver, context: MakeContext) -> None:
    """No copy is made, and reading is refused in Docker's words."""
    of = context(cache_disabled="true")
    assert copy_context(away, of) is None
    with pytest.raises(Unsupported, match=r"^configured logging driver does not support reading$"):
        open_reader(away, local, of, Query())


def test_without_a_driver_for_the_copy_there_is_none(away: Driver, context: MakeContext) -> None:
    """wherry works without wherry-jsonfile-log."""
    with pytest.raises(Unsupported):
        open_reader(away, None, context(), Query())


@pytest.mark.parametrize("name", ["json-file", "none"])
def test_who_reads_back_is_not_copied(local: Driver, context: MakeContext, name: str) -> None:
    """json-file reads its own; none says itself that there is nothing, and is believed."""
    driver = {"json-file": local, "none": made("wherry_none_log", "NoneLog")}[name]
    assert copy_context(driver, context()) is None
