"""The contract of log drivers as a test suite: what every one of them, bundled or not, is held to.

    class TestPlainLog(LogDriverContract):
        @pytest.fixture
        def driver(self) -> PlainLog:
            return PlainLog()

        def received(self, driver, context):       # only where the driver cannot `read`
            return context.directory.joinpath("plain.log").read_bytes().splitlines(keepends=True)

A driver that reads back is asked through its own `read`. What it cannot keep it declares: `binary = False` where bytes
that are no printable text change on the way, `keeps = False` where nothing is kept at all, `rotating` to name options
with which it rotates every few lines, `on_disk = True` where a full disk concerns it (that test mounts a tmpfs of its
own, as root).
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.errors import InvalidRequest, WherryError
from wherry.plugins import Resolved, examine
from wherry.spec.log import Batch, LogContext, LogReader, LogSink, Query, Record, Stream

LINE_LIMIT: Final = 16384
"""Longer lines come in pieces of this size."""
START_NS: Final = 1_767_225_600_000_000_000
DEADLINE: Final = 20.0

STREAMS: Final[tuple[Stream, ...]] = ("stdout", "stderr")
_numbers = itertools.count()
_fixtures = settings(
    max_examples=25,
    deadline=None,
    database=None,
    # A contract is inherited by many classes, and each example takes a container of its own from the fixtures.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


class MakeContext(Protocol):
    """`context(**options)`: another container, with a directory of its own; option names with `_` for `-`."""

    def __call__(self, directory: Path | None = None, **options: str) -> LogContext: ...


class Writer:
    """Gives a sink batches as a keeper does: whole lines, long ones in pieces, times that rise over both streams."""

    def __init__(self, sink: LogSink, time_ns: int = START_NS) -> None:
        self.sink = sink
        self.time_ns = time_ns
        self.records: list[Record] = []
        """What was written, as it should come back."""

    def write(self, stream: Stream, data: bytes) -> None:
        """Write `data`, which may end within a line: then that is the end of the stream."""
        whole: list[bytes] = []
        for line in _lines(data):
            if len(line.removesuffix(b"\n")) < LINE_LIMIT and line.endswith(b"\n"):
                whole.append(line)
                continue
            self.batch(stream, b"".join(whole))
            whole.clear()
            while len(line.removesuffix(b"\n")) >= LINE_LIMIT:
                self.batch(stream, line[:LINE_LIMIT], partial=True)
                line = line[LINE_LIMIT:]
            self.batch(stream, line)
        self.batch(stream, b"".join(whole))

    def batch(self, stream: Stream, data: bytes, partial: bool = False) -> None:
        """Give the sink one batch."""
        if not data:
            return
        batch = Batch(data=data, stream=stream, time_ns=self.time_ns, partial=partial)
        records = list(batch.records())
        self.time_ns += len(records)
        self.sink.write(batch)
        self.records += records


def drain(reader: LogReader) -> list[Record]:
    """All that a reader has now."""
    found: list[Record] = []
    while some := reader.read():
        found += some
    return found


def eventually(what: Callable[[], bool], deadline: float = DEADLINE) -> None:
    """Wait until `what()` holds, by looking again and again."""
    end = time.monotonic() + deadline
    pause = threading.Event()
    while not what():
        assert time.monotonic() < end, f"not true after {deadline} s"
        pause.wait(0.005)


_BYTES: Final = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"\r", b'"\\n', b"\\", b"\xff\xfe", "é€😀".encode(), b"\0", b"\x1b[31mred", b"\x7f\\"]
    ),
    st.integers(min_value=1, max_value=40_000).map(lambda size: b"x" * size),
)
_PRINTABLE: Final = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60).map(str.encode)
_Lines = list[tuple[Stream, list[bytes]]]


def _batches(text: st.SearchStrategy[bytes]) -> st.SearchStrategy[_Lines]:
    line = text.map(lambda data: data.replace(b"\n", b"/"))
    return st.lists(st.tuples(st.sampled_from(STREAMS), st.lists(line, min_size=1, max_size=8)), max_size=8)


class LogDriverContract:
    """Inherit, give the fixture `driver`, and, for a driver that does not read back, the method `received`."""

    keeps: ClassVar[bool] = True
    binary: ClassVar[bool] = True
    on_disk: ClassVar[bool] = False
    rotating: ClassVar[Mapping[str, str] | None] = None

    @pytest.fixture
    def driver(self) -> Any:
        raise NotImplementedError("give a fixture `driver` that answers your driver")

    @pytest.fixture
    def context(self, tmp_path: Path) -> MakeContext:
        """Makes containers. Override it where your driver needs options, such as an address."""
        return context_factory(tmp_path)

    def received(self, driver: Any, context: LogContext) -> Sequence[bytes] | None:
        """The lines that arrived, in order; None: look at what `read` answers."""
        return None

    def stored(self, data: bytes) -> bytes | None:
        """What becomes of a line's bytes on the way: a driver of text replaces what is no UTF-8. None: a line that its
        format has no place for."""
        return data

    # ---- What is written is there

    def test_it_meets_its_specification(self, driver: Any) -> None:
        """Every hook has the name and arguments that the specification says, and the required ones are there."""
        kind = type(driver)
        examine(Resolved(kind="log", name="under-test", module=kind.__module__, attribute=kind.__qualname__))

    @_fixtures
    @given(data=st.data())
    def test_lines_of_both_streams_come_back_as_they_were(
        self, driver: Any, context: MakeContext, data: st.DataObject
    ) -> None:
        """Every line, empty and long ones too, arrives once, in order, whole, with its stream and its time."""
        batches = data.draw(_batches(_BYTES if self.binary else _PRINTABLE))
        made = context()
        writer = Writer(driver.open(made))
        for stream, lines in batches:
            writer.write(stream, b"".join(line + b"\n" for line in lines))
        writer.sink.close()
        self._expect(driver, made, writer.records)

    @pytest.mark.parametrize("size", [1, LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1, 100_000, 1_000_000])
    def test_a_long_line_comes_in_pieces(self, driver: Any, context: MakeContext, size: int) -> None:
        """A line beyond the limit is kept as its pieces, and what follows it begins a line of its own."""
        made = context()
        writer = Writer(driver.open(made))
        writer.write("stdout", b"before\n" + b"x" * size + b"\nafter\n")
        writer.sink.close()
        self._expect(driver, made, writer.records)

    def test_pieces_of_both_streams_do_not_mix(self, driver: Any, context: MakeContext) -> None:
        """A piece of one stream between two of the other is a piece of its own."""
        made = context()
        writer = Writer(driver.open(made))
        for piece in range(3):
            writer.batch("stdout", b"%d" % piece * 100, partial=True)
            writer.batch("stderr", b"%d" % (piece + 5) * 100, partial=True)
        writer.batch("stderr", b"end\n")
        writer.batch("stdout", b"end\n")
        writer.sink.close()
        self._expect(driver, made, writer.records)

    def test_a_last_line_needs_no_newline(self, driver: Any, context: MakeContext) -> None:
        """What a stream ends with is kept, newline or not; opened again, the log goes on."""
        made = context()
        writer = Writer(driver.open(made))
        writer.write("stdout", b"one\ntwo")
        writer.sink.close()
        again = Writer(driver.open(made), writer.time_ns)
        again.write("stdout", b"three\n")
        again.sink.close()
        self._expect(driver, made, [*writer.records, *again.records])

    def test_opening_again_appends(self, driver: Any, context: MakeContext) -> None:
        """A restarted container's lines come after those it had written."""
        made = context()
        records: list[Record] = []
        time_ns = START_NS
        for number in range(4):
            writer = Writer(driver.open(made), time_ns)
            writer.write("stdout", b"start %d\n" % number)
            writer.batch("stderr", b"cut off in mid-line", partial=True)
            writer.sink.close()
            records += writer.records
            time_ns = writer.time_ns
        self._expect(driver, made, records)

    def test_two_containers_are_apart(self, driver: Any, context: MakeContext) -> None:
        """Logs open at the same time do not see each other's lines."""
        contexts = [context(), context()]
        writers = [Writer(driver.open(made)) for made in contexts]
        for number in range(20):
            for name, writer in enumerate(writers):
                writer.write("stdout", b"container %d line %d\n" % (name, number))
        for made, writer in zip(contexts, writers, strict=True):
            writer.sink.close()
            self._expect(driver, made, writer.records)

    def test_an_unused_log_opens_and_closes(self, driver: Any, context: MakeContext) -> None:
        """A container that says nothing has an empty log."""
        made = context()
        driver.open(made).close()
        self._expect(driver, made, [])

    def test_an_unknown_option_is_refused_by_name(self, driver: Any) -> None:
        """`check` takes no options at all, and says which one it does not know."""
        if not hasattr(driver, "check"):
            pytest.skip("this driver does not check options")
        driver.check({})
        with pytest.raises(InvalidRequest, match="no-such-option"):
            driver.check({"no-such-option": "1"})

    # ---- Reading

    @_fixtures
    @given(data=st.data())
    def test_a_query_finds_what_it_asks_for(
        self, driver: Any, context: MakeContext, data: st.DataObject
    ) -> None:
        """since, until (both inclusive), streams and tail (the last of those) are exact to the nanosecond and record."""
        self._must_read(driver)
        made = context()
        writer = Writer(driver.open(made))
        for stream, count in data.draw(
            st.lists(st.tuples(st.sampled_from(STREAMS), st.integers(1, 9)), max_size=9)
        ):
            writer.write(stream, b"".join(b"line %d\n" % number for number in range(count)))
            writer.time_ns += data.draw(st.integers(0, 3_000_000_000))
        writer.sink.close()
        moments = st.sampled_from([record.time_ns for record in writer.records] or [START_NS])
        near = st.builds(lambda moment, shift: moment + shift, moments, st.integers(-1, 1))
        query = Query(
            since_ns=data.draw(st.just(0) | near),
            until_ns=data.draw(st.none() | near),
            tail=data.draw(st.none() | st.integers(0, 12)),
            stdout=data.draw(st.booleans()),
            stderr=data.draw(st.booleans()),
        )
        self._expect(driver, made, asked(writer.records, query), query)

    def test_a_reader_sees_what_is_written_later(self, driver: Any, context: MakeContext) -> None:
        """A reader at the end, also of a log that does not exist yet, goes on when there is more."""
        self._must_read(driver)
        made = context()
        reader = driver.read(made, Query())
        assert drain(reader) == []
        writer = Writer(driver.open(made))
        found: list[Record] = []
        for number in range(50):
            writer.write(STREAMS[number % 2], b"line %d\n" % number)
            found += drain(reader)
            assert len(found) == number + 1
        writer.sink.close()
        reader.close()
        assert found == writer.records

    def test_a_tail_goes_on_after_the_end(self, driver: Any, context: MakeContext) -> None:
        """`--tail 2 --follow`: the last two, then all that is new."""
        self._must_read(driver)
        made = context()
        writer = Writer(driver.open(made))
        writer.write("stdout", b"a\nb\nc\n")
        reader = driver.read(made, Query(tail=2))
        writer.write("stdout", b"d\n")
        found = drain(reader)
        writer.write("stderr", b"e\n")
        found += drain(reader)
        writer.sink.close()
        reader.close()
        assert [record.data for record in found] == [b"b\n", b"c\n", b"d\n", b"e\n"]

    # ---- Rotation

    def test_rotation_tears_no_line(self, driver: Any, context: MakeContext) -> None:
        """However many lines a batch has, what is left after rotation is the end of what was written, line by line."""
        made = self._rotating(context)
        writer = Writer(driver.open(made))
        chance = random.Random(1)
        for _ in range(60):
            lines = [b"%d" % chance.randrange(10**9) for _ in range(chance.randrange(1, 40))]
            writer.write(chance.choice(STREAMS), b"".join(line + b"\n" for line in lines))
        writer.sink.close()
        reader = driver.read(made, Query())
        found = drain(reader)
        reader.close()
        assert 0 < len(found) < len(writer.records), "the options in `rotating` do not rotate"
        assert found == writer.records[-len(found) :]

    def test_a_reader_follows_rotation(self, driver: Any, context: MakeContext) -> None:
        """A reader that keeps up gets every record once, over as many rotations as there are."""
        made = self._rotating(context)
        writer = Writer(driver.open(made))
        reader = driver.read(made, Query())
        found: list[Record] = []
        for number in range(400):
            writer.write(STREAMS[number % 2], b"line number %d\n" % number)
            if number % 3 == 0:
                found += drain(reader)
        found += drain(reader)
        writer.sink.close()
        reader.close()
        assert found == writer.records

    # ---- A full disk

    def test_a_full_disk_hurts_only_what_does_not_fit(
        self, driver: Any, context: MakeContext, small_disk: Path
    ) -> None:
        """When the disk is full a write raises; what was taken before is intact, and with room again, it goes on."""
        made = context(directory=small_disk)
        writer = Writer(driver.open(made))
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(256 * 1024))
        failures = 0
        for number in range(4000):
            try:
                writer.write(STREAMS[number % 2], b"line %06d " % number + b"x" * (number % 700) + b"\n")
            except (OSError, WherryError):
                failures += 1
                if failures == 20:
                    ballast.unlink()
                if failures == 40:
                    break
        assert failures == 40, "the disk did not get full"
        writer.sink.close()
        self._expect(driver, made, writer.records)

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        """A tmpfs of 1 MiB."""
        if not self.on_disk:
            pytest.skip("this driver keeps nothing on a disk of ours")
        if os.geteuid() != 0:
            pytest.skip("mounting a tmpfs takes root")
        target = tmp_path / "small-disk"
        target.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(target)], check=True)
        try:
            yield target
        finally:
            subprocess.run(["umount", str(target)], check=True)

    # ---- Parts

    def _expect(
        self, driver: Any, context: LogContext, records: Sequence[Record], query: Query | None = None
    ) -> None:
        if not self.keeps:
            return
        if hasattr(driver, "read"):
            reader = driver.read(context, query or Query())
            found = drain(reader)
            reader.close()
            assert [(record.time_ns, record.stream, record.data) for record in found] == [
                (record.time_ns, record.stream, self.stored(record.data)) for record in records
            ]
            for record, wanted in zip(found, records, strict=True):
                assert record.partial or not wanted.partial
            return
        lines = [line for record in records if (line := self.stored(record.data)) is not None]

        def arrived() -> bool:
            return list(self.received(driver, context) or ()) == lines

        try:
            eventually(arrived)
        except AssertionError:
            assert list(self.received(driver, context) or ()) == lines

    def _must_read(self, driver: Any) -> None:
        if not self.keeps or not hasattr(driver, "read"):
            pytest.skip("this driver does not read back")

    def _rotating(self, context: MakeContext) -> LogContext:
        if self.rotating is None:
            pytest.skip("this driver does not rotate")
        made = context()
        return replace(made, options={**made.options, **self.rotating})


