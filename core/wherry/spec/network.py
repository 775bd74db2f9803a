"""What a network driver is: it wires sandboxes.

A *sandbox* is a network namespace at a path; the core makes, keeps and removes it. An *endpoint* is a container's
place in a network: its addresses are allocated by the core before `join`. A driver makes links; publishing ports,
names, hosts files, isolation are core services, so a small driver has them too.

What a mode means for a sandbox is data: `sandbox(argument)` answers whether a container in this mode has a sandbox of
its own, lives in the host's, or shares another container's.

    create_network(network)
    join(sandbox, network, endpoint) ─▶ Joined          at start
    leave(sandbox, network, endpoint)                   at the end; already gone is success
    remove_network(network)
    restore(desired)                                    at daemon start: what should exist, exists afterwards; what this
                                                        driver owns beyond it, is removed

Drivers hold no state of their own: the kernel and what `restore` hands back are the truth. Names of what they make
carry `services.engine_id` (8 hexadecimal digits), so that two engines share a host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wherry.spec.markers import hookspec

SPEC = (1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPlan:
    """`own`: a new sandbox; `host`: none, the host's namespace; `shared`: the sandbox of container `owner`."""

    kind: Literal["own", "host", "shared"]
    owner: str = ""
    addressed: bool = False
    """Whether endpoints of this mode get an address from the network's pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """An address range of a network, in CIDR form, with the gateway that the host side has. IPv4 or IPv6."""

    cidr: str
    gateway: str = ""
    range: str = ""
    """The part that endpoints get addresses of, where they do not ask for one; empty: all of it."""
    auxiliary: Mapping[str, str] = field(default_factory=dict)
    """Addresses that no endpoint gets, by what has them."""

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.cidr


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network as recorded. `interface` is the host's bridge or parent link for drivers that have one.

    `ipv6`: its endpoints have an IPv6 address, also if no range of `subnets` was asked for.
    """

    id: str
    name: str
    driver: str
    subnets: tuple[Subnet, ...] = ()
    interface: str = ""
    internal: bool = False
    ipv4: bool = True
    ipv6: bool = False
    mtu: int = 1500
    icc: bool = True
    masquerade: bool = True
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    attachable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A network namespace: its container and the path of its nsfs file."""

    id: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PortBinding:
    """One published port. `host_port` is never 0 once allocated. `host_address` "" means every address."""

    protocol: Literal["tcp", "udp", "sctp"]
    container_port: int
    host_address: str = ""
    host_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A container's place in a network. Addresses without prefix length; empty where there is none.

    A gateway is given where the network has one; by which of several endpoints a container's way out leads is the
    core's choice, and the core's to set: the order of joining says it, the first that has a gateway wins.
    """

    id: str
    container_id: str
    network_id: str
    name: str = ""
    """The container's."""
    interface: str = "eth0"
    """What the link is called in the sandbox."""
    mac: str = ""
    ipv4: str = ""
    ipv4_prefix: int = 0
    ipv4_gateway: str = ""
    ipv6: str = ""
    ipv6_prefix: int = 0
    ipv6_gateway: str = ""
    link_local: tuple[str, ...] = ()
    """Further addresses that were asked for, of link-local ranges."""
    aliases: tuple[str, ...] = ()
    """What else the container is called in this network."""
    gateway_priority: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    """What was said to the driver about this endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What `join` made. `host_interface` is the host's end of the link, "" if there is none."""

    host_interface: str = ""
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What should exist: every network of this driver, and every endpoint with its sandbox that is joined."""

    networks: tuple[Network, ...] = ()
    joined: tuple[tuple[Sandbox, Network, Endpoint], ...] = ()


class NetworkSpec:
    """The hooks of a network driver. `sandbox` is required; the others default to doing nothing."""

    @hookspec(firstresult=True)
    def sandbox(self, argument: str) -> SandboxPlan:
        """What `--network <name>[:argument]` means for a container's sandbox. InvalidRequest for a bad argument. Since 1.0."""

    @hookspec(firstresult=True)
    def create_network(self, network: Network) -> None:
        """Make the host's side of a network. Whole or not at all; already as wanted is success. Optional. Since 1.0."""

    @hookspec(firstresult=True)
    def remove_network(self, network: Network) -> None:
        """Undo `create_network`; already gone is success. Optional. Since 1.0."""

    @hookspec(firstresult=True)
    def join(self, sandbox: Sandbox, network: Network, endpoint: Endpoint) -> Joined:
        """Wire a sandbox to a network. On an error nothing is left. Optional. Since 1.0. Deadline 10 s."""

    @hookspec(firstresult=True)
    def leave(self, sandbox: Sandbox, network: Network, endpoint: Endpoint) -> None:
        """Undo `join`; already gone (also: the sandbox is) is success. Optional. Since 1.0."""

    @hookspec(firstresult=True)
    def restore(self, desired: Desired) -> list[str]:
        """Make the kernel's state what is desired, remove what else this driver owns; answers what it mended.

        Optional. Since 1.0.
        """

    @hookspec(firstresult=True)
    def owned(self) -> list[str]:
        """Names of all kernel objects that this driver made (links, addresses), sorted. Optional. Since 1.0."""
