"""The journald driver, held to the contract of log drivers, with a real systemd-journald at the other end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import InvalidRequest
from wherry.spec.log import LogContext
from wherry.testing.log import LogDriverContract, MakeContext, Writer, context_factory, eventually
from wherry_journald_log import JournaldLog
from wherry_journald_log.options import Options


def driver_of(journal: Any) -> JournaldLog:
    return JournaldLog(Options(socket=str(journal.socket)))


@pytest.fixture
def context(tmp_path: Path) -> MakeContext:
    return context_factory(tmp_path)


class TestJournald(LogDriverContract):
    @pytest.fixture
    def driver(self, journal: Any) -> JournaldLog:
        self.journal = journal
        return driver_of(journal)

    def received(self, driver: JournaldLog, context: LogContext) -> Sequence[bytes]:
        return [entry["MESSAGE"] for entry in self.journal.entries(context.container_id)]

    def stored(self, data: bytes) -> bytes:
        return data.removesuffix(b"\n")


def test_the_fields_of_an_entry(journal: Any, context: MakeContext) -> None:
    """Whose line it is, by Docker's names; labels and variables that were asked for; priority by stream."""
    made = replace(
        context(tag="{{.Name}}/{{.ID}}", labels="com.example.Role", env_regex="^A"),
        labels={"com.example.Role": "front", "other": "x"},
        env=("AREA=north\nand south", "HOME=/"),
    )
    writer = Writer(driver_of(journal).open(made))
    writer.write("stdout", b"hello\n")
    writer.write("stderr", b"oops\n")
    writer.batch("stdout", b"x" * 16384, partial=True)
    writer.sink.close()
    eventually(lambda: len(journal.entries(made.container_id)) == 3)
    first, second, third = journal.entries(made.container_id)
    expected = {
        "MESSAGE": b"hello",
        "PRIORITY": "6",
        "CONTAINER_ID": made.container_id[:12],
        "CONTAINER_NAME": made.container_name,
        "CONTAINER_TAG": f"{made.container_name}/{made.container_id[:12]}",
        "SYSLOG_IDENTIFIER": f"{made.container_name}/{made.container_id[:12]}",
        "IMAGE_NAME": "busybox",
        "COM_EXAMPLE_ROLE": "front",
        "AREA": "north\nand south",
    }
    assert {name: first.get(name) for name in expected} == expected
    assert not {"OTHER", "HOME", "CONTAINER_PARTIAL_MESSAGE"} & set(first)
    assert (second["MESSAGE"], second["PRIORITY"]) == (b"oops", "3")
    assert third["CONTAINER_PARTIAL_MESSAGE"] == "true"


def test_nothing_is_lost_while_the_journal_is_away(late_journal: Any, context: MakeContext) -> None:
    """Lines written while it is away arrive when it is back, once and in order."""
    made = context()
    sink = driver_of(late_journal).open(made)
    writer = Writer(sink)
    done = threading.Event()

    def write() -> None:
        for number in range(100):
            writer.write("stdout", b"%d\n" % number)
        done.set()

    writing = threading.Thread(target=write)
    writing.start()
    assert not done.wait(0.2)
    late_journal.start()
    assert done.wait(20)
    writing.join()
    sink.close()
    eventually(lambda: len(late_journal.entries(made.container_id)) == 100)
    lines = [entry["MESSAGE"] for entry in late_journal.entries(made.container_id)]
    assert lines == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize(("option", "value"), [("tag", "{{.Nope}}"), ("env-regex", "("), ("socket", "/x")])
def test_options_that_make_no_sense(option: str, value: str) -> None:
    """They are refused by name when a container is created."""
    with pytest.raises(InvalidRequest, match=option):
        JournaldLog().check({option: value})
