"""A network, with who is in it. Source: moby `api/types/network`."""

from __future__ import annotations

from typing import Any

from wherry.spec.frontend import NetworkView
from wherry.spec.network import Subnet
from wherry_docker_api.words import ZERO_TIME


def inspect(view: NetworkView, *, members: bool) -> dict[str, Any]:
    """`GET /networks/{id}`; the list shows no members."""
    network = view.network
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": network.created or ZERO_TIME,
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": None,
            "Config": [_subnet(each) for each in network.subnets],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container: {
                "Name": name,
                "EndpointID": endpoint,
                "MacAddress": mac,
                "IPv4Address": ipv4,
                "IPv6Address": ipv6,
            }
            for container, (name, endpoint, mac, ipv4, ipv6) in view.containers.items()
        }
        if members
        else {},
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def _subnet(subnet: Subnet) -> dict[str, Any]:
    shown: dict[str, Any] = {"Subnet": subnet.cidr}
    if subnet.range:
        shown["IPRange"] = subnet.range
    if subnet.gateway:
        shown["Gateway"] = subnet.gateway
    if subnet.auxiliary:
        shown["AuxiliaryAddresses"] = dict(subnet.auxiliary)
    return shown
