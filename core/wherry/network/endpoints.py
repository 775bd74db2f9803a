"""What a container's request means for one endpoint: its names, its interface, its MAC, where its ports are bound."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from wherry.errors import Conflict, InvalidRequest
from wherry.linux.links import mac_bytes
from wherry.network.connection import ConnectRequest
from wherry.network.plans import BRIDGE, PREFIX, interface_name
from wherry.network.wiring import Wish
from wherry.spec.container import EndpointRequest
from wherry.spec.network import Network

INTERFACE: Final = "com.docker.network.endpoint.ifname"


def wish(
    request: ConnectRequest, network: Network, asked: EndpointRequest, interfaces: Collection[str]
) -> Wish:
    """The endpoint to be made in a network, beside those that have `interfaces`. InvalidRequest, Conflict."""
    mac = asked.mac_address or ("" if interfaces else request.mac)
    return Wish(
        container_id=request.container_id,
        request=asked,
        interface=_interface(network, asked, interfaces),
        mac=_mac(mac) if mac else "",
        name=request.name,
        aliases=aliases(request, network, asked),
    )


def aliases(request: ConnectRequest, network: Network, asked: EndpointRequest) -> tuple[str, ...]:
    """What a container is called in a network besides its name: as asked, by its short id, by its host name.

    In a network that always exists nobody is called anything: it has no names.
    """
    if not has_names(network):
        return ()
    found = dict.fromkeys([*(asked.aliases or ()), request.container_id[:12], request.hostname])
    return tuple(name for name in found if name and name != request.name)


def has_names(network: Network) -> bool:
    """Whether containers in a network find each other by name: in those that users made."""
    return network.name not in ("bridge", "host", "none")


def binding(network: Network) -> str:
    """Where the ports of a network's containers are bound if nobody says; empty: where the daemon says."""
    return network.options.get(f"{BRIDGE}host_binding_ipv4", "") if has_names(network) else ""


def _interface(network: Network, asked: EndpointRequest, interfaces: Collection[str]) -> str:
    wanted = (asked.driver_opts or {}).get(INTERFACE, "")
    if wanted:
        if interface_name(wanted) == "lo" or wanted in interfaces:
            raise Conflict(f"the interface name {wanted} is in use in the container")
        return wanted
    prefix = network.options.get(PREFIX, "") or "eth"
    return next(name for n in range(len(interfaces) + 1) if (name := f"{prefix}{n}") not in interfaces)


def _mac(text: str) -> str:
    try:
        packed = mac_bytes(text)
    except ValueError as error:
        raise InvalidRequest(f"invalid MAC address: {text}") from error
    if packed[0] & 1:
        raise InvalidRequest(f"invalid MAC address: {text}: it is a group's")
    return ":".join(f"{part:02x}" for part in packed)
