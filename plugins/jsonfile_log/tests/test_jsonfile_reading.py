"""Reading while others write, rotate, compress, truncate and damage."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.logfiles import LineReader
from wherry.spec.log import Batch, LogContext, Query, Record
from wherry.testing.log import START_NS, MakeContext, Writer, context_factory, drain, eventually
from wherry_jsonfile_log import JsonFileLog

WRITER = """
import json, sys
from pathlib import Path
from wherry_jsonfile_log import JsonFileLog
from wherry.spec.log import Batch, LogContext

directory, identity, count, options = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
context = LogContext(container_id=identity, container_name="x", directory=Path(directory), options=options)
sink = JsonFileLog().open(context)
number = given = 0
while number < count:
    some = min(1 + number % 7, count - number)
    data = b"".join(b"%d\\n" % (number + i) for i in range(some))
    sink.write(Batch(data=data, stream="stdout", time_ns=1_767_225_600_000_000_000 + number))
    number += some
    if number // 50 > given:
        given += len(sys.stdin.buffer.read(1))  # one byte from the reader for every fifty lines
sink.close()
"""


@pytest.fixture
def context(tmp_path: Path) -> MakeContext:
    return context_factory(tmp_path)


def reading(context: LogContext, query: Query | None = None) -> LineReader:
    reader = JsonFileLog().read(context, query or Query())
    assert isinstance(reader, LineReader)
    return reader


def live(context: LogContext) -> Path:
    return Path(JsonFileLog().path(context))


def fill(context: LogContext, lines: int, step_ns: int = 1) -> list[Record]:
    writer = Writer(JsonFileLog().open(context))
    for number in range(lines):
        writer.write("stdout", b"line %d\n" % number)
        writer.time_ns += step_ns - 1
    writer.sink.close()
    return writer.records


def numbers(records: list[Record]) -> list[int]:
    return [int(record.data) for record in records]


@pytest.mark.parametrize("compress", ["false", "true"])
def test_a_follower_misses_and_repeats_nothing_while_another_process_rotates(
    context: MakeContext, compress: str
) -> None:
    """20,000 lines over hundreds of rotations by another process: each number once, in order."""
    made = context()
    options = {"max-size": "4k", "max-file": "30", "compress": compress}
    count = 20_000
    reader = reading(made)
    arguments = [str(made.directory), made.container_id, str(count), json.dumps(options)]
    with subprocess.Popen([sys.executable, "-c", WRITER, *arguments], stdin=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        found: list[int] = []
        given = 0

        def step() -> bool:
            nonlocal given
            found.extend(numbers(list(reader.read())))
            # The writer may run ahead by some files, never so far that the one we read is deleted.
            while given * 50 < len(found) + 500 and writer.poll() is None:
                given += 1
                try:
                    os.write(writer.stdin.fileno(), b".")  # type: ignore[union-attr]
                except BrokenPipeError:
                    break
            return len(found) >= count

        try:
            eventually(step, deadline=60)
        finally:
            writer.stdin.close()
            writer.wait(10)
    assert found == list(range(count))
    assert drain(reader) == []
    assert (reader.bad, reader.gaps) == (0, 0)
    reader.close()


def test_a_reader_that_was_too_slow_says_so(context: MakeContext) -> None:
    """Lines that were rotated away before they were read are announced; what is left comes once."""
    made = context(max_size="1k", max_file="3")
    driver = JsonFileLog()
    writer = Writer(driver.open(made))
    writer.write("stdout", b"0\n1\n")
    reader = reading(made)
    assert numbers(drain(reader)) == [0, 1]
    for number in range(2, 200):
        writer.write("stdout", b"%d\n" % number)
    found = drain(reader)
    writer.sink.close()
    (at,) = [place for place, record in enumerate(found) if b"lines are missing here" in record.data]
    assert found[at].stream == "stderr"
    before, after = numbers(found[:at]), numbers(found[at + 1 :])
    assert before == list(range(2, 2 + len(before)))  # the rest of the file that it held
    assert after == list(range(after[0], 200))
    assert after[0] > before[-1] + 1
    assert drain(reader) == []
    assert reader.gaps == 1
    reader.close()


@pytest.mark.parametrize("compress", ["false", "true"])
@pytest.mark.parametrize("tail", [None, 0, 1, 39, 40, 41, 250, 10_000])
def test_queries_reach_across_files(context: MakeContext, compress: str, tail: int | None) -> None:
    """tail and since are the same whether the records are in one file, in rotated or in compressed ones."""
    made = context(max_size="3k", max_file="20", compress=compress)
    records = fill(made, 400, step_ns=1_000_000)
    if compress == "true":
        compressed(made)
    for since in (
        0,
        records[0].time_ns,
        records[17].time_ns + 1,
        records[-1].time_ns,
        records[-1].time_ns + 1,
    ):
        reader = reading(made, Query(since_ns=since, tail=tail))
        expected = [record for record in records if record.time_ns >= since]
        expected = expected if tail is None else expected[max(0, len(expected) - tail) :]
        assert drain(reader) == expected
        reader.close()


def compressed(context: LogContext) -> None:
    """Have what `close` left uncompressed finished, as the next rotation of a running container would."""
    from wherry.logfiles.rotation import Rotation
    from wherry_jsonfile_log.driver import FORM

    rotation = Rotation(live(context), 20, True, FORM)
    rotation._finish()
    eventually(
        lambda: (
            not list(context.directory.glob("*-json.log.[0-9]"))
            + list(context.directory.glob("*.[0-9][0-9]"))
        )
    )
    rotation.close()


def test_a_compressed_file_is_a_gzip_file_with_docker_s_header(context: MakeContext) -> None:
    """gunzip reads it; its header says, as Docker's, until when its records reach."""
    made = context(max_size="3k", max_file="20", compress="true")
    records = fill(made, 100)
    compressed(made)
    oldest = max(made.directory.glob("*.gz"), key=lambda path: int(path.name.split(".")[-2]))
    lines = gzip.decompress(oldest.read_bytes()).splitlines()
    assert json.loads(lines[0])["log"] == records[0].data.decode()
    start = oldest.read_bytes()
    said = json.loads(start[12 : 12 + int.from_bytes(start[10:12], "little")])
    assert said["lastTime"] == json.loads(lines[-1])["time"]
    assert subprocess.run(["gzip", "-t", oldest], check=False).returncode == 0


