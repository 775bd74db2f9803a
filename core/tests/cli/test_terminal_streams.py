"""Frames, detach keys, and copying between our streams and a connection."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli import streams
from wherry.cli.connection import DaemonError
from wherry.cli.terminal import DetachKeys, parse_keys
from wherry.errors import InvalidRequest


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=30)), max_size=8),
    st.lists(st.integers(1, 20), min_size=1, max_size=20),
)
def test_frames_come_out_however_the_bytes_are_cut(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(frame(stream, text) for stream, text in frames)
    reader = streams.Frames()
    found: dict[int, bytes] = {1: b"", 2: b""}
    at, turn = 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        for stream, piece in reader.feed(data[at : at + size]):
            found[stream] += piece
        at, turn = at + size, turn + 1
    for stream in (1, 2):
        assert found[stream] == b"".join(text for which, text in frames if which == stream)


def test_what_is_no_frame_is_an_error() -> None:
    with pytest.raises(DaemonError, match="no stream of frames"):
        list(streams.Frames().feed(b"HTTP/1.1 500 "))


@pytest.mark.parametrize(
    ("text", "keys"), [("ctrl-p,ctrl-q", b"\x10\x11"), ("ctrl-@,a", b"\0a"), ("ctrl-[", b"\x1b"), ("q", b"q")]
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-aa", "alt-x", "ctrl-p,"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_keys(text)


@given(st.lists(st.binary(max_size=6), max_size=8))
def test_nothing_typed_is_lost_unless_it_detaches(pieces: list[bytes]) -> None:
    keys = DetachKeys(b"\x10\x11")
    out = b""
    whole = b"".join(pieces)
    for piece in pieces:
        data, detached = keys.feed(piece)
        out += data
        if detached:
            assert out == whole[: whole.index(b"\x10\x11")]
            return
    assert b"\x10\x11" not in whole
    assert out == whole.removesuffix(b"\x10")


@contextmanager
def standard_streams(stdin: bytes) -> Iterator[list[bytes]]:
    """Our 0, 1 and 2 are pipes for the time of the block; what was written is there afterwards, stdout then stderr."""
    saved = [os.dup(fd) for fd in range(3)]
    pipes = [os.pipe() for _ in range(3)]
    found: list[bytes] = [b"", b""]

    def feed() -> None:
        with os.fdopen(pipes[0][1], "wb") as pipe:
            pipe.write(stdin)

    def collect(which: int) -> None:
        with os.fdopen(pipes[which][0], "rb") as pipe:
            found[which - 1] = pipe.read()

    threads = [threading.Thread(target=feed), *(threading.Thread(target=collect, args=(n,)) for n in (1, 2))]
    os.dup2(pipes[0][0], 0)
    os.dup2(pipes[1][1], 1)
    os.dup2(pipes[2][1], 2)
    for fd in (pipes[0][0], pipes[1][1], pipes[2][1]):
        os.close(fd)
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        for fd, old in enumerate(saved):
            os.dup2(old, fd)
            os.close(old)
        for thread in threads:
            thread.join(10)


def test_input_and_output_flow_at_once_and_an_end_of_input_ends_only_input(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A server that echoes everything, slowly at first, and says good-bye only after our end of input."""
    ours, theirs = socket.socketpair()
    data = os.urandom(3_000_000)

    def serve() -> None:
        with theirs:
            while piece := theirs.recv(65536):
                theirs.sendall(frame(1, piece))
            theirs.sendall(frame(2, b"bye"))

    server = threading.Thread(target=serve)
    server.start()
    with capfd.disabled(), standard_streams(data) as found, ours:
        assert streams.pump(ours, frame(1, b"early:"), framed=True, stdin=True)
    server.join(10)
    assert found[0] == b"early:" + data
    assert found[1] == b"bye"


def test_detaching_leaves_while_the_other_side_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    ours, theirs = socket.socketpair()
    with capfd.disabled(), standard_streams(b"ls\n\x10\x11"), ours, theirs:
        assert not streams.pump(ours, b"", framed=False, stdin=True, keys=DetachKeys(b"\x10\x11"))
