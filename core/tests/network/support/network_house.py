"""An engine's networks without an engine: daemons that start and restart, and containers that are a sandbox only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.errors import NotFound
from wherry.linux import netns
from wherry.network.networks import Connection, ConnectRequest, Networks, NetworkSettings, PortWish
from wherry.plugins import Driver, Resolved, load
from wherry.testing.network import ENGINE_ID, EngineServices, Place

DRIVERS = {
    "bridge": ("wherry_bridge_net", "BridgeNetwork"),
    "host": ("wherry_host_net", "HostNetwork"),
    "none": ("wherry_none_net", "NoneNetwork"),
    "container": ("wherry_container_net", "ContainerNetwork"),
}
OUTSIDE = "192.0.2.10"
HOST = "192.0.2.1"
OUTSIDE6, HOST6 = "2001:db8::10", "2001:db8::1"
"""The neighbour, and the host as the neighbour sees it."""


def drivers(services: EngineServices) -> Callable[[str], Driver]:
    loaded: dict[str, Driver] = {}

    def driver(name: str) -> Driver:
        if name not in DRIVERS:
            raise NotFound("network driver", name)
        if name not in loaded:
            module, attribute = DRIVERS[name]
            loaded[name] = load(
                Resolved(kind="network", name=name, module=module, attribute=attribute), services
            )
        return loaded[name]

    return driver


@dataclass
class Running:
    """A connected container, in which a test may talk."""

    connection: Connection

    @property
    def place(self) -> Place:
        assert self.connection.sandbox is not None
        return Place(self.connection.sandbox.path)

    @property
    def address(self) -> str:
        return next(endpoint.ipv4 for _, endpoint in self.connection.endpoints if endpoint.ipv4)

    @property
    def ipv6(self) -> str:
        return next(endpoint.ipv6 for _, endpoint in self.connection.endpoints if endpoint.ipv6)


@dataclass
class Engine:
    """Networks as an engine's daemon has them; `restart` is a new daemon, with or without the old one's goodbye."""

    root: Path
    settings: dict[str, Any]
    engine_id: str = ENGINE_ID
    services: EngineServices = field(init=False)
    networks: Networks = field(init=False)
    running: list[Running] = field(default_factory=list)
    sockets: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.services = EngineServices(engine_id=self.engine_id)

    def start(self, live: Sequence[Connection] = (), **settings: Any) -> list[str]:
        self.settings |= settings
        self.networks = Networks(
            root=self.root / "networks",
            exec_root=self.root,
            engine_id=self.engine_id,
            driver=drivers(self.services),
            settings=NetworkSettings(**self.settings),
            log=self.services.log,
        )
        return self.networks.setup(live)

    def restart(self, **settings: Any) -> list[str]:
        """A new daemon, which is told of the containers that run."""
        self.networks.close()
        return self.start([container.connection for container in self.running], **settings)

    def run(self, *ports: PortWish, mode: str = "bridge", **request: Any) -> Running:
        """Connect a container; what a keeper would hold is held here."""
        connection = self.networks.connect(
            ConnectRequest(
                container_id=request.pop("container_id", secrets.token_hex(32)),
                mode=mode,
                ports=ports,
                **request,
            )
        )
        self.sockets += connection.sockets
        self.running.append(Running(connection))
        return self.running[-1]

    def end(self, container: Running) -> None:
        """The container ended: its keeper's sockets are closed, its connection is released."""
        for descriptor in container.connection.sockets:
            os.close(descriptor)
            self.sockets.remove(descriptor)
        self.running.remove(container)
        self.networks.release(container.connection)

    def close(self) -> None:
        for container in list(self.running):
            self.end(container)
        self.networks.close()
        for name in os.listdir(self.root / "sandboxes"):
            netns.unbind(self.root / "sandboxes" / name)


def tcp(host_port: int, container_port: int = 80, address: str = "") -> PortWish:
    return PortWish(protocol="tcp", container_port=container_port, first=host_port, host_address=address)


def udp(host_port: int, container_port: int = 80, address: str = "") -> PortWish:
    return PortWish(protocol="udp", container_port=container_port, first=host_port, host_address=address)
