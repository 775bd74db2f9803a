"""Attached clients: who gets what, who can type, who is cut, who is let go when."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from keeper_house import House, until

from wherry.errors import Conflict, InvalidRequest
from wherry.keeper.attach import DetachKeys, parse_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [("", b"\x10\x11"), ("ctrl-a,x", b"\x01x"), ("ctrl-[", b"\x1b"), ("ctrl-_", b"\x1f"), ("DEL", b"\x7f")],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    """Docker's names of keys."""
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", ",", "é"])
def test_bad_detach_keys(text: str) -> None:
    """Anything else is refused by name."""
    with pytest.raises(InvalidRequest, match="detach keys"):
        parse_keys(text)


@pytest.mark.parametrize(
    ("typed", "passed", "detached"),
    [
        ([b"ls\n"], b"ls\n", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"\x10", b"\x11"], b"", True),
        ([b"\x10x\x10", b"\x10\x11"], b"\x10x\x10", True),
        ([b"\x11\x10"], b"\x11", False),
    ],
)
def test_scanning_for_detach_keys(typed: list[bytes], passed: bytes, detached: bool) -> None:
    """What may be their beginning is held back until it is known."""
    keys, got, done = DetachKeys(b"\x10\x11"), b"", False
    for data in typed:
        part, done = keys.scan(data)
        got += part
    assert (got, done) == (passed, detached)


def test_clients_from_before_the_start_miss_nothing(house: House) -> None:
    """Two clients, each with all of both streams, then the end, at once after the exit."""
    peers, attachments = zip(*(house.client() for _ in range(2)), strict=True)
    box = house.container().run("sh", "-c", "seq 1 20000; echo err >&2", attach=attachments)
    for peer in peers:
        peer.read_on()
    box.event("exit")
    for peer in peers:
        out, err = peer.streams(2.0)
        assert out == b"".join(b"%d\n" % n for n in range(1, 20001))
        assert err == b"err\n"
    assert box.logged() == b"".join(b"%d\n" % n for n in range(1, 20001))


def test_a_client_chooses_its_streams(house: House) -> None:
    """Only stdout, only stderr."""
    (one, first), (two, second) = house.client(stderr=False), house.client(stdout=False)
    house.container().run("sh", "-c", "echo out; echo err >&2", attach=[first, second])
    assert one.streams() == (b"out\n", b"")
    assert two.streams() == (b"", b"err\n")


def test_input_flows_and_its_end_ends_it(house: House) -> None:
    """`docker run -i`: early bytes, what is typed, and the end of file on half-close; output flows on to the end."""
    peer, attachment = house.client(stdin=True, early=b"early ")
    box = house.container()
    box.run(*("sh", "-c", "cat; echo; echo over"), attach=[attachment], open_stdin=True, stdin_once=True)
    data = b"typed " * 100000
    peer.read_on()
    peer.socket.sendall(data)
    peer.socket.shutdown(socket.SHUT_WR)
    assert peer.streams() == (b"early " + data + b"\nover\n", b"")
    assert box.event("exit")["code"] == 0


def test_a_client_that_goes_away_ends_the_input_too(house: House) -> None:
    """With stdin_once, nobody else will type."""
    peer, attachment = house.client(stdin=True)
    box = house.container().run(
        "sh", "-c", "cat >/dev/null; exit 9", attach=[attachment], open_stdin=True, stdin_once=True
    )
    peer.socket.close()
    assert box.event("exit")["code"] == 9


def test_input_stays_open_for_others(house: House) -> None:
    """Without stdin_once, a client's end of input is its own affair; it still gets the output."""
    one, first = house.client(stdin=True)
    box = house.container().run("head", "-n1", attach=[first], open_stdin=True)
    one.socket.shutdown(socket.SHUT_WR)
    two, second = house.client(stdin=True)
    box.keeper.attach(second)
    two.socket.sendall(b"hello\n")
    assert one.streams() == (b"hello\n", b"")
    assert two.streams() == (b"hello\n", b"")


def test_nobody_types_into_a_closed_stdin(house: House) -> None:
    """Without open_stdin the program reads the end of file."""
    peer, attachment = house.client(stdin=True)
    box = house.container().run("cat", attach=[attachment])
    assert box.event("exit")["code"] == 0
    assert peer.streams() == (b"", b"")


def test_input_that_is_not_read_waits(house: House) -> None:
    """A program that does not read makes its client wait, and gets all of it later."""
    peer, attachment = house.client(stdin=True)
    box = house.container()
    go = box.directory / "go"
    os.mkfifo(go)
    box.run("sh", "-c", f"cat {go}; wc -c", attach=[attachment], open_stdin=True, stdin_once=True)
    peer.socket.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += peer.socket.send(bytes(65536))
            assert sent < 16 << 20
            box.keeper.status()
    go.write_bytes(b"")
    peer.socket.setblocking(True)
    peer.socket.sendall(bytes(1 << 20))
    peer.socket.shutdown(socket.SHUT_WR)
    assert peer.streams()[0].strip() == str(sent + (1 << 20)).encode()


