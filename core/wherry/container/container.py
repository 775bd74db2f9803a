"""`Container`: a record, the run that belongs to it now, and the snapshot that readers see.

Writers hold the container's operation. Readers take `view`, an immutable value replaced as a whole, and never wait.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

from wherry.clock import ZERO
from wherry.container import record as records
from wherry.container.operation import Operation
from wherry.container.record import Record, Stored
from wherry.container.root import Root
from wherry.container.state import RUNNING, Move, moved
from wherry.keeper.client import Keeper
from wherry.logs.stream import LogStream
from wherry.network.networks import Connection
from wherry.spec.command import IdMaps
from wherry.spec.container import ContainerView, EndpointView, HostConfig, PortBinding
from wherry.spec.frontend import Attachment, ExitStatus


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a container, from its start to its end: void at a new boot. On the exec root, not synced."""

    boot_id: str
    pid: int = 0
    start_time: int = 0
    exec_driver: str = ""
    state: dict[str, Any] = {}
    connection: Connection | None = None
    cgroup: str = ""
    id_maps: IdMaps | None = None
    """Of its user namespace, if it has one."""
    released: bool = False


class Container:
    """One container of an engine."""

    def __init__(
        self, directory: Path, record: Record, host_config: HostConfig, storage_data: Mapping[str, str]
    ) -> None:
        self.id = record.id
        self.directory = directory
        self.record = record
        self.host_config = host_config
        self.storage_data = dict(storage_data)
        self.operation = Operation(record.id)
        self.keeper: Keeper | None = None
        self.run: Run | None = None
        self.exec_ids: list[str] = []
        self.root = Root()
        self.generation = 0
        """Which start this is: what a keeper tells belongs to the start that it was made for."""
        self.keeper_gone = threading.Event()
        self.keeper_gone.set()
        self.exit_seen: Mapping[str, Any] | None = None
        self.pending: list[Attachment] = []
        """Clients that attached before the start."""
        self.waiters: list[tuple[str, Future[ExitStatus]]] = []
        self.waiters_lock = threading.Lock()
        self.stop_requested = False
        self.terminal_size: tuple[int, int] | None = None
        """What a client asked for; a restart begins with it."""
        self.oom_told = False
        """Whether the keeper has told of this run that it ran out of memory."""
        self._changing = threading.Lock()
        self.log_streams: set[LogStream] = set()
        self.backoff = 0.1
        self.view = self._snapshot()

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def running(self) -> bool:
        return self.view.status in RUNNING

    def change(self, **fields: Any) -> None:
        """Replace fields of the stored state, and publish. The one way that needs no operation."""
        with self._changing:
            self.record = msgspec.structs.replace(
                self.record, state=msgspec.structs.replace(self.record.state, **fields)
            )
            self.publish()

    def rewrite(self, **fields: Any) -> None:
        """Replace fields of the record."""
        with self._changing:
            self.record = msgspec.structs.replace(self.record, **fields)

    def move(self, move: Move, **fields: Any) -> None:
        """Take the state machine one step, with other fields of the stored state."""
        self.change(status=moved(self.record.state.status, move, self.name), **fields)

    def save(self, *, synced: bool, host_config: bool = False) -> None:
        """Write the record as it is now."""
        records.save(self.directory, self.record, self.host_config if host_config else None, synced=synced)

    def publish(self) -> None:
        """Let readers see how the container is now."""
        self.view = self._snapshot()

    @property
    def state(self) -> Stored:
        return self.record.state

    def _snapshot(self) -> ContainerView:
        record, run = self.record, self.run
        active = record.state.status in RUNNING
        connection = run.connection if run is not None and active else None
        networks, ports = _networks(record, self.host_config, connection)
        return ContainerView(
            id=record.id,
            name=record.name,
            created=record.created,
            path=record.path,
            args=record.args,
            image_id=record.image,
            image_name=record.image_name,
            config=record.config,
            host_config=self.host_config,
            status=record.state.status,
            pid=run.pid if run is not None and active else 0,
            exit_code=record.state.exit_code,
            error=record.state.error,
            oom_killed=record.state.oom_killed,
            started_at=record.state.started_at,
            finished_at=record.state.finished_at,
            restart_count=record.restart_count,
            networks=networks,
            ports=ports,
            sandbox_path=connection.sandbox.path if connection and connection.sandbox else "",
            mounts=record.mounts,
            resolv_conf_path=self._file("resolv.conf"),
            hostname_path=self._file("hostname"),
            hosts_path=self._file("hosts"),
            log_path=str(self.directory / f"{record.id}-json.log")
            if record.log_driver == "json-file"
            else "",
            storage_driver=record.driver,
            exec_driver=record.exec_driver,
            apparmor_profile=_apparmor(self.host_config),
            log_driver=record.log_driver,
            exec_ids=list(self.exec_ids),
            storage_data=self.storage_data,
            directory=str(self.directory),
        )

    def _file(self, name: str) -> str:
        """Where one of the three files of names is on the host, once there is one: what the user mounted in its place, or ours."""
        if self.record.state.started_at == ZERO:
            return ""
        theirs = (point.source for point in self.record.mounts if point.destination == f"/etc/{name}")
        return next(theirs, str(self.directory / name))


def _apparmor(host_config: HostConfig) -> str:
    options = host_config.security_opt or ()
    return next((each.partition("=")[2] for each in options if each.startswith("apparmor=")), "")


def _networks(
    record: Record, host_config: HostConfig, connection: Connection | None
) -> tuple[dict[str, EndpointView], dict[str, list[PortBinding] | None]]:
    networks = {name: EndpointView(request=request) for name, request in record.networks.items()}
    ports: dict[str, list[PortBinding] | None] = {}
    if connection is None:
        return networks, ports
    for network, endpoint in connection.endpoints:
        request = record.networks.get(network.name)
        view = EndpointView(
            network_id=network.id,
            endpoint_id=endpoint.id,
            gateway=endpoint.ipv4_gateway,
            address=endpoint.ipv4,
            prefix=endpoint.ipv4_prefix,
            mac=endpoint.mac,
            ipv6=endpoint.ipv6,
            ipv6_prefix=endpoint.ipv6_prefix,
            ipv6_gateway=endpoint.ipv6_gateway,
            dns_names=[endpoint.name, *endpoint.aliases] if endpoint.aliases else None,
        )
        networks[network.name] = view if request is None else msgspec.structs.replace(view, request=request)
    for exposed in record.config.exposed_ports or {}:
        ports[exposed if "/" in exposed else f"{exposed}/tcp"] = None
    able = connection.published(4) or connection.published(6)
    for binding in connection.ports if able else ():
        shown = PortBinding(host_ip=binding.host_address or "0.0.0.0", host_port=str(binding.host_port))
        key = f"{binding.container_port}/{binding.protocol}"
        ports[key] = [*(ports.get(key) or []), shown]
    return networks, ports
