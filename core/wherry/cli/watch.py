"""Verbs that print what comes: `logs`, `events`, `stats`."""

from __future__ import annotations

import json
import re
import time
from typing import Annotated, Any

import typer

from wherry.cli import output, streams
from wherry.cli.connection import part
from wherry.cli.flags import flag
from wherry.cli.session import Session
from wherry.cli.template import Template
from wherry.errors import InvalidRequest
from wherry.quantities import human_size, parse_duration

Since = Annotated[str, flag("--since", help="From then on: a time, or how long ago (10m)")]
Until = Annotated[str, flag("--until", help="Up to then: a time, or how long ago (10m)")]


def logs(
    session: Session,
    container: Annotated[str, typer.Argument(metavar="CONTAINER")],
    follow: Annotated[bool, flag("-f", "--follow", help="Go on as it writes")] = False,
    tail: Annotated[str, flag("-n", "--tail", help="How many lines from the end, or all")] = "all",
    timestamps: Annotated[bool, flag("-t", "--timestamps", help="Show times")] = False,
    details: Annotated[bool, flag("--details", help="Show what the log driver adds")] = False,
    since: Since = "",
    until: Until = "",
) -> int:
    client = session.client
    path = f"/containers/{part(container)}"
    tty = client.call("GET", f"{path}/json")["Config"]["Tty"]
    query = {
        "stdout": True,
        "stderr": True,
        "follow": follow,
        "tail": tail,
        "timestamps": timestamps,
        "details": details,
        "since": _time(since),
        "until": _time(until),
    }
    streams.show(client.open("GET", f"{path}/logs", query).chunks(), framed=not tty)
    return 0


def _time(text: str) -> str:
    """Seconds since the epoch for the API, of a time or an age."""
    if not text or re.fullmatch(r"\d+(\.\d+)?", text):
        return text
    if re.fullmatch(r"(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+", text):
        moment = time.time_ns() - parse_duration(text)
        return f"{moment // 10**9}.{moment % 10**9:09d}"
    whole = text if "T" in text else f"{text}T00:00:00"
    whole += ":00" if whole.count(":") == 1 else ""
    if not re.search(r"(Z|[+-]\d\d:\d\d)$", whole):
        whole += time.strftime("%z")[:3] + ":" + time.strftime("%z")[3:]
    try:
        return f"{output.seconds_of(whole):.9f}"
    except ValueError:
        raise InvalidRequest(
            f'invalid time "{text}": write 2015-02-03T04:05:06, seconds since 1970, or 10m'
        ) from None


def events(
    session: Session,
    since: Since = "",
    until: Until = "",
    filter: Annotated[list[str] | None, flag("-f", "--filter", help="name=value")] = None,
    format: Annotated[str, flag("--format", help="json or a Go template")] = "",
) -> int:
    query = {"since": _time(since), "until": _time(until), "filters": output.filters(filter or [])}
    template = Template(format) if format not in ("", "json") else None
    for event in session.client.open("GET", "/events", query).values():
        if template:
            print(template.render(event), flush=True)
        else:
            print(json.dumps(event) if format == "json" else _event(event), flush=True)
    return 0


def _event(event: dict[str, Any]) -> str:
    """`2015-02-03T04:05:06.000000007+01:00 container start 0a1b… (image=busybox, name=x)`."""
    nanoseconds = event.get("timeNano") or event["time"] * 10**9
    local = time.localtime(nanoseconds // 10**9)
    zone = time.strftime("%z", local)
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{nanoseconds % 10**9:09d}{zone[:3]}:{zone[3:]}"
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    said = ", ".join(f"{name}={attributes[name]}" for name in sorted(attributes))
    line = f"{when} {event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    return f"{line} ({said})" if said else line


_TITLES = {
    "Container": "CONTAINER ID", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %",
    "NetIO": "NET I/O", "BlockIO": "BLOCK I/O",
}  # fmt: skip


def stats(
    session: Session,
    containers: Annotated[list[str] | None, typer.Argument(metavar="[CONTAINER]…")] = None,
    all: Annotated[bool, flag("-a", "--all", help="Also those that do not run")] = False,
    no_stream: Annotated[bool, flag("--no-stream", help="Only once")] = False,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Do not shorten ids")] = False,
    format: Annotated[str, flag("--format", help="table, json or a Go template")] = "",
) -> int:
    from wherry.cli.listing import show

    client = session.client
    columns = ["Container", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"]
    before: dict[str, dict[str, Any]] = {}
    while True:
        names = containers or [each["Id"] for each in client.call("GET", "/containers/json", {"all": all})]
        now = {}
        for name in names:
            query = {"stream": "0", "one-shot": "1" if name in before else ""}
            now[name] = client.call("GET", f"/containers/{part(name)}/stats", query)
        if not no_stream:
            print("\x1b[2J\x1b[H", end="")
        show([_usage(now[n], before.get(n), no_trunc) for n in names], columns, _TITLES, format=format)
        if no_stream:
            return 0
        before = now
        time.sleep(1)


def _usage(now: dict[str, Any], before: dict[str, Any] | None, full: bool) -> dict[str, str]:
    memory = now.get("memory_stats") or {}
    raw = memory.get("stats") or {}
    used = memory.get("usage", 0) - (raw.get("total_inactive_file") or raw.get("inactive_file") or 0)
    limit = memory.get("limit", 0)
    networks = (now.get("networks") or {}).values()
    blocks = (now.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []
    moved = {
        op: sum(each["value"] for each in blocks if each["op"].lower() == op) for op in ("read", "write")
    }
    return {
        "Container": output.short_id(now.get("id", ""), full),
        "ID": now.get("id", ""),
        "Name": now.get("name", "").removeprefix("/"),
        "CPUPerc": f"{_cpu(now, before):.2f}%",
        "MemUsage": f"{human_size(max(used, 0), 1024)} / {human_size(limit, 1024)}",
        "MemPerc": f"{used / limit * 100 if limit else 0:.2f}%",
        "NetIO": " / ".join(human_size(sum(n[k] for n in networks)) for k in ("rx_bytes", "tx_bytes")),
        "BlockIO": f"{human_size(moved['read'])} / {human_size(moved['write'])}",
        "PIDs": str((now.get("pids_stats") or {}).get("current", 0)),
    }


def _cpu(now: dict[str, Any], before: dict[str, Any] | None) -> float:
    earlier = (before or {}).get("cpu_stats") or now.get("precpu_stats") or {}
    later = now.get("cpu_stats") or {}
    used = later.get("cpu_usage", {}).get("total_usage", 0) - earlier.get("cpu_usage", {}).get(
        "total_usage", 0
    )
    passed = later.get("system_cpu_usage", 0) - earlier.get("system_cpu_usage", 0)
    return used / passed * (later.get("online_cpus") or 1) * 100 if passed > 0 and used > 0 else 0.0
