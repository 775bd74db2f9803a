"""A container in its networks, as the verbs see it: what is asked of `wherry.network`, what is told, what is refused.

Source: reference `initializeNetworking`; API 1.51 NetworkingConfig; dockerd's rules for endpoints.
"""

from __future__ import annotations

from wherry.container.container import Container
from wherry.errors import InvalidRequest, NotFound
from wherry.house import House
from wherry.lifecycle.idmaps import Remapped
from wherry.lifecycle.ports import wished
from wherry.network.connection import Connection, ConnectRequest
from wherry.network.endpoints import has_names
from wherry.spec.container import EndpointRequest, HostConfig
from wherry.spec.network import Network


def request(
    house: House,
    container: Container,
    owner: Connection | None = None,
    remapped: Remapped | None = None,
) -> ConnectRequest:
    """How a container wants to be connected, from its record. `owner`: the connection that it shares."""
    config, host = container.record.config, container.host_config
    return ConnectRequest(
        container_id=container.id,
        name=container.name,
        hostname=config.hostname,
        mode="none" if config.network_disabled else host.network_mode,
        endpoints=container.record.networks,
        mac=config.mac_address or "",
        ports=wished(config, host),
        namespace=remapped.net if remapped is not None else None,
        id_maps=remapped.maps if remapped is not None else None,
        owner=owner,
    )


def named(house: House, host: HostConfig, requests: dict[str, EndpointRequest]) -> dict[str, EndpointRequest]:
    """What a container wants of its networks, by their names, that of its mode first. NotFound, InvalidRequest."""
    if host.network_mode.startswith("container:"):
        if requests:
            raise InvalidRequest(
                "conflicting options: cannot attach user-defined networks to a container in the network mode container"
            )
        return {}
    first = house.networks.get(host.network_mode)
    found: dict[str, EndpointRequest] = {}
    for name, asked in requests.items():
        found[_name_of(house, name)] = asked
    found = {first.name: EndpointRequest(), **found} if first.name not in found else found
    if len(found) > 1 and (alone := next((name for name in found if name in ("host", "none")), "")):
        raise InvalidRequest(
            f"conflicting options: a container in the network {alone} cannot be connected to other networks"
        )
    for name, asked in found.items():
        try:
            check(house.networks.get(name), asked)
        except NotFound:
            continue  # it may be there when the container is started
    return found


def _name_of(house: House, wanted: str) -> str:
    try:
        return house.networks.get(wanted).name
    except NotFound:
        return wanted


def check(network: Network, asked: EndpointRequest) -> None:
    """Refuse what an endpoint cannot have in this network. InvalidRequest, in the words that dockerd has."""
    ipam = asked.ipam_config
    static = bool(ipam and (ipam.ipv4_address or ipam.ipv6_address))
    if not has_names(network):
        if static:
            raise InvalidRequest("user specified IP address is supported on user defined networks only")
        if asked.aliases:
            raise InvalidRequest("network-scoped aliases are only supported for user-defined networks")


def tell(house: House, action: str, network: Network, container_id: str) -> None:
    """Publish an event of a network about a container: `connect` or `disconnect`."""
    house.events.publish(
        "network",
        action,
        network.id,
        {"container": container_id, "name": network.name, "type": network.driver},
    )


def tell_all(house: House, action: str, connection: Connection | None) -> None:
    """The same for every network of a connection."""
    if connection is not None:
        for network, _ in connection.endpoints:
            tell(house, action, network, connection.container_id)