def test_a_client_that_reads_nothing_is_cut(house: House) -> None:
    """It holds the container up no longer than its patience; the log and the other client have everything."""
    lazy, first = house.client()
    busy, second = house.client()
    box = house.container()
    box.run("sh", "-c", "seq 1 300000; exit 7", attach=[first, second], client_patience=0.3)
    busy.read_on()
    assert box.event("exit")["code"] == 7
    expected = b"".join(b"%d\n" % n for n in range(1, 300001))
    assert busy.streams()[0] == expected
    assert box.logged() == expected
    assert any("read nothing" in str(event.get("message")) for event in box.past)
    assert len(lazy.end()) < len(expected)


def test_a_slow_client_is_not_cut(house: House) -> None:
    """One that reads, if late, gets everything, also after the exit."""
    slow, attachment = house.client()
    box = house.container().run("sh", "-c", "seq 1 300000", attach=[attachment], client_patience=5.0)
    until(lambda: box.keeper.status()["log"]["written"] > 10000)
    assert box.keeper.status()["log"]["written"] < 300000
    assert slow.streams()[0] == b"".join(b"%d\n" % n for n in range(1, 300001))


def test_output_waits_for_a_client_after_the_exit(house: House) -> None:
    """What is left in the socket's buffers at the exit reaches a client that reads later."""
    slow, attachment = house.client()
    box = house.container().run("head", "-c", "300000", "/dev/zero", attach=[attachment])
    box.event("exit")
    box.keeper.finish()
    box.event("drained")
    assert len(slow.streams()[0]) == 300000
    box.event("gone")


def test_a_client_that_leaves_is_forgotten(house: House) -> None:
    """Ten thousand clients that come and go leave nothing behind."""
    box = house.container().run("sleep", "1000")
    fds = f"/proc/{box.keeper.pid}/fd"
    before = len(os.listdir(fds))
    for _ in range(300):
        peer, attachment = house.client()
        box.keeper.attach(attachment)
        peer.socket.close()
    until(lambda: len(os.listdir(fds)) == before)


def test_attach_to_what_has_ended(house: House) -> None:
    """Refused, and the client's socket is closed."""
    box = house.container().run("true")
    box.event("exit")
    peer, attachment = house.client()
    with pytest.raises(Conflict, match="not running"):
        box.keeper.attach(attachment)
    assert peer.end() == b""


def test_a_terminal(house: House) -> None:
    """One raw stream, a size that changes, keys that detach and end nothing."""
    peer, attachment = house.client(stdin=True, multiplexed=False)
    box = house.container()
    box.run(
        *(
            "sh",
            "-c",
            "stty -echo; trap 'stty size' WINCH; stty size; while :; do read x && echo got $x; done",
        ),
        tty=True,
        open_stdin=True,
        attach=[attachment],
        console_size=(11, 22),
    )
    peer.read_on()
    until(lambda: peer.received == b"11 22\r\n")
    box.keeper.resize(33, 44)
    peer.socket.sendall(b"\n")
    until(lambda: b"33 44\r\n" in peer.received)
    peer.socket.sendall(b"hello\n")
    until(lambda: b"got hello\r\n" in peer.received)
    peer.socket.sendall(b"bye\n\x10\x11")
    box.event("detached")
    peer.end()
    until(lambda: b"got bye" in box.logged())
    assert box.keeper.status()["phase"] == "running"


def test_the_end_of_input_means_nothing_to_a_terminal(house: House) -> None:
    """Docker's semantics: the program goes on, and its output still comes."""
    peer, attachment = house.client(stdin=True, multiplexed=False)
    box = house.container()
    box.run("cat", tty=True, open_stdin=True, stdin_once=True, attach=[attachment])
    peer.socket.shutdown(socket.SHUT_WR)
    box.keeper.status()
    other, second = house.client(stdin=True, multiplexed=False)
    box.keeper.attach(second)
    other.socket.sendall(b"x\n\x04")
    assert box.event("exit")["code"] == 0
    assert peer.end() == other.end() == b"x\r\nx\r\n"


def test_a_size_before_the_start_is_remembered(house: House) -> None:
    """Clients resize before there is a terminal."""
    box = house.container()
    box.keeper.resize(7, 8)
    box.run("stty", "size", tty=True, open_stdin=True)
    box.event("exit")
    until(lambda: box.logged() == b"7 8\r\n")


def test_a_container_that_is_killed_lets_its_clients_go(house: House) -> None:
    """The end comes at once, and only after the exit was told."""
    peer, attachment = house.client()
    box = house.container().run("sleep", "1000", attach=[attachment])
    os.kill(box.pid, signal.SIGKILL)
    assert peer.end(2.0) == b""
    assert box.events.get_nowait()["event"] == "exit"