def test_rotated_names_are_docker_s(context: MakeContext) -> None:
    """`.1` is the newest, and there are never more than max-file."""
    made = context(max_size="1k", max_file="3")
    records = fill(made, 100)
    names = sorted(path.name.removeprefix(made.container_id) for path in made.directory.iterdir())
    assert names == ["-json.log", "-json.log.1", "-json.log.2"]
    texts = [
        [json.loads(line)["log"].encode() for line in (made.directory / f"{made.container_id}{name}").open()]
        for name in reversed(names)
    ]
    flat = [text for file in texts for text in file]
    assert flat == [record.data for record in records[-len(flat) :]]


DAMAGE: dict[str, tuple[Callable[[list[bytes]], bytes], int]] = {
    "half a line": (lambda lines: b"".join([*lines[:3], lines[3][:20] + b"\n", *lines[4:]]), 1),
    "half a line, run into the next": (lambda lines: b"".join([*lines[:3], lines[3][:20], *lines[4:]]), 1),
    "a run of zeros": (lambda lines: b"".join([*lines[:3], bytes(5000) + b"\n", *lines[4:]]), 1),
    "no JSON": (lambda lines: b"".join([*lines[:3], b"<xml/>\n", *lines[4:]]), 1),
    "no object": (lambda lines: b"".join([*lines[:3], b"[1,2]\n", *lines[4:]]), 1),
    "a record of something else": (lambda lines: b"".join([*lines[:3], b'{"log":1,"stream":2}\n', *lines[4:]]), 1),
    "an endless line": (lambda lines: b"".join([*lines[:3], b"x" * 20_000_000 + b"\n", *lines[4:]]), 1),
    "an unknown stream": (lambda lines: b"".join([*lines[:3], lines[3].replace(b"stdout", b"stdin"), *lines[4:]]), 1),
    "deep nesting": (lambda lines: b"".join([*lines[:3], b"[" * 5000 + b"\n", *lines[4:]]), 1),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "query", [Query(), Query(tail=500), Query(since_ns=START_NS)], ids=["all", "tail", "since"]
)
def test_a_bad_line_costs_only_itself(context: MakeContext, damage: str, query: Query) -> None:
    """Whatever a crash or an editor left in a file, the lines around it are read, and the bad one is counted."""
    made = context()
    records = fill(made, 300)
    spoil, bad = DAMAGE[damage]
    live(made).write_bytes(spoil(live(made).read_bytes().splitlines(keepends=True)))
    reader = reading(made, query)
    found = drain(reader)
    lost = {records[3].time_ns} | ({records[4].time_ns} if "run into" in damage else set())
    assert found == [record for record in records if record.time_ns not in lost]
    assert reader.bad == bad
    reader.close()


def test_zeros_before_a_record_are_passed_over(context: MakeContext) -> None:
    """A file truncated under a writer that does not append becomes sparse: the record behind the hole is good."""
    made = context()
    records = fill(made, 10)
    live(made).write_bytes(bytes(10_000) + live(made).read_bytes())
    reader = reading(made)
    assert drain(reader) == records
    reader.close()


def test_a_torn_end_is_cut_off_when_the_log_is_opened_again(context: MakeContext) -> None:
    """Half a record that a crash left does not spoil the next one, nor the file for other programs."""
    made = context()
    fill(made, 5)
    with live(made).open("ab") as file:
        file.write(b'{"log":"half a rec')
    fill(made, 5)
    assert [json.loads(line)["log"] for line in live(made).open()] == [f"line {n}\n" for n in range(5)] * 2


