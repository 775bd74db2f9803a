"""What daemon, launcher and keeper say to each other: messages, their values and their JSON.

A new container:

    daemon                         launcher                        keeper
      │ ── warm (drivers) ───────────▶ │
      │ ◀───────────────────── ready ─ │ ── forks one ahead ────────▶ │ waits
      │ ── its end of a socketpair ──▶ │ ── hands it over ──────────▶ │
      │ ◀─────────────────────── pid ─ │                              │
      │ ── be {id, directory} ──────────────────────────────────────▶ │ listens on <directory>/<id>.sock
      │ ◀────────────────────────────────────────────────────── hello │
      │ ── start {setup} + descriptors ─────────────────────────────▶ │ makes process 1, which waits at its barrier
      │ ◀───────────────────────────────── answer {pid, state, …} ─── │
      │    (records *starting*)                                       │
      │ ── release ─────────────────────────────────────────────────▶ │ opens the barrier
      │ ◀───────────────────────────────────────────────── answer ─── │     from here on it needs no daemon
      ┆                                                               ┆
      │ ◀──────────────────────────────────────────────── event exit  │ exit record is written
      │ ── seen ────────────────────────────────────────────────────▶ │ attached clients are let go
      │ ── finish ──────────────────────────────────────────────────▶ │
      │ ◀───────────────────────────────────────────── event drained  │ closes what it holds, removes its socket, ends

A new daemon connects to <directory>/<id>.sock: the keeper says hello first, repeats the events that nobody has seen,
and closes the older connection after telling it `replaced`. If the last connection ends before `release`, the keeper
kills what it started.

A request is `{"verb", "call", …}`. Its answer carries the same number: `{"answer", "value"}` or `{"answer", "error"}`.
A request without `call` is not answered. An unknown verb is answered with an error. Events that must not be missed
carry `seen`, a number that the daemon says back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from wherry.plugins import Resolved
from wherry.spec.command import Command, Descriptor, Process
from wherry.spec.log import LogContext

PROTOCOL: Final = (1, 0)
"""A change that an older peer would misunderstand raises the first number; a daemon speaks the last two of those."""

MESSAGE_LIMIT: Final = 16 << 20
"""Bytes; a command may carry a seccomp profile."""

UNREAD_LIMIT: Final = 4 << 20
"""Bytes that a keeper keeps for a daemon that does not read, before it gives the connection up."""

Phase = Literal["waiting", "made", "running", "draining", "failed"]

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """What the launcher prepares once, so that no keeper has to: drivers imported and made, in this order."""

    engine_id: str
    cgroup_parent: str
    version: str = ""
    """Of the code that the launcher and its keepers have; `Keepers` fills it in."""
    exec_drivers: tuple[Resolved, ...] = ()
    log_drivers: tuple[Resolved, ...] = ()
    extensions: tuple[Resolved, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """An attached client, as it travels: `wherry.spec.frontend.Attachment` without what the engine alone needs."""

    descriptor: Descriptor
    """A position among the message's descriptors."""
    early: bytes = b""
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    detach_keys: str = ""
    multiplexed: bool = True
    hold: bool = False
    """Keep its output until `attach-go`: the daemon sends it first what was logged before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What `attach` with `hold` answers: the log's last time when the client came in, and what each stream has said
    since its last whole line; what comes later is kept for the client."""

    client: int
    last_ns: int
    stdout: bytes = b""
    stderr: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the keeper takes what comes for a port that the firewall cannot lead to the container."""

    address: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A port of the host that the container has. `name` tells it from its others: `tcp [::]:80`."""

    name: str
    protocol: str
    descriptor: Descriptor
    """A position among the message's descriptors: a bound socket, held until the end."""
    target: Target | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NameServer:
    """What the keeper answers for at 127.0.0.11 of its container's network, and whom it asks about all else."""

    udp: Descriptor = -1
    """Positions among the message's descriptors: bound sockets, and the network namespace. -1: those that it has."""
    tcp: Descriptor = -1
    sandbox: Descriptor = -1
    pages: tuple[str, ...] = ()
    """Files of names, `wherry.dns.directory`, one for each network, in the container's order."""
    links: Mapping[str, str] = field(default_factory=dict)
    """What only this container calls others: alias → container's id."""
    servers: tuple[str, ...] = ()
    """Asked from the container's network; empty: those of `host_file`, asked from the host's."""
    host_file: str = ""
    outward: bool = True
    """Whether the host's servers may be asked: not for a container that has no way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that a keeper needs for its container. Descriptors are positions among those sent along."""

    command: Command
    exec_driver: Resolved
    log_driver: Resolved | None = None
    """None: nothing is logged."""
    log_context: LogContext
    copy_driver: Resolved | None = None
    """Keeps a copy of the log, where `log_driver` cannot read back; with `copy_context`."""
    copy_context: LogContext | None = None
    log_mode: Literal["blocking", "non-blocking"] = "blocking"
    """What happens when a sink that is not local falls behind: the container waits, or lines are dropped."""
    max_buffer_size: int = 1 << 20
    """Bytes that wait for such a sink at most."""
    open_stdin: bool = False
    stdin_once: bool = False
    exit_path: Path
    """Where the exit record goes: written aside and renamed, not synced."""
    attachments: tuple[Attached, ...] = ()
    """Clients that attached before the start: they miss nothing."""
    held: tuple[Descriptor, ...] = ()
    """Held open until the end, for the container's sake: the root's lease."""
    published: tuple[Published, ...] = ()
    """More of them may follow by the verb `publish`: a message carries only so many descriptors."""
    name_server: NameServer | None = None
    """None: containers of its networks have no names."""
    client_patience: float = 60.0
    """Seconds that a client from before the start may leave its output unread, holding the container up, before it
    is cut. One that attached later has a tenth of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What `start` answers: process 1 in the host's pid namespace, its start time (clock ticks since boot: field 22
    of /proc/<pid>/stat), and the driver's `state`."""

    pid: int
    start_time: int
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """How process 1 ended: 128 + `signal` is the code of a signal. `boot_id` says which boot's clock and pids."""

    code: int
    signal: int | None
    time_ns: int
    boot_id: str
    oom_killed: bool = False
    error: str = ""
    """Set where the program never ran: why."""


