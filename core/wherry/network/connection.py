"""What goes in and out of `Networks`: settings, the request to connect a container, and the connection it gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wherry.network.ports import PortWish
from wherry.spec.container import EndpointRequest
from wherry.spec.network import Endpoint, Network, PortBinding, Sandbox, SandboxPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """What the daemon was told about networks. Empty text or 0: the engine chooses."""

    bridge: str = ""
    """The default network's link, `wherry0` if not said; `none`: no default network."""
    bip: str = ""
    """The bridge's address with its prefix length."""
    fixed_cidr: str = ""
    """The part of the bridge's range that containers get addresses of."""
    mtu: int = 0
    """0: that of the way out, at most 1500."""
    icc: bool = True
    ip_masq: bool = True
    ip_forward: bool = True
    iptables: bool = True
    """False: no firewall rule is written, no port can be published."""
    firewall: str = "auto"
    default_address: str = ""
    """Where a port is published if it is not said; empty: every address of the host."""
    pools: tuple[str, ...] = ()
    ready: int = 3
    """How many sandboxes are made ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRequest:
    """How a container wants to be connected. `endpoints`: network name → what it wants there, in order."""

    container_id: str
    name: str = ""
    hostname: str = ""
    mode: str = "bridge"
    endpoints: Mapping[str, EndpointRequest] = field(default_factory=dict)
    mac: str = ""
    ports: tuple[PortWish, ...] = ()
    owner: Connection | None = None
    """For `container:X`: the connection of X, which the engine looked up."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How a container is connected: JSON-able, and enough to release everything of it, by a later daemon too."""

    container_id: str
    name: str = ""
    plan: SandboxPlan
    sandbox: Sandbox | None = None
    """None: the host's network namespace."""
    endpoints: tuple[tuple[Network, Endpoint], ...] = ()
    ports: tuple[PortBinding, ...] = ()
    shares: Connection | None = None
    """For a shared sandbox: the connection it belongs to."""

    @property
    def sockets(self) -> tuple[int, ...]:
        """Descriptors that hold the ports: for the keeper; then close these. Known only to who just connected."""
        return tuple(self.__dict__.get("_sockets", ()))

    def holding(self, sockets: Sequence[int]) -> Connection:
        """The same with descriptors, which no JSON carries and no comparison sees."""
        holding = dataclasses.replace(self)
        holding.__dict__["_sockets"] = tuple(sockets)
        return holding

    @property
    def published(self) -> Endpoint | None:
        """The endpoint that the ports lead to."""
        return next((endpoint for _, endpoint in self.endpoints if endpoint.ports), None)
