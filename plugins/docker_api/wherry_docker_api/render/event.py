"""An event. Source: moby `api/types/events`, `daemon/events/events.go`."""

from __future__ import annotations

from typing import Any

from wherry.spec.frontend import Event


def event(happened: Event) -> dict[str, Any]:
    """A line of `GET /events`; `status`, `id` and `from` are what clients read before 1.22, and still do."""
    shown: dict[str, Any] = {}
    if happened.kind in ("container", "image"):
        shown["status"] = happened.action
        shown["id"] = happened.subject
    if happened.kind == "container" and happened.attributes.get("image"):
        shown["from"] = happened.attributes["image"]
    return shown | {
        "Type": happened.kind,
        "Action": happened.action,
        "Actor": {"ID": happened.subject, "Attributes": dict(happened.attributes)},
        "scope": "local",
        "time": happened.time_ns // 1_000_000_000,
        "timeNano": happened.time_ns,
    }
