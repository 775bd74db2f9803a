"""What happened, in order: a bounded journal with sequence numbers, and streams that follow it.

A publisher never waits for a reader. A stream keeps its place in the journal; one that fell behind by more than the
journal holds is ended, not silently thinned out: its client reconnects with `since`.
"""

from __future__ import annotations

import fnmatch
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from wherry.spec.frontend import Event, Filters

log = logging.getLogger(__name__)

CAPACITY: Final = 8192


class Events:
    """The journal of one engine. Thread-safe."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._journal: deque[Event] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self._sequence = 0
        self._last_ns = 0
        self._streams: set[EventStream] = set()
        self.observers: list[Callable[[Event], None]] = []

    def publish(
        self, kind: str, action: str, subject: str, attributes: Mapping[str, str] | None = None
    ) -> Event:
        """Append an event; its time is after every earlier one's."""
        with self._lock:
            self._sequence += 1
            self._last_ns = max(time.time_ns(), self._last_ns + 1)
            event = Event(
                kind=kind,
                action=action,
                subject=subject,
                attributes=dict(attributes or {}),
                time_ns=self._last_ns,
                sequence=self._sequence,
            )
            self._journal.append(event)
            streams = tuple(self._streams)
        for stream in streams:
            stream.wake()
        for observer in self.observers:
            try:
                observer(event)
            except Exception:
                log.exception("an observer of events failed")
        return event

    def after(self, sequence: int) -> tuple[list[Event], bool]:
        """(events later than `sequence`, whether some of them are no longer held)."""
        with self._lock:
            missing = self._sequence - sequence
            if missing <= 0:
                return [], False
            held = len(self._journal)
            newest = [self._journal[i] for i in range(max(0, held - missing), held)]
            return newest, missing > held

    @property
    def sequence(self) -> int:
        return self._sequence

    def stream(
        self, since_ns: int | None = None, until_ns: int | None = None, filters: Filters | None = None
    ) -> EventStream:
        """Those since `since_ns` that are still held, then new ones until `until_ns` (None: without end)."""
        stream = EventStream(self, since_ns, until_ns, filters or {})
        with self._lock:
            self._streams.add(stream)
            if since_ns is None:
                stream.place = self._sequence
            else:
                stream.place = self._sequence - len(self._journal)
        return stream

    def forget(self, stream: EventStream) -> None:
        with self._lock:
            self._streams.discard(stream)

    def close(self) -> None:
        """End every stream."""
        with self._lock:
            streams = tuple(self._streams)
        for stream in streams:
            stream.end()


class EventStream:
    """A reader's place in the journal; a `wherry.spec.frontend.Stream`."""

    def __init__(self, events: Events, since_ns: int | None, until_ns: int | None, filters: Filters) -> None:
        self._events = events
        self._since_ns = since_ns or 0
        self._until_ns = until_ns
        self._filters = filters
        self._callback: Callable[[], None] | None = None
        self._ended = False
        self._timer: threading.Timer | None = None
        self.place = 0
        if until_ns is not None and until_ns > time.time_ns():
            self._timer = threading.Timer((until_ns - time.time_ns()) / 1e9, self.wake)
            self._timer.daemon = True
            self._timer.start()

    def read(self) -> Sequence[Event] | None:
        if self._ended:
            return None
        reached_end = self._until_ns is not None and time.time_ns() >= self._until_ns
        events, lost = self._events.after(self.place)
        if lost and self.place:
            self.close()
            return None
        if events:
            self.place = events[-1].sequence
        wanted = [event for event in events if self._wants(event)]
        if reached_end:
            self.close()
            return wanted or None
        return wanted

    def on_ready(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        callback()

    def wake(self) -> None:
        if self._callback is not None:
            self._callback()

    def end(self) -> None:
        self._ended = True
        self.wake()

    def close(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._events.forget(self)

    def _wants(self, event: Event) -> bool:
        if event.time_ns < self._since_ns or (self._until_ns is not None and event.time_ns > self._until_ns):
            return False
        return all(_matches(event, key, values) for key, values in self._filters.items() if values)


def _matches(event: Event, key: str, values: Sequence[str]) -> bool:
    if key == "type":
        return event.kind in values
    if key in ("event", "action"):
        return any(event.action == v or event.action.partition(":")[0] == v for v in values)
    if key in ("container", "image", "network", "volume", "daemon"):
        if key == "image" and event.kind == "container":
            named = [event.attributes.get("image", "")]
        elif event.kind != key:
            return False
        else:
            named = [event.subject, event.attributes.get("name", "")]
        return any(
            name == v or (key != "image" and name.startswith(v)) or fnmatch.fnmatchcase(name, v)
            for v in values
            for name in named
            if name
        )
    if key == "label":
        return all(_has_label(event.attributes, v) for v in values)
    if key == "scope":
        return "local" in values
    return False


def _has_label(attributes: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in attributes and (not equals or attributes[name] == value)