def to_json(value: Any) -> bytes:
    """A message of dicts, dataclasses, bytes (base64) and paths."""
    return _encode(value)


def from_json(body: bytes) -> dict[str, Any]:
    """A message; ValueError if it is none."""
    value = msgspec.json.decode(body)
    if not isinstance(value, dict):
        raise ValueError("a message is a JSON object")
    return value


def parse(value: Any, kind: type[Value]) -> Value:
    """The typed value that `to_json` wrote; ValueError says where it is wrong."""
    return msgspec.convert(value, kind, dec_hook=_decoded)


def rehearse() -> None:
    """Send and receive one of everything: what the JSON library learns about our types is learnt before the fork.

    And before there are threads: several that make it learn one type at the same time end the process.
    """
    resolved = Resolved(kind="exec", name="", module="", attribute="")
    context = LogContext(container_id="", container_name="", directory=Path())
    setup = Setup(
        command=Command(id="", rootfs=0, process=Process(argv=("",))),
        exec_driver=resolved,
        log_driver=resolved,
        log_context=context,
        copy_driver=resolved,
        copy_context=context,
        exit_path=Path(),
        attachments=(Attached(descriptor=0),),
    )
    record = ExitRecord(code=0, signal=None, time_ns=0, boot_id="")
    running = Running(pid=0, start_time=0)
    for value in (setup, Attached(descriptor=0), Process(argv=("",)), record, running):
        parse(from_json(to_json(value)), type(value))
    published = Published(name="", protocol="", descriptor=0, target=Target(address="", port=0))
    message = from_json(to_json({"published": (published,), "targets": {"": published.target}}))
    parse(message["published"], tuple[Published, ...])
    parse(message["targets"], dict[str, Target])
    parse(from_json(to_json({"it": NameServer()}))["it"], NameServer)


def _encoded(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a message cannot carry a {type(value).__name__}")


def _decoded(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"{value!r} is no {kind.__name__}")


_encode = msgspec.json.Encoder(enc_hook=_encoded).encode
