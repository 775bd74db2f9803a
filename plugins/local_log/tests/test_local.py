"""The local driver, held to the contract of log drivers, and its format."""

from __future__ import annotations

import gzip
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import InvalidRequest
from wherry.spec.log import Batch, Query
from wherry.testing.log import LogDriverContract, MakeContext, Writer, context_factory, drain, eventually
from wherry_local_log import LocalLog
from wherry_local_log.lines import Decoder, Encoder


@pytest.fixture
def context(tmp_path_factory: pytest.TempPathFactory) -> MakeContext:
    return context_factory(tmp_path_factory.mktemp("local"))


class TestLocal(LogDriverContract):
    on_disk = True
    rotating: ClassVar[dict[str, str]] = {"max-size": "2k", "max-file": "3", "compress": "false"}

    @pytest.fixture
    def driver(self) -> LocalLog:
        return LocalLog()


class TestLocalCompressed(TestLocal):
    rotating: ClassVar[dict[str, str]] = {"max-size": "2k", "max-file": "4", "compress": "true"}


class TestLocalSingle(TestLocal):
    """One file: only what it holds is kept, and whoever keeps up misses nothing."""

    rotating: ClassVar[dict[str, str]] = {"max-size": "2k", "max-file": "1", "compress": "false"}


def test_the_format(context: MakeContext) -> None:
    """It is that of the container runtime interface: what collectors parse."""
    made = context()
    writer = Writer(LocalLog().open(made), 1_767_225_600_999_999_999)
    writer.write("stdout", b"one\n\n")
    writer.batch("stderr", b"a piece", partial=True)
    writer.write("stderr", b" the end \xff\n")
    writer.sink.close()
    assert (made.directory / "local-logs" / "container.log").read_bytes() == (
        b"2026-01-01T00:00:00.999999999Z stdout F one\n"
        b"2026-01-01T00:00:01.000000000Z stdout F \n"
        b"2026-01-01T00:00:01.000000001Z stderr P a piece\n"
        b"2026-01-01T00:00:01.000000002Z stderr F  the end \xff\n"
    )


@given(
    st.lists(st.binary(max_size=50).map(lambda line: line.replace(b"\n", b"")), max_size=3000),
    st.integers(0, 4_000_000_000_000_000_000),
)
def test_there_and_back(lines: list[bytes], time_ns: int) -> None:
    """What is decoded is what was encoded, for any bytes, with times over the borders of microseconds and seconds."""
    batch = Batch(data=b"".join(line + b"\n" for line in lines), stream="stderr", time_ns=time_ns)
    assert Decoder().decode(Encoder().encode(batch)) == list(batch.records())


@pytest.mark.parametrize(
    "bad",
    [b"", b"nonsense", b"2026-01-01T00:00:00Z stdout F", b"2026-01-01T00:00:00Z stdin F x", b"x stdout F x",
     b"2026-01-01T00:00:00Z stdout G x", b"2026-01-01T00:00:00.1234567890Z\xff stdout F x"],
)  # fmt: skip
def test_a_bad_line_is_passed_over(context: MakeContext, bad: bytes) -> None:
    """What a crash or an editor left does not hide the lines around it."""
    made = context()
    writer = Writer(LocalLog().open(made))
    writer.write("stdout", b"before\n")
    writer.sink.close()
    with (made.directory / "local-logs" / "container.log").open("ab") as file:
        file.write(bad + b"\n")
    again = Writer(LocalLog().open(made), writer.time_ns)
    again.write("stdout", b"after\n")
    again.sink.close()
    reader = LocalLog().read(made, Query())
    assert [record.data for record in drain(reader)] == [b"before\n", b"after\n"]
    reader.close()


def test_full_files_are_compressed(context: MakeContext) -> None:
    """By default; what they hold is what was written."""
    made = context(max_size="1k", max_file="3")
    writer = Writer(LocalLog().open(made))
    for number in range(100):
        writer.write("stdout", b"line %d\n" % number)
    newest = made.directory / "local-logs" / "container.log.1.gz"
    eventually(newest.exists)
    writer.sink.close()
    assert gzip.decompress(newest.read_bytes()).count(b" stdout F line ") > 10


@pytest.mark.parametrize(
    ("options", "words"),
    [({"max-size": "x"}, "max-size"), ({"max-file": "0"}, "max-file"), ({"compress": "maybe"}, "compress"),
     ({"max-file": "1"}, "compress"), ({"tag": "x"}, "tag")],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, str], words: str) -> None:
    """They are refused by name when a container is created."""
    with pytest.raises(InvalidRequest, match=words):
        LocalLog().check(options)
