"""What goes in and out of `Networks`: settings, the request to connect a container, and the connection it gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wherry.network.firewall.model import Passage, Version
from wherry.network.gateways import address, ranked
from wherry.network.listening import Listener
from wherry.network.pools import Pool
from wherry.network.ports import PortWish
from wherry.spec.command import IdMaps
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
    default_gateway: str = ""
    """Where containers of the default network find the way out, if that is not the bridge."""
    ipv6: bool = False
    """Whether the default network has IPv6."""
    bip6: str = ""
    fixed_cidr_v6: str = ""
    """Its IPv6 range; empty: one of this engine's own (unique local)."""
    default_gateway_v6: str = ""
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
    pools: tuple[Pool, ...] = ()
    """What networks get their ranges of; empty: the usual ones. Of each IP version on its own."""
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
    """Of the first network, if nothing is said there."""
    ports: tuple[PortWish, ...] = ()
    namespace: int | None = None
    """A bare network namespace (a descriptor) to make the sandbox of; None: a new one of the host's."""
    id_maps: IdMaps | None = None
    """Of the user namespace that `namespace` belongs to."""
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
    """In the order of the container's record, which is that of its interfaces' numbers."""
    ports: tuple[PortBinding, ...] = ()
    id_maps: IdMaps | None = None
    """Of the user namespace that the sandbox belongs to."""
    passages: tuple[Passage, ...] = ()
    """What passes for it although containers of the network do not reach each other: its links."""
    resolver_port: int = 0
    """Where in the sandbox its name server listens; 0: containers of its networks have no names."""
    shares: Connection | None = None
    """For a shared sandbox: the connection it belongs to."""

    @property
    def held(self) -> tuple[tuple[PortBinding, int], ...]:
        """Ports just claimed and the descriptors that hold them: for the keeper; then close these."""
        return tuple(self.__dict__.get("_held", ()))

    @property
    def sockets(self) -> tuple[int, ...]:
        """The descriptors of `held`."""
        return tuple(descriptor for _, descriptor in self.held)

    @property
    def listener(self) -> Listener | None:
        """The name server's sockets, just opened: for the keeper; then close these."""
        found: Listener | None = self.__dict__.get("_listener")
        return found

    def holding(
        self, held: Sequence[tuple[PortBinding, int]] = (), listener: Listener | None = None
    ) -> Connection:
        """The same with descriptors, which no JSON carries and no comparison sees."""
        holding = dataclasses.replace(self)
        holding.__dict__["_held"] = tuple(held)
        holding.__dict__["_listener"] = listener
        return holding

    def place(self, network_id: str) -> tuple[Network, Endpoint] | None:
        """The endpoint in a network, if there is one."""
        return next((place for place in self.endpoints if place[0].id == network_id), None)

    def published(self, version: Version) -> Endpoint | None:
        """The endpoint that the ports lead to, for one IP version."""
        return next(
            (e for network, e in ranked(self.endpoints) if publishable(network) and address(e, version)), None
        )


def publishable(network: Network) -> bool:
    """Whether ports can lead into a network: it has ranges behind an interface of the host, and is not internal."""
    return bool(network.interface and network.subnets) and not network.internal
