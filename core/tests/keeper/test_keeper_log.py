"""What a container writes is in its log: every byte, whole lines, rising times, whatever the driver does."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keeper_house import House, Watched, until

from wherry.keeper.pump import LINE_LIMIT, Cutter


@given(st.lists(st.binary(max_size=64).map(lambda b: b.replace(b"\0", b"\n") * 700), max_size=12))
def test_cutting_loses_nothing(chunks: list[bytes]) -> None:
    """Pieces joined are the stream; lines are whole or cut at the limit, wherever the chunks are cut."""
    cutter = Cutter()
    pieces = [piece for chunk in chunks for piece in cutter.cut(chunk)]
    rest = cutter.rest()
    assert b"".join(data for data, _ in pieces) + rest == b"".join(chunks)
    assert len(rest) < LINE_LIMIT and b"\n" not in rest
    for data, partial in pieces:
        if partial:
            assert len(data) == LINE_LIMIT and b"\n" not in data
        else:
            assert data.endswith(b"\n")
            assert all(len(line) < LINE_LIMIT for line in data[:-1].split(b"\n"))


@pytest.mark.parametrize(
    ("length", "pieces"),
    [(LINE_LIMIT - 1, [False]), (LINE_LIMIT, [True, False]), (40000, [True, True, False])],
)
def test_a_long_line_is_cut_as_docker_does(length: int, pieces: list[bool]) -> None:
    """A line of 16 KiB or more comes in pieces; the last one, with the newline, is not partial."""
    cutter = Cutter()
    found = list(cutter.cut(b"a\n" + b"x" * length + b"\nb\n"))
    if pieces == [False]:
        assert [partial for _, partial in found] == [False]
    else:
        assert [partial for _, partial in found] == [False, *pieces]
        assert found[-1][0].endswith(b"x" * (length % LINE_LIMIT) + b"\nb\n")


def finish(box: Watched) -> None:
    box.event("exit", timeout=60.0)
    box.keeper.finish()
    box.event("drained", timeout=20.0)
    box.event("gone")


@pytest.mark.parametrize("log", ["PlainLog", "ThreadedLog"])
def test_every_line_is_logged(house: House, log: str) -> None:
    """200,000 lines on two streams: each is there once, in order, and times rise over both."""
    script = "seq 1 100000; seq 1 100000 >&2"
    box = house.container().run("sh", "-c", script, log=log)
    finish(box)
    expected = b"".join(b"%d\n" % n for n in range(1, 100001))
    assert box.logged("stdout") == expected
    assert box.logged("stderr") == expected
    last = 0
    for stream, when, _, data in box.batches()[:-1]:
        assert stream in ("stdout", "stderr")
        assert when > last
        last = when + data.count(b"\n") - 1
    assert box.batches()[-1][0] == "closed"


def test_the_last_line_needs_no_newline(house: House) -> None:
    """It is a batch of its own, and not partial."""
    box = house.container().run("printf", "one\\ntwo")
    finish(box)
    assert [(partial, data) for _, _, partial, data in box.batches()[:-1]] == [
        (False, b"one\n"),
        (False, b"two"),
    ]


def test_a_terminal_has_one_stream(house: House) -> None:
    """Output and errors of a terminal are its stdout."""
    box = house.container().run("sh", "-c", "echo out; echo err >&2", tty=True)
    finish(box)
    assert box.logged("stdout") == b"out\r\nerr\r\n"
    assert box.logged("stderr") == b""


def test_no_log(house: House) -> None:
    """Without a log, output is read all the same, so that the container does not stop."""
    box = house.container().run("sh", "-c", "seq 1 100000", log=None)
    finish(box)


@pytest.mark.parametrize("local", ["1", "0"])
def test_a_log_that_fails(house: House, local: str) -> None:
    """It does not harm the container; what is lost is counted, and told once."""
    box = house.container()
    box.run("sh", "-c", "seq 1 50000; exit 4", log="FailingLog", log_options={"local": local})
    assert box.event("exit")["code"] == 4
    box.keeper.finish()
    counters = box.event("drained")["log"]
    box.event("gone")
    assert counters["failures"] > 0 and counters["dropped"] > 0
    assert counters["written"] + counters["dropped"] == 50000
    assert counters["written"] == box.logged().count(b"\n")
    told = [event for event in box.past if event["event"] == "log-line"]
    assert len(told) == 1 and "No space left" in told[0]["message"]


def test_a_log_that_blocks_holds_the_container_up(house: House) -> None:
    """In the mode `blocking` nothing is lost: the container waits, and all else goes on."""
    box = house.container()
    (box.directory / "block").touch()
    box.run("sh", "-c", "seq 1 100000; exec sleep 1000", log="BlockingLog", max_buffer_size=65536)
    exec_id = box.exec("sh", "-c", "exit 6")
    assert box.event("exec-exit", exec_id=exec_id)["code"] == 6
    assert box.keeper.status()["log"]["written"] < 100000
    (box.directory / "block").unlink()
    until(lambda: box.logged().endswith(b"\n100000\n"))
    os.kill(box.pid, signal.SIGKILL)
    finish(box)
    assert box.logged() == b"".join(b"%d\n" % n for n in range(1, 100001))


def test_a_log_that_blocks_may_lose_lines_instead(house: House) -> None:
    """In the mode `non-blocking` the container goes on, and what is lost is counted."""
    box = house.container()
    (box.directory / "block").touch()
    box.run(
        *("sh", "-c", "seq 1 100000; echo done >&2"),
        log="BlockingLog",
        max_buffer_size=65536,
        log_mode="non-blocking",
    )
    box.event("exit")
    (box.directory / "block").unlink()
    box.keeper.finish()
    counters = box.event("drained")["log"]
    box.event("gone")
    assert counters["dropped"] > 0
    assert counters["written"] + counters["dropped"] == 100001
    assert box.logged().count(b"\n") + box.logged("stderr").count(b"\n") == counters["written"]


def test_a_copy_does_not_wait_for_the_driver(house: House) -> None:
    """What is sent away can be read here at once, however long the driver takes."""
    box = house.container()
    (box.directory / "block").touch()
    box.run("sh", "-c", "seq 1 10; exec sleep 1000", log="BlockingLog", copy="PlainLog")
    copy = box.directory / "log-cache" / "plain.log"
    until(lambda: copy.exists() and b"\n10\n" in copy.read_bytes())
    assert box.batches() == []
    (box.directory / "block").unlink()
    os.kill(box.pid, signal.SIGKILL)
    finish(box)
    assert box.logged() == b"".join(b"%d\n" % n for n in range(1, 11))
    assert copy.read_bytes() == (box.directory / "plain.log").read_bytes()


@pytest.mark.parametrize("fail", ["open", "write"])
def test_trouble_with_the_copy_leaves_the_driver(house: House, fail: str) -> None:
    """A copy that cannot be written keeps no line from the driver, and is told once."""
    box = house.container()
    if fail == "open":
        (box.directory / "log-cache").touch()
    box.run("sh", "-c", "seq 1 50000; seq 1 50000 >&2", log="ThreadedLog", copy="FailingLog")
    finish(box)
    assert box.logged() == box.logged("stderr") == b"".join(b"%d\n" % n for n in range(1, 50001))
    (told,) = [event for event in box.past if event["event"] == "log-line"]
    assert "local copy" in told["message"]


def test_a_log_that_never_wakes_up_does_not_keep_the_keeper(house: House) -> None:
    """A sink that hangs at the end is left behind."""
    box = house.container()
    (box.directory / "block").touch()
    box.run("echo", "x", log="BlockingLog")
    box.event("exit")
    box.keeper.finish()
    box.event("drained", timeout=5.0)
    box.event("gone", timeout=5.0)


def test_imports_are_sealed(house: House) -> None:
    """A driver that imports late is refused, and the line says what to do."""
    box = house.container().run("echo", "x", log="LazyLog")
    finish(box)
    (told,) = [event for event in box.past if event["event"] == "log-line"]
    assert "xmlrpc" in told["message"] and "import it at the top" in told["message"]


def test_followers_are_told(house: House) -> None:
    """`logged` comes when there is more, often coalesced, never when nobody follows."""
    box = house.container()
    go = box.directory / "go"
    os.mkfifo(go)
    box.start("sh", "-c", f"cat {go}; exec sleep 1000")
    box.keeper.follow_log(True)
    box.keeper.release()
    with go.open("wb", buffering=0) as pipe:
        for n in range(200):
            pipe.write(b"%d\n" % n)
        event = box.event("logged")
        while event["written"] < 200:
            event = box.event("logged")
        assert len([e for e in box.past if e["event"] == "logged"]) < 200
        box.keeper.follow_log(False)
        box.keeper.status()
        pipe.write(b"more\n")
    until(lambda: box.logged().endswith(b"more\n"))
    assert box.keeper.status()["log"]["written"] == 201
    assert box.events.empty()


def test_output_held_open_by_others_is_bounded(house: House) -> None:
    """A process that left the container and keeps its output open does not keep the keeper."""
    box = house.container().run("sh", "-c", "setsid sleep 5 & echo started $!; exit 2")
    assert box.event("exit")["code"] == 2
    box.keeper.finish()
    box.event("drained", timeout=4.0)
    box.event("gone")
    assert box.logged().startswith(b"started ")
    os.kill(int(box.logged().split()[1]), signal.SIGKILL)
