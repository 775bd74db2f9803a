"""What a frontend is, and what it may ask of the engine.

A frontend serves clients on an address until it is told to stop; the bundled one speaks the Docker Engine API. The
engine is synchronous and thread-safe; what would wait for long is a subscription with a callback (`Future`, `Stream`),
so that no thread is blocked per client. Every method raises the errors of `wherry.errors`; the front maps class to
status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, Protocol

import msgspec

from wherry.spec.container import Config, ContainerView, Created, CreateRequest, EndpointRequest, HostConfig
from wherry.spec.exec import Stats
from wherry.spec.log import Query, Record
from wherry.spec.markers import hookspec
from wherry.spec.network import Network
from wherry.spec.storage import Change

SPEC = (1, 0)

Filters = Mapping[str, Sequence[str]]
"""`{"name": ["a", "b"], "status": ["exited"]}`: values of one key are alternatives, keys must all hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. `sequence` rises by one per event of an engine; `time_ns` since the epoch."""

    kind: str
    action: str
    subject: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    time_ns: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """What `wait` answers."""

    code: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A client that wants a process's streams.

    `descriptor` is a stream socket which the engine takes over: it writes output to it (frames of the API's stream
    format unless the process has a terminal), reads input from it, shuts its writing side at the end and closes it.
    `early` is what the front had already read behind the request.
    """

    descriptor: int
    early: bytes = b""
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    stream: bool = True
    detach_keys: str = ""
    multiplexed: bool = True
    """False: raw bytes, as a terminal has; the front asks `inspect` first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecRequest:
    """`POST /containers/{id}/exec`, parsed."""

    cmd: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    tty: bool = False
    privileged: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    console_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecView:
    """An exec as it is. `exit_code` is None until it ended; `pid` 0 until it runs."""

    id: str
    container_id: str
    request: ExecRequest
    running: bool = False
    exit_code: int | None = None
    pid: int = 0
    can_remove: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What `stats` answers for one container, with the system's CPU time (ns) taken at the same moment."""

    stats: Stats
    read_ns: int
    system_cpu: int
    online_cpus: int
    networks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStat:
    """What is at a path in a container. `mode` has the type bits of stat(2); `link_target` is where a link leads to in
    the end, "" for what is none."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str = ""


class ImageView(msgspec.Struct, frozen=True, kw_only=True):
    """An image: `id` is `sha256:…` of its configuration document; `layers` its diff ids."""

    id: str
    references: list[str] = []
    """`name:tag`, in familiar form (`busybox:latest`)."""
    digests: list[str] = []
    parent: str = ""
    created: str = ""
    size: int = 0
    config: Config = Config()
    layers: list[str] = []
    architecture: str = ""
    os: str = ""
    variant: str = ""
    author: str = ""
    comment: str = ""
    docker_version: str = ""
    history: list[dict[str, Any]] = []
    containers: int = 0
    storage_driver: str = ""
    storage_data: dict[str, str] = {}


class NetworkView(msgspec.Struct, frozen=True, kw_only=True):
    """A network with who is in it: container id → (name, endpoint id, mac, ipv4/prefix, ipv6/prefix)."""

    network: Network
    containers: dict[str, tuple[str, str, str, str, str]] = {}


class Stream(Protocol):
    """Items that come over time. `read` never blocks for new ones; `on_ready` says when to read again."""

    def read(self) -> Sequence[Any] | None:
        """Items available now, [] if none yet, None when there will be no more. May do file I/O: call it in a thread."""

    def on_ready(self, callback: Callable[[], None]) -> None:
        """Call `callback` (from any thread, quickly, once per change) when `read` has something new."""

    def close(self) -> None: ...


class Engine(Protocol):
    """The front of the house. `name` is a container's id, a unique prefix of it, or its name."""

    # containers
    def create(self, request: CreateRequest) -> Created: ...
    def start(self, name: str) -> None:
        """NotModified if it runs. StartFailed and its kin if it cannot."""

    def stop(self, name: str, timeout: float | None = None, signal: str | None = None) -> None:
        """`timeout` in seconds; None: the container's own; negative: wait for ever. NotModified if it is not running."""

    def restart(self, name: str, timeout: float | None = None, signal: str | None = None) -> None: ...
    def kill(self, name: str, signal: str = "SIGKILL") -> None:
        """`signal`: a name with or without SIG, or a number. Conflict if it is not running."""

    def pause(self, name: str) -> None: ...
    def unpause(self, name: str) -> None: ...
    def rename(self, name: str, new_name: str) -> None: ...
    def remove(self, name: str, force: bool = False, volumes: bool = False, link: bool = False) -> None: ...
    def wait(
        self, name: str, condition: Literal["not-running", "next-exit", "removed"] = "not-running"
    ) -> Future[ExitStatus]:
        """The future is done when the condition holds. The container is looked up before this returns."""

    def inspect(self, name: str) -> ContainerView: ...
    def containers(
        self, all: bool = False, filters: Filters | None = None, limit: int = 0
    ) -> list[ContainerView]:
        """Newest first. Only running ones unless `all` (or a status filter) says so."""

    def sizes(self, name: str) -> tuple[int, int]:
        """(bytes of the writable layer, bytes of the whole root file system)."""

    def resize(self, name: str, rows: int, columns: int) -> None: ...
    def attach(self, name: str, attachment: Attachment) -> None: ...
    def logs(self, name: str, query: Query, follow: bool = False) -> Stream:
        """A stream of `Record`s. Ends at the end of the log, or with `follow` when the container ends."""

    def top(self, name: str, arguments: str = "-ef") -> tuple[list[str], list[list[str]]]:
        """(titles, processes) as ps(1) prints them."""

    def changes(self, name: str) -> list[Change]: ...
    def usage(self, name: str) -> Usage: ...
    def update(self, name: str, host_config: Mapping[str, Any]) -> list[str]: ...
    def prune_containers(self, filters: Filters | None = None) -> tuple[list[str], int]: ...
    def export(self, name: str, archive: BinaryIO) -> None: ...
    def stat_path(self, name: str, path: str) -> PathStat:
        """What is at a path in the container. NotFound, InvalidRequest."""

    def archive_path(
        self, name: str, path: str, archive: BinaryIO, begin: Callable[[PathStat], object]
    ) -> None:
        """Write what is at a path as a tar; `begin` is told what that is before the first byte is written."""

    def extract(
        self, name: str, path: str, archive: BinaryIO, keep_kinds: bool = False, own: bool = False
    ) -> None:
        """Unpack a tar, perhaps compressed, into a directory of the container.

        `keep_kinds`: a directory and what is none do not replace each other. `own`: all is to be the container's user's.
        """

    # exec
    def exec_create(self, name: str, request: ExecRequest) -> str: ...
    def exec_start(
        self, exec_id: str, attachment: Attachment | None, console_size: tuple[int, int] | None = None
    ) -> None:
        """None: detached. The attachment's streams are those asked for in `exec_create`."""

    def exec_inspect(self, exec_id: str) -> ExecView: ...
    def exec_resize(self, exec_id: str, rows: int, columns: int) -> None: ...

    # images
    def images(self, all: bool = False, filters: Filters | None = None) -> list[ImageView]: ...
    def image(self, name: str) -> ImageView: ...
    def import_image(
        self, archive: BinaryIO, reference: str = "", message: str = "", changes: Sequence[str] = ()
    ) -> str:
        """`docker import`: one tar (perhaps compressed) becomes an image of one layer; answers its id."""

    def load_images(self, archive: BinaryIO) -> Iterator[str]:
        """`docker load`: docker-archive or OCI layout; yields the lines that docker prints (`Loaded image: …`)."""

    def save_images(self, names: Sequence[str], archive: BinaryIO) -> None: ...
    def tag(self, name: str, reference: str) -> None: ...
    def remove_image(self, name: str, force: bool = False, prune: bool = True) -> list[Mapping[str, str]]:
        """[{"Untagged": …}, {"Deleted": …}, …]."""

    def history(self, name: str) -> list[Mapping[str, Any]]: ...

    # networks
    def networks(self, filters: Filters | None = None) -> list[NetworkView]: ...
    def network(self, name: str) -> NetworkView: ...
    def create_network(self, network: Network) -> str: ...
    def remove_network(self, name: str) -> None: ...
    def connect(self, network: str, container: str, endpoint: EndpointRequest) -> None: ...
    def disconnect(self, network: str, container: str, force: bool = False) -> None: ...

    # the engine
    def events(
        self, since_ns: int | None = None, until_ns: int | None = None, filters: Filters | None = None
    ) -> Stream:
        """A stream of `Event`s: those since `since_ns`, then new ones until `until_ns`."""

    def info(self) -> Mapping[str, Any]:
        """API SystemInfo as a JSON value, without what only the front knows."""

    def version(self) -> str: ...
    def drivers(self, check: bool = False) -> list[Mapping[str, Any]]:
        """Every known driver: kind, name, distribution, version, entry_point, state (in use, available, broken), reason."""

    def disk_usage(self) -> Mapping[str, Any]: ...


class FrontendSpec:
    """The hooks of a frontend. Both are required."""

    @hookspec(firstresult=True)
    def serve(self, engine: Engine, addresses: Sequence[str], ready: Callable[[], None]) -> None:
        """Serve `unix://…`, `tcp://host:port` or `fd://N` addresses until `stop`; calls `ready` when listening. Since 1.0."""

    @hookspec(firstresult=True)
    def stop(self) -> None:
        """End `serve` (from another thread or a signal handler): stop accepting, let answers finish, at most 2 s. Since 1.0."""


__all__ = [
    "SPEC", "Attachment", "Change", "Config", "ContainerView", "CreateRequest", "Created", "EndpointRequest", "Engine",
    "Event", "ExecRequest", "ExecView", "ExitStatus", "Filters", "FrontendSpec", "HostConfig", "ImageView", "Network",
    "NetworkView", "PathStat", "Query", "Record", "Stats", "Stream", "Usage",
]  # fmt: skip