@pytest.mark.parametrize("grown", [False, True])
def test_truncation_under_writer_and_reader(context: MakeContext, grown: bool) -> None:
    """`truncate -s0` on a log: the writer goes on at its beginning, the reader with what is written then."""
    made = context()
    driver = JsonFileLog()
    writer = Writer(driver.open(made))
    reader = reading(made)
    for number in range(20):
        writer.write("stdout", b"%d\n" % number)
    assert len(drain(reader)) == 20
    os.truncate(live(made), 0)
    for number in range(20, 70 if grown else 25):
        writer.write("stdout", b"%d\n" % number)
    assert numbers(drain(reader)) == list(range(20, 70 if grown else 25))
    writer.sink.close()
    reader.close()
    assert b"\0" not in live(made).read_bytes()


def test_without_following_the_end_is_where_the_log_ended(context: MakeContext) -> None:
    """A reader told to stop at the end does not chase a container that writes faster than it is read."""
    made = context(max_size="1k", max_file="5")
    driver = JsonFileLog()
    writer = Writer(driver.open(made))
    for number in range(30):
        writer.write("stdout", b"%d\n" % number)
    reader = reading(made)
    reader.stop_at_end()
    for number in range(30, 50):
        writer.write("stdout", b"%d\n" % number)
    found = numbers(drain(reader))
    assert found[-1] == 29
    assert reader.finished
    writer.sink.close()
    reader.close()


def test_the_last_lines_of_a_gigabyte_are_there_at_once(context: MakeContext) -> None:
    """`--tail 10`, `--since` near the end and `--until` near the beginning do not read what lies between."""
    made = context(max_size="-1")
    driver = JsonFileLog()
    sink = driver.open(made)
    count = 3000
    data = b"".join(b"%019d\n" % number for number in range(count))
    time_ns = START_NS
    while live(made).stat().st_size < 1_000_000_000:
        sink.write(Batch(data=data, stream="stdout", time_ns=time_ns))
        time_ns += 10_000
    sink.close()
    try:
        for query, expected in (
            (Query(tail=10), 10),
            (Query(since_ns=time_ns - 10_000 + count - 25), 25),
            (Query(tail=7, until_ns=START_NS + 50_000), 7),
        ):
            begin = time.perf_counter()
            reader = reading(made, query)
            reader.stop_at_end()
            found = drain(reader)
            took = time.perf_counter() - begin
            reader.close()
            assert len(found) == expected
            print(f"\n1 GB, {query}: {took * 1000:.1f} ms")
            assert took < 0.5  # some milliseconds; the bound is for busy machines
    finally:
        live(made).unlink()


def test_memory_stays_bounded(context: MakeContext) -> None:
    """Reading a log needs memory for a chunk of it, whatever its size and whatever is in it."""
    made = context(max_size="-1")
    driver = JsonFileLog()
    writer = Writer(driver.open(made))
    data = b"".join(b"%0100d\n" % number for number in range(600))
    for _ in range(800):
        writer.sink.write(Batch(data=data, stream="stdout", time_ns=writer.time_ns))
        writer.time_ns += 600
    writer.sink.close()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader = reading(made)
    count = 0
    while some := reader.read():
        count += len(some)
    reader.close()
    live(made).unlink()
    assert count == 800 * 600
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def test_no_descriptor_is_left_open(context: MakeContext) -> None:
    """Readers and sinks give back what they opened, over rotations, gaps and queries of every kind."""
    before = set(os.listdir("/proc/self/fd"))
    made = context(max_size="1k", max_file="4")
    fill(made, 200)
    for query in (
        Query(),
        Query(tail=3),
        Query(tail=10_000),
        Query(since_ns=START_NS + 150),
        Query(since_ns=1),
    ):
        reader = reading(made, query)
        drain(reader)
        reader.stop_at_end()
        reader.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_sealed_keeper_can_rotate_and_compress(tmp_path: Path) -> None:
    """In a keeper nothing can be imported any more: writing, rotating, compressing and closing do without."""
    program = """
import sys, time
from pathlib import Path
from wherry_jsonfile_log import JsonFileLog
from wherry.spec.log import Batch, LogContext

class Sealed:
    def find_spec(self, name, path=None, target=None):
        print("sealed:", name)
        raise ImportError(f"sealed: {name}")

driver = JsonFileLog()
sys.meta_path.insert(0, Sealed())
options = {"max-size": "2k", "max-file": "5", "compress": "true", "tag": "{{.ID}}", "env-regex": "A"}
directory = Path(sys.argv[1])
context = LogContext(container_id="a" * 64, container_name="x", directory=directory, options=options)
sink = driver.open(context)
for number in range(100):
    sink.write(Batch(data=b"caf\\xe9 \\\\ \\x7f\\n", stream="stderr", time_ns=1_767_225_600_000_000_000 + number))
deadline = time.monotonic() + 10
while not list(directory.glob("*.gz")) and time.monotonic() < deadline:
    sink.write(Batch(data=b"more\\n", stream="stdout", time_ns=time.time_ns()))
sink.close()
assert list(directory.glob("*.gz"))
"""
    found = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=True, timeout=30, capture_output=True, text=True
    )
    assert found.stdout + found.stderr == ""
