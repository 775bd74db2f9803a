"""The journal of events: order, filters, readers that are slow."""

from __future__ import annotations

import threading

from wherry.events import Events
from wherry.undo import Undo


def test_events_come_once_in_order_whatever_the_threads() -> None:
    events = Events()
    stream = events.stream()
    threads = [
        threading.Thread(target=lambda: [events.publish("container", "start", "x") for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = stream.read()
    assert seen is not None
    assert [e.sequence for e in seen] == list(range(1, 801))
    assert [e.time_ns for e in seen] == sorted({e.time_ns for e in seen})
    assert stream.read() == []


def test_a_reader_that_fell_behind_is_cut_not_thinned() -> None:
    events = Events(capacity=10)
    stream = events.stream()
    events.publish("container", "create", "x")
    assert stream.read()
    for _ in range(11):
        events.publish("container", "start", "x")
    assert stream.read() is None


def test_since_until_and_filters() -> None:
    events = Events()
    first = events.publish("container", "create", "abc", {"name": "web", "image": "busybox", "k": "v"})
    events.publish("network", "connect", "n1", {"name": "bridge"})
    last = events.publish("container", "die", "abc", {"name": "web", "exitCode": "1"})

    def of(**filters: list[str]) -> list[str]:
        read = events.stream(since_ns=0, filters=filters).read() or []
        return [e.action for e in read]

    assert of(type=["container"]) == ["create", "die"]
    assert of(container=["web"], event=["die"]) == ["die"]
    assert of(image=["busybox"]) == ["create"]
    assert of(label=["k=v"]) == ["create"]
    bounded = events.stream(since_ns=first.time_ns, until_ns=last.time_ns - 1)
    assert [e.action for e in bounded.read() or []] == ["create", "connect"]
    assert bounded.read() is None


def test_undo_runs_backwards_and_keeps_the_first_error() -> None:
    done: list[int] = []

    def bad() -> None:
        raise OSError("second")

    try:
        with Undo() as undo:
            undo.add(done.append, 1)
            undo.add(bad)
            undo.add(done.append, 2)
            raise ValueError("first")
    except ValueError as error:
        assert str(error) == "first"
    assert done == [2, 1]
    with Undo() as undo:
        undo.add(done.append, 3)
        undo.keep()
    assert done == [2, 1]