def asked(records: Sequence[Record], query: Query) -> list[Record]:
    """The records that a query asks for: the model that drivers are compared with."""
    streams = {name for name, wanted in (("stdout", query.stdout), ("stderr", query.stderr)) if wanted}
    found = [
        record
        for record in records
        if record.stream in streams
        and record.time_ns >= query.since_ns
        and (query.until_ns is None or record.time_ns <= query.until_ns)
    ]
    return found if query.tail is None else found[max(0, len(found) - query.tail) :]


def context_factory(root: Path, **always: str) -> MakeContext:
    """Makes containers below `root`, with options that all of them have."""

    def make(directory: Path | None = None, **options: str) -> LogContext:
        number = next(_numbers)
        identity = f"{number:08x}" + "0123456789abcdef" * 3 + "01234567"
        if directory is None:
            directory = root / identity
            directory.mkdir()
        return LogContext(
            container_id=identity,
            container_name=f"container{number}",
            directory=directory,
            image_id="sha256:" + "ab" * 32,
            image_name="busybox",
            command=("sh", "-c", "echo hi"),
            options={name.replace("_", "-"): value for name, value in (always | options).items()},
        )

    return make


def _lines(data: bytes) -> list[bytes]:
    *whole, rest = data.split(b"\n")
    lines = [line + b"\n" for line in whole]
    return [*lines, rest] if rest else lines
