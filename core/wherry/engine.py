"""`Engine`: the front of the house, what the API, the CLI's daemon and embedding programs call.

    from wherry import Engine

    with Engine("/var/lib/demo") as engine:
        print(engine.output("busybox", ["echo", "hello"]))

Each method is one verb of `wherry.lifecycle` or one question to a room; the contract is `wherry.spec.frontend.Engine`.
Leaving the `with` leaves containers running; the next engine on the same root adopts them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

from wherry import describe
from wherry.config import Settings
from wherry.config import load as load_settings
from wherry.container.listing import listed
from wherry.errors import NotFound, NotModified
from wherry.lifecycle import (
    connect,
    copy,
    create,
    execs,
    export,
    links,
    observe,
    pause,
    remove,
    rename,
    start,
    stop,
    streams,
    top,
    update,
    waiting,
)
from wherry.opening import close_house, open_house
from wherry.plugins import Driver
from wherry.spec.container import (
    Config,
    ContainerView,
    Created,
    CreateRequest,
    EndpointRequest,
    HostConfig,
)
from wherry.spec.frontend import (
    Attachment,
    ExecRequest,
    ExecView,
    ExitStatus,
    Filters,
    ImageView,
    NetworkView,
    PathStat,
    Stream,
    Usage,
)
from wherry.spec.log import Query
from wherry.spec.network import Network
from wherry.spec.storage import Change


class Engine:
    """A container engine on a data root. Thread-safe; one per root."""

    def __init__(
        self, root: str | os.PathLike[str] | None = None, *, settings: Settings | None = None
    ) -> None:
        """Open the engine on `root`, or as `settings` say. Root only. Conflict if another engine owns the root."""
        if settings is None:
            settings = load_settings({}, None)
        if root is not None:
            path = Path(root).absolute()
            settings = dataclasses.replace(settings, data_root=path, exec_root=path / "run", bridge="")
        self._opened = open_house(settings)
        self._house = self._opened.house

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave: containers go on. Idempotent."""
        if not self._house.closing:
            close_house(self._opened)

    # containers

    def create(self, request: CreateRequest) -> Created:
        return create.create(self._house, request)

    def start(self, name: str) -> None:
        start.start(self._house, name)

    def stop(self, name: str, timeout: float | None = None, signal: str | None = None) -> None:
        stop.stop(self._house, name, timeout, signal)

    def restart(self, name: str, timeout: float | None = None, signal: str | None = None) -> None:
        try:
            stop.stop(self._house, name, timeout, signal)
        except NotModified:
            pass
        start.start(self._house, name)
        container = self._house.containers.get(name)
        container.change(stopped_by_user=False)
        self._house.tell(container, "restart")

    def kill(self, name: str, signal: str = "SIGKILL") -> None:
        stop.kill(self._house, name, signal)

    def pause(self, name: str) -> None:
        pause.pause(self._house, name)

    def unpause(self, name: str) -> None:
        pause.unpause(self._house, name)

    def rename(self, name: str, new_name: str) -> None:
        rename.rename(self._house, name, new_name)

    def remove(self, name: str, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        if link:
            links.unlink(self._house, name)
            return
        remove.remove(self._house, name, kill=force, volumes=volumes)

    def wait(self, name: str, condition: waiting.Condition = "not-running") -> Future[ExitStatus]:
        return waiting.wait(self._house, name, condition)

    def inspect(self, name: str) -> ContainerView:
        return self._house.containers.get(name).view

    def containers(
        self, all: bool = False, filters: Filters | None = None, limit: int = 0
    ) -> list[ContainerView]:
        return listed(self._house.containers, all, filters or {}, limit, self._descendants)

    def _descendants(self, name: str) -> list[str]:
        try:
            wanted = self._house.images.get(name)
        except NotFound:
            return []
        depth = len(wanted.layers)
        return [i.id for i in self._house.images.list(all=True) if i.layers[:depth] == wanted.layers]

    def sizes(self, name: str) -> tuple[int, int]:
        return observe.sizes(self._house, name)

    def resize(self, name: str, rows: int, columns: int) -> None:
        streams.resize(self._house, name, rows, columns)

    def attach(self, name: str, attachment: Attachment) -> None:
        streams.attach(self._house, name, attachment)

    def logs(self, name: str, query: Query, follow: bool = False) -> Stream:
        return streams.logs(self._house, name, query, follow)

    def top(self, name: str, arguments: str = "-ef") -> tuple[list[str], list[list[str]]]:
        return top.top(self._house, name, arguments)

    def changes(self, name: str) -> list[Change]:
        return observe.changes(self._house, name)

    def usage(self, name: str) -> Usage:
        return observe.usage(self._house, name)

    def update(self, name: str, host_config: Mapping[str, Any]) -> list[str]:
        return update.update(self._house, name, host_config)

    def prune_containers(self, filters: Filters | None = None) -> tuple[list[str], int]:
        return remove.prune(self._house, filters)

    def export(self, name: str, archive: BinaryIO) -> None:
        export.export(self._house, name, archive)

    def stat_path(self, name: str, path: str) -> PathStat:
        return copy.stat(self._house, name, path)

    def archive_path(
        self, name: str, path: str, archive: BinaryIO, begin: Callable[[PathStat], object] | None = None
    ) -> None:
        copy.archive(self._house, name, path, archive, begin)

    def extract(
        self, name: str, path: str, archive: BinaryIO, keep_kinds: bool = False, own: bool = False
    ) -> None:
        copy.extract(self._house, name, path, archive, keep_kinds=keep_kinds, own=own)

    # execs

    def exec_create(self, name: str, request: ExecRequest) -> str:
        return execs.create(self._house, name, request)

    def exec_start(
        self, exec_id: str, attachment: Attachment | None, console_size: tuple[int, int] | None = None
    ) -> None:
        execs.start(self._house, exec_id, attachment, console_size)

    def exec_inspect(self, exec_id: str) -> ExecView:
        return execs.inspect(self._house, exec_id)

    def exec_resize(self, exec_id: str, rows: int, columns: int) -> None:
        execs.resize(self._house, exec_id, rows, columns)

    # images

    def images(self, all: bool = False, filters: Filters | None = None) -> list[ImageView]:
        return self._house.images.list(all=all, filters=filters)

    def image(self, name: str) -> ImageView:
        return self._house.images.get(name)

    def import_image(
        self, archive: BinaryIO, reference: str = "", message: str = "", changes: Sequence[str] = ()
    ) -> str:
        image_id = self._house.images.import_image(archive, reference, message, changes)
        self._house.events.publish("image", "import", image_id, {"name": reference or image_id})
        return image_id

    def load_images(self, archive: BinaryIO) -> Iterator[str]:
        for line in self._house.images.load(archive):
            name = line.partition(": ")[2].strip()
            self._house.events.publish("image", "load", name, {"name": name})
            yield line

    def save_images(self, names: Sequence[str], archive: BinaryIO) -> None:
        self._house.images.save(names, archive)

    def tag(self, name: str, reference: str) -> None:
        self._house.images.tag(name, reference)
        self._house.events.publish("image", "tag", self._house.images.get(name).id, {"name": reference})

    def remove_image(self, name: str, force: bool = False, prune: bool = True) -> list[Mapping[str, str]]:
        done = self._house.images.remove(name, force=force, prune=prune, in_use=self._house.using)
        for entry in done:
            for action, what in entry.items():
                verb = "untag" if action == "Untagged" else "delete"
                self._house.events.publish("image", verb, what, {"name": what})
        return list(done)

    def history(self, name: str) -> list[Mapping[str, Any]]:
        return list(self._house.images.history(name))

    # networks

    def networks(self, filters: Filters | None = None) -> list[NetworkView]:
        return describe.networks(self._house, filters or {})

    def network(self, name: str) -> NetworkView:
        return describe.network(self._house, self._house.networks.get(name))

    def create_network(self, network: Network) -> str:
        made = self._house.networks.create(network)
        self._house.events.publish("network", "create", made.id, {"name": made.name, "type": made.driver})
        return made.id

    def remove_network(self, name: str) -> None:
        network = self._house.networks.get(name)
        self._house.networks.remove(network.id, in_use=lambda i: describe.members(self._house, i))
        self._house.events.publish(
            "network", "destroy", network.id, {"name": network.name, "type": network.driver}
        )

    def connect(self, network: str, container: str, endpoint: EndpointRequest) -> None:
        connect.connect(self._house, network, container, endpoint)

    def disconnect(self, network: str, container: str, force: bool = False) -> None:
        connect.disconnect(self._house, network, container, force)

    # the engine

    def events(
        self, since_ns: int | None = None, until_ns: int | None = None, filters: Filters | None = None
    ) -> Stream:
        return self._house.events.stream(since_ns, until_ns, filters)

    def info(self) -> Mapping[str, Any]:
        return describe.info(self._house)

    def version(self) -> str:
        return describe.version()

    def drivers(self, check: bool = False) -> list[Mapping[str, Any]]:
        return list(self._house.catalogue.listing(self._opened.drivers.in_use(), check=check))

    def frontend(self, name: str) -> Driver:
        """A frontend by name, loaded."""
        return self._opened.drivers("frontend", name)

    def disk_usage(self) -> Mapping[str, Any]:
        return describe.disk_usage(self._house)

    def mend(self) -> list[str]:
        """Give the kernel again what was taken from it (rules flushed by somebody else); answers what that was."""
        return self._house.networks.mend()

    # for programs that embed an engine

    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        network: str = "bridge",
        remove: bool = True,
        config: Config | None = None,
        host_config: HostConfig | None = None,
    ) -> int:
        """Create, start, wait, and (unless told otherwise) remove a container; answers its exit code."""
        whole = msgspec.structs.replace(config or Config(), image=image, cmd=list(command) or None)
        host = msgspec.structs.replace(host_config or HostConfig(), network_mode=network, auto_remove=remove)
        promised: Future[None] = Future()
        made = create.create(self._house, CreateRequest(config=whole, host_config=host), promised=promised)
        ended = waiting.wait(self._house, made.id, "removed" if remove else "next-exit")
        try:
            start.start(self._house, made.id)
        except BaseException:
            if remove:
                with contextlib.suppress(NotFound):
                    self.remove(made.id, force=True)
            raise
        code = ended.result().code
        promised.result()
        return code

    def output(self, image: str, command: Sequence[str] = (), *, network: str = "bridge") -> bytes:
        """Run a command to its end and answer what it wrote to both streams: reference Container.Output."""
        host = HostConfig(network_mode=network)
        made = self.create(
            CreateRequest(config=Config(image=image, cmd=list(command) or None), host_config=host)
        )
        try:
            ended = self.wait(made.id, "next-exit")
            self.start(made.id)
            ended.result()
            stream = self.logs(made.id, Query())
            written = b""
            while records := stream.read():
                written += b"".join(record.data for record in records)
            stream.close()
            return written
        finally:
            self.remove(made.id, force=True)
