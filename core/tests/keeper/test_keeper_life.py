"""From spawn to the end: exit codes, records, what a lost daemon means before and after the barrier."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from keeper_house import House, is_alive, until

from wherry.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    DeadlineExceeded,
    DriverError,
    Unavailable,
)
from wherry.keeper.exits import read_exit


def gone(path: Path) -> bool:
    return not path.exists()


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [("exit 0", 0, None), ("exit 3", 3, None), ("kill -TERM $$", 143, 15), ("kill -KILL $$", 137, 9)],
    ids=["0", "3", "SIGTERM", "SIGKILL"],
)
def test_an_exit_is_told_and_recorded(house: House, script: str, code: int, number: int | None) -> None:
    """The exit is told with Docker's code, and the record on disk says the same."""
    box = house.container().run("sh", "-c", script)
    told = box.event("exit")
    assert (told["code"], told["signal"]) == (code, number)
    record = read_exit(box.directory / "exit.json")
    assert record is not None
    assert (record.code, record.signal, record.time_ns) == (code, number, told["time_ns"])
    box.keeper.finish()
    box.event("drained")
    assert box.event("gone")["exit_seen"] is True
    assert not list((house.root / "run" / "keepers").iterdir())


def test_the_barrier(house: House) -> None:
    """Nothing of the program runs before `release`."""
    box = house.container()
    mark = box.directory / "mark"
    box.run("sh", "-c", f"touch {mark}", release=False)
    assert box.keeper.status()["phase"] == "made"
    assert not mark.exists()
    box.keeper.release()
    assert box.event("exit")["code"] == 0
    assert mark.exists()


@pytest.mark.parametrize(
    ("program", "error", "code"),
    [("no-such-program", CommandNotFound, 127), ("/etc/passwd", CommandNotExecutable, 126)],
)
def test_a_program_that_cannot_run(house: House, program: str, error: type[Exception], code: int) -> None:
    """`release` says why, the record has the code, and the clients are let go."""
    peer, attachment = house.client()
    box = house.container().run(program, release=False, attach=[attachment])
    with pytest.raises(error, match=program):
        box.keeper.release()
    record = read_exit(box.directory / "exit.json")
    assert record is not None and record.code == code
    assert peer.end() == b""
    box.keeper.finish()
    assert box.event("gone")["exit_seen"] is False
    assert [event["event"] for event in box.past] == ["gone"]


def test_a_log_that_cannot_be_opened_fails_the_start(house: House) -> None:
    """Then nothing runs, and the keeper can be let go."""
    box = house.container()
    with pytest.raises(DriverError, match="no log today"):
        box.run("sleep", "1000", log="FailingLog", log_options={"fail": "open"})
    box.keeper.finish()
    box.event("gone")


def test_a_lost_daemon_before_the_release_ends_the_container(house: House) -> None:
    """Process 1 is killed, its exit recorded with the reason, and the keeper goes."""
    box = house.container().run("sleep", "1000", release=False)
    house.leave_and_return()
    record = until(lambda: read_exit(box.directory / "exit.json"))
    assert record.code == 137 and "daemon" in record.error
    until(lambda: not is_alive(box.pid) and not is_alive(box.keeper.pid))
    assert house.adopt(box.id) is None


def test_a_lost_daemon_before_the_start(house: House) -> None:
    """A keeper without a container goes with its daemon."""
    box = house.container()
    house.leave_and_return()
    until(lambda: not is_alive(box.keeper.pid))


def test_a_container_lives_on_without_its_daemon(house: House) -> None:
    """Its output is logged meanwhile; the next daemon finds it, and it can be asked as before."""
    box = house.container()
    go = box.directory / "go"
    os.mkfifo(go)
    box.run("sh", "-c", f"echo one; cat {go}; echo three; exit 5")
    until(lambda: box.logged() == b"one\n")
    house.leave_and_return()
    go.write_bytes(b"two\n")
    again = None
    while again is None:
        again = house.adopt(box.id)
        assert again is not None or read_exit(box.directory / "exit.json") is not None
        break
    if again is not None:
        assert again.keeper.pid == box.keeper.pid
        assert again.event("exit")["code"] == 5
    record = until(lambda: read_exit(box.directory / "exit.json"))
    assert record.code == 5
    until(lambda: box.logged() == b"one\ntwo\nthree\n")


def test_an_adopted_keeper_answers(house: House) -> None:
    """Status, state and exec are there after a restart, and the old daemon's launcher stays to reap."""
    box = house.container().run("sleep", "1000")
    house.leave_and_return()
    again = house.adopt(box.id)
    assert again is not None
    assert again.keeper.status_at_hello["phase"] == "running"
    assert again.keeper.status()["state"] == {"pid": box.pid}
    exec_id = again.exec("true")
    assert again.event("exec-exit", exec_id=exec_id)["code"] == 0
    os.kill(box.pid, signal.SIGTERM)
    assert again.event("exit")["code"] == 143
    again.keeper.finish()
    assert again.event("gone")["exit_seen"] is True
    until(lambda: not is_alive(house.launchers[0]))


def test_the_newest_daemon_is_the_daemon(house: House) -> None:
    """A second connection takes over, and the first is told."""
    box = house.container().run("sleep", "1000")
    second = house.adopt(box.id)
    assert second is not None
    second.event("replaced")
    with pytest.raises(Unavailable):
        box.keeper.status()
    assert second.keeper.status()["phase"] == "running"


