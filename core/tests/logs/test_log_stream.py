"""A container's log as a stream: when it ends, and when it tells that there is more."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from wherry.logs.stream import LogStream
from wherry.spec.log import Record


class Reader:
    """A reader of what a test puts in."""

    def __init__(self, *batches: list[bytes]) -> None:
        self.batches = list(batches)
        self.closed = 0
        self.time_ns = 0

    def put(self, *lines: bytes) -> None:
        self.batches.append(list(lines))

    def read(self) -> Sequence[Record]:
        assert not self.closed
        if not self.batches:
            return []
        self.time_ns += 1
        return [Record(time_ns=self.time_ns, stream="stdout", data=line) for line in self.batches.pop(0)]

    def close(self) -> None:
        self.closed += 1


def texts(records: Sequence[Record] | None) -> list[bytes] | None:
    return None if records is None else [record.data for record in records]


def test_without_following_the_end_is_the_end() -> None:
    """All that is there, then None, though the container lives."""
    stream = LogStream(Reader([b"a"], [b"b"]), follow=False, live=lambda: True)
    assert [texts(stream.read()) for _ in range(3)] == [[b"a"], [b"b"], None]
    stream.close()


def test_following_ends_with_the_container() -> None:
    """Nothing new is an empty list while the container lives, and None once it does not."""
    alive, reader = [True], Reader([b"a"])
    stream = LogStream(reader, follow=True, live=lambda: alive[0])
    assert texts(stream.read()) == [b"a"]
    assert texts(stream.read()) == []
    reader.put(b"b")
    assert texts(stream.read()) == [b"b"]
    alive[0] = False
    reader.put(b"last words")
    assert texts(stream.read()) == [b"last words"]
    assert stream.read() is None
    stream.close()


def test_last_words_between_two_questions_are_not_lost() -> None:
    """The container writes and dies between our asking the reader and our asking whether it lives."""
    reader = Reader()
    alive = [True]

    def live() -> bool:
        was = alive[0]
        if was:  # it dies right after we asked
            alive[0] = False
            reader.put(b"last words")
        return was

    stream = LogStream(reader, follow=True, live=live)
    found: list[bytes] = []
    while (records := stream.read()) is not None:
        found += texts(records) or []
    assert found == [b"last words"]


def test_a_reader_that_is_finished_ends_the_stream() -> None:
    """`--until` has passed: there is no more to wait for."""
    reader = Reader()
    reader.finished = True  # type: ignore[attr-defined]
    stream = LogStream(reader, follow=True, live=lambda: True)
    assert stream.read() is None


def test_a_reader_is_told_where_to_stop_unless_it_follows() -> None:
    """So that a container that writes faster than it is read cannot keep `docker logs` running."""
    told: list[bool] = []
    for follow in (False, True):
        reader = Reader()
        reader.stop_at_end = lambda follow=follow: told.append(follow)  # type: ignore[attr-defined]
        LogStream(reader, follow=follow, live=lambda: True)
    assert told == [False]


def test_notify_reaches_the_front() -> None:
    """Each change calls back; one that came before there was a callback is made up for."""
    calls: list[int] = []
    stream = LogStream(Reader(), follow=True, live=lambda: True)
    stream.notify()
    stream.on_ready(lambda: calls.append(1))
    assert calls == [1]
    stream.notify()
    assert calls == [1, 1]


def test_close_gives_up_the_reader_once() -> None:
    """Also twice, also by two threads, and the engine is told once."""
    reader, told = Reader([b"a"]), []
    stream = LogStream(reader, follow=True, live=lambda: True)
    stream.on_close(lambda: told.append(1))
    stream.close()
    stream.close()
    assert stream.read() is None
    assert (reader.closed, told) == (1, [1])


def test_close_does_not_wait_for_a_read_under_way() -> None:
    """A slow disk keeps the reader's thread, not the one that closes; the reader is given up when it comes back."""
    entered, leave = threading.Event(), threading.Event()

    class Slow(Reader):
        def read(self) -> Sequence[Record]:
            entered.set()
            assert leave.wait(10)
            return super().read()

    reader = Slow([b"a"])
    stream = LogStream(reader, follow=True, live=lambda: True)
    reading = threading.Thread(target=stream.read)
    reading.start()
    assert entered.wait(10)
    stream.close()
    assert reader.closed == 0
    leave.set()
    reading.join(10)
    assert reader.closed == 1
