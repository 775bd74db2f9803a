"""Execs: many at once, each with its streams and its exit code, none left behind."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from keeper_house import House, until

from wherry.errors import CommandNotFound, Conflict, NotFound


def test_an_exec_has_its_own_streams_and_code(house: House) -> None:
    """Its output is its client's alone, and not in the container's log."""
    box = house.container().run("sleep", "1000")
    peer, attachment = house.client(stdin=True)
    exec_id = box.exec("sh", "-c", "cat; echo err >&2; exit 8", stdin=True, attach=attachment)
    box.event("exec-start", exec_id=exec_id)
    peer.socket.sendall(b"in\n")
    peer.socket.shutdown(1)
    assert peer.streams() == (b"in\n", b"err\n")
    # The exit is seen by the daemon before its client sees the end.
    assert box.events.get_nowait() == {"event": "exec-exit", "exec_id": exec_id, "code": 8, "signal": None}
    assert box.keeper.status()["execs"] == {exec_id: {"code": 8}}
    assert box.logged() == b""


def test_an_exec_that_cannot_run_says_so_to_its_client(house: House) -> None:
    """The daemon gets the error, the client its words."""
    box = house.container().run("sleep", "1000")
    peer, attachment = house.client()
    with pytest.raises(CommandNotFound, match="nonesuch"):
        box.exec("nonesuch", attach=attachment)
    assert b"nonesuch" in peer.streams()[0]
    assert box.keeper.status()["execs"] == {}


def test_an_exec_with_a_terminal(house: House) -> None:
    """Raw, with a size of its own."""
    box = house.container().run("sleep", "1000")
    peer, attachment = house.client(stdin=True, multiplexed=False)
    exec_id = box.exec("sh", "-c", "read x; stty size", tty=True, stdin=True, attach=attachment)
    box.keeper.exec_resize(exec_id, 5, 6)
    peer.socket.sendall(b"\n")
    assert peer.end() == b"\r\n5 6\r\n"
    with pytest.raises(NotFound):
        box.keeper.exec_resize(exec_id, 5, 6)


def test_an_exec_leaves_its_children_behind(house: House) -> None:
    """A background process that has the output open does not hold the client."""
    box = house.container().run("sleep", "1000")
    peer, attachment = house.client()
    box.exec("sh", "-c", "sleep 1000 & echo $!", attach=attachment)
    child = int(peer.streams(3.0)[0])
    os.kill(child, signal.SIGKILL)


def test_a_slow_client_gets_all_of_an_exec(house: House) -> None:
    """Also what it had not read when the exec ended."""
    box = house.container().run("sleep", "1000")
    peer, attachment = house.client()
    exec_id = box.exec("seq", "1", "200000", attach=attachment)
    until(lambda: box.keeper.status()["execs"][exec_id])
    assert peer.streams()[0] == b"".join(b"%d\n" % n for n in range(1, 200001))
    box.event("exec-exit", exec_id=exec_id)


def test_exec_needs_a_running_container(house: House) -> None:
    """Neither before the release nor after the end."""
    box = house.container().run("true", release=False)
    with pytest.raises(Conflict, match="exec"):
        box.exec("true")


def test_execs_end_with_the_container(house: House) -> None:
    """The keeper does not stay for an exec."""
    box = house.container().run("sleep", "1000")
    peer, attachment = house.client()
    box.exec("sleep", "1000", attach=attachment)
    os.kill(box.pid, signal.SIGKILL)
    box.event("exit")
    box.keeper.finish()
    box.event("gone", timeout=5.0)
    assert peer.end() == b""


def test_a_storm_of_execs(house: House) -> None:
    """Two hundred from eight threads: every code, no zombie, no descriptor too many."""
    box = house.container().run("sleep", "1000")
    fds = f"/proc/{box.keeper.pid}/fd"
    box.exec("true")
    box.event("exec-exit")
    before = len(os.listdir(fds))
    wrong: list[str] = []

    def some(first: int) -> None:
        for n in range(first, first + 25):
            peer, attachment = house.client()
            box.exec("sh", "-c", f"echo {n}; exit {n % 100}", attach=attachment)
            if peer.streams() != (b"%d\n" % n, b""):
                wrong.append(f"{n}: {bytes(peer.received)!r}")

    threads = [threading.Thread(target=some, args=(25 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert wrong == []
    codes = [box.event("exec-exit")["code"] for _ in range(200)]
    assert sorted(codes) == sorted(n % 100 for n in range(200))
    children = f"/proc/{box.keeper.pid}/task/{box.keeper.pid}/children"
    with open(children) as file:
        assert file.read().split() == [str(box.pid)]
    until(lambda: len(os.listdir(fds)) == before)


def test_exits_of_execs_wait_for_the_next_daemon(house: House) -> None:
    """What ended while there was no daemon is told to the next one."""
    box = house.container()
    go = box.directory / "go"
    os.mkfifo(go)
    box.run("sleep", "1000")
    exec_id = box.exec("sh", "-c", f"cat {go}; exit 5")
    house.leave_and_return()
    go.write_bytes(b"")
    again = house.adopt(box.id)
    assert again is not None
    assert again.event("exec-exit", exec_id=exec_id)["code"] == 5