def test_a_stale_socket_is_removed(house: House) -> None:
    """A keeper that was killed leaves a socket; nobody answers, so it is removed."""
    box = house.container().run("sleep", "1000")
    socket = house.root / "run" / "keepers" / f"{box.id}.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
    os.kill(box.keeper.pid, signal.SIGKILL)
    box.event("gone")
    assert socket.exists()
    assert house.adopt(box.id) is None
    assert gone(socket)


def test_a_killed_keeper_is_told_and_takes_its_container_along(house: House) -> None:
    """SIGKILL to the keeper: `gone` without an exit, and process 1 ends."""
    box = house.container().run("sleep", "1000")
    os.kill(box.keeper.pid, signal.SIGKILL)
    assert box.event("gone")["exit_seen"] is False
    until(lambda: not is_alive(box.pid))
    with pytest.raises(Unavailable, match="gone"):
        box.keeper.status()


def test_a_start_that_hangs_can_be_abandoned(house: House) -> None:
    """The caller's deadline ends the wait; `abandon` ends the keeper, and whoever waits fails at once."""
    box = house.container()
    with pytest.raises(DeadlineExceeded, match="start"):
        box.run("true", options={"hang": "1000"}, deadline=0.2)
    failures: list[Exception] = []

    def ask() -> None:
        try:
            box.keeper.status(deadline=30.0)
        except Unavailable as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    box.keeper.abandon()
    asking.join(5.0)
    assert not asking.is_alive() and len(failures) == 1
    assert not is_alive(box.keeper.pid)
    assert gone(house.root / "run" / "keepers" / f"{box.id}.sock")


def test_unknown_and_untimely_verbs_are_answered(house: House) -> None:
    """An error, not silence."""
    box = house.container()
    with pytest.raises(Conflict, match="release"):
        box.keeper.release()
    with pytest.raises(Exception, match="does not know the verb"):
        box.keeper._ask("dance", (), 5.0)
    box.run("sleep", "1000")
    with pytest.raises(Conflict, match="start"):
        box.start("true")


def test_held_descriptors_are_lent_and_closed_at_the_end(house: House) -> None:
    """What is held is open until the keeper goes; the daemon gets copies of it."""
    ours, theirs = os.pipe()
    box = house.container().run("sleep", "1000", held=[theirs])
    os.close(theirs)
    (copy,) = box.keeper.held()
    os.write(copy, b"x")
    os.close(copy)
    assert os.read(ours, 10) == b"x"
    os.kill(box.pid, signal.SIGKILL)
    box.event("exit")
    box.keeper.finish()
    box.event("gone")
    assert os.read(ours, 10) == b""
    os.close(ours)


def test_without_finish_the_keeper_goes_after_a_while(house: House) -> None:
    """A daemon that forgets to finish does not keep it for ever."""
    box = house.container().run("true")
    box.event("drained")
    box.event("gone", timeout=8.0)


def test_descriptors_beyond_one_message(house: House) -> None:
    """A message takes more descriptors than the kernel sends at once."""
    ends = [os.open("/dev/null", os.O_RDONLY) for _ in range(600)]
    box = house.container().run("sleep", "1000", held=ends)
    lent = box.keeper.held()
    assert len(lent) == 600
    for end in (*ends, *lent):
        os.close(end)


def test_a_start_that_is_given_up(house: House) -> None:
    """`finish` before the release ends what waits at the barrier, and tells no exit."""
    peer, attachment = house.client()
    box = house.container().run("sleep", "1000", release=False, attach=[attachment])
    box.keeper.finish()
    box.event("gone")
    assert [event["event"] for event in box.past] == ["gone"]
    assert peer.end() == b""
    until(lambda: not is_alive(box.pid))


def test_a_launcher_that_died_is_replaced(house: House) -> None:
    """Its keepers live on, and the next container gets a keeper of a new one."""
    box = house.container().run("sleep", "1000")
    os.kill(house.keepers.launcher_pid, signal.SIGKILL)
    until(lambda: not is_alive(house.launchers[0]))
    other = house.container().run("sh", "-c", "exit 3")
    house.launchers.append(house.keepers.launcher_pid)
    assert other.event("exit")["code"] == 3
    assert box.keeper.status()["phase"] == "running"


def test_a_keeper_that_was_forked_ahead_and_killed_is_replaced(house: House) -> None:
    """Nobody notices."""
    house.container()
    launcher = house.keepers.launcher_pid

    def children() -> set[int]:
        with open(f"/proc/{launcher}/task/{launcher}/children") as file:
            return {int(pid) for pid in file.read().split()}

    for pid in until(lambda: children() - house.pids):
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not is_alive(pid))
    assert house.container().run("sh", "-c", "exit 3").event("exit")["code"] == 3


def test_an_event_that_the_engine_cannot_take_is_told_again(house: House) -> None:
    """It is not seen until somebody has dealt with it."""
    box = house.container()
    house.trouble = RuntimeError("the disk is full")
    box.run("sleep", "1000")
    exec_id = box.exec("sh", "-c", "exit 4")
    until(lambda: "code" in box.keeper.status()["execs"].get(exec_id, {}))
    house.leave_and_return()
    house.trouble = None
    again = house.adopt(box.id)
    assert again is not None
    assert again.event("exec-exit", exec_id=exec_id)["code"] == 4


def test_many_at_once(house: House) -> None:
    """Fifty containers from ten threads, each with its own exit code."""
    codes: dict[int, int] = {}

    def some(first: int) -> None:
        for code in range(first, first + 5):
            box = house.container().run("sh", "-c", f"exit {code}", log=None)
            codes[code] = box.event("exit")["code"]
            box.keeper.finish()
            box.event("gone")

    threads = [threading.Thread(target=some, args=(n * 5,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert codes == {code: code for code in range(50)}
