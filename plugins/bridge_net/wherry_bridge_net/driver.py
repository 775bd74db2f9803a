"""The bridge driver: a network is a bridge, an endpoint a veth pair between it and the sandbox.

    sandbox: eth0 ◀── veth ──▶ wv<engine id><5 hex> ── bridge (the network's interface) ── host

The core chose names, addresses and gateway, and does the firewall; here are only links, addresses and routes. Whose a
link is stands on it: a veth carries the engine's id in its name, a bridge in its alias, because people choose the
names of bridges. A bridge without such an alias is somebody else's: it is used as it is, and never removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wherry.errors import Conflict, InvalidRequest, Unavailable
from wherry.linux import links, netns
from wherry.linux.links import Link
from wherry.linux.netlink import Netlink
from wherry.spec import hookimpl
from wherry.spec.network import Desired, Endpoint, Joined, Network, Sandbox, SandboxPlan
from wherry.spec.services import Services

_INHIBIT: Final = "com.docker.network.bridge.inhibit_ipv4"
_FILTERED_BY_DEFAULT: Final = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


class BridgeNetwork:
    """Links by rtnetlink; nothing is remembered between calls."""

    SPEC = (1, 0)

    def __init__(self, services: Services) -> None:
        self._log = services.log
        self._veth = f"wv{services.engine_id}"
        self._alias = f"wherry {services.engine_id} "

    @hookimpl
    def sandbox(self, argument: str) -> SandboxPlan:
        if argument:
            raise InvalidRequest(f"network mode bridge takes no argument, and got {argument!r}")
        return SandboxPlan(kind="own", addressed=True)

    @hookimpl
    def create_network(self, network: Network) -> None:
        with Netlink() as nl:
            self._ensure(nl, network)

    @hookimpl
    def remove_network(self, network: Network) -> None:
        with Netlink() as nl:
            bridge = links.find(nl, network.interface)
            if bridge is not None and bridge.alias.startswith(self._alias):
                links.delete(nl, bridge.index)

    @hookimpl
    def join(self, sandbox: Sandbox, network: Network, endpoint: Endpoint) -> Joined:
        name = self._name(endpoint)
        with Netlink() as nl:
            bridge = links.find(nl, network.interface)
            if bridge is None:
                raise Unavailable(f"the bridge {network.interface} of network {network.name} is gone")
            namespace = os.open(sandbox.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                links.create_veth(
                    nl,
                    name,
                    peer=endpoint.interface,
                    peer_namespace=namespace,
                    peer_mac=endpoint.mac,
                    master=bridge.index,
                    mtu=network.mtu,
                )
                try:
                    with _netlink_inside(namespace, endpoint) as inner:
                        link = _furnish(inner, endpoint)
                        self._open_port(nl, name, bridge, network, endpoint)
                        # The address may have been another MAC's a moment ago: now that it is heard, tell everybody.
                        links.set_mac(inner, link.index, link.mac)
                except BaseException:
                    self._remove(nl, name)
                    raise
            finally:
                os.close(namespace)
        return Joined(host_interface=name, mac=link.mac)

    @hookimpl
    def leave(self, sandbox: Sandbox, network: Network, endpoint: Endpoint) -> None:
        with Netlink() as nl:
            self._remove(nl, self._name(endpoint))

    @hookimpl
    def restore(self, desired: Desired) -> list[str]:
        mended: list[str] = []
        with Netlink() as nl:
            for network in desired.networks:
                mended += self._ensure(nl, network)
            there = {link.name: link for link in links.every(nl)}
            for sandbox, network, endpoint in desired.joined:
                veth, bridge = there.get(self._name(endpoint)), there.get(network.interface)
                if veth is None:
                    self.join(sandbox, network, endpoint)
                    mended.append(f"the link of container {endpoint.container_id[:12]} to {network.name}")
                elif bridge is not None and veth.master != bridge.index:
                    links.enslave(nl, veth.index, bridge.index)
                    self._open_port(nl, veth.name, bridge, network, endpoint)
                    mended.append(f"the port {veth.name} of bridge {bridge.name}")
            wanted = {self._name(endpoint) for _, _, endpoint in desired.joined}
            wanted |= {network.interface for network in desired.networks}
            for link in there.values():
                if self._is_ours(link) and link.name not in wanted:
                    links.delete(nl, link.index)
                    mended.append(f"removed the link {link.name}, which nobody owns")
        return mended

    @hookimpl
    def owned(self) -> list[str]:
        with Netlink() as nl:
            return sorted(link.name for link in links.every(nl) if self._is_ours(link))

    # ---- The host's side

    def _ensure(self, nl: Netlink, network: Network) -> list[str]:
        """Make the bridge as recorded; answers what had to be done."""
        mended = []
        bridge = links.find(nl, network.interface)
        if bridge is None:
            links.create_bridge(nl, network.interface, mac=_bridge_mac(network.id))
            bridge = links.find(nl, network.interface)
            assert bridge is not None
            links.set_alias(nl, bridge.index, self._alias + network.id[:12])
            # A container must not tell its host the way by a router's advertisement.
            _write_sysctl(f"ipv6/conf/{bridge.name}/accept_ra", "0")
            mended.append(f"made the bridge {bridge.name}")
        elif bridge.kind != "bridge":
            raise Conflict(f"{bridge.name} is a {bridge.kind or 'link'}, no bridge; choose another name")
        elif bridge.alias.startswith("wherry ") and not bridge.alias.startswith(self._alias):
            raise Conflict(
                f"the bridge {bridge.name} belongs to another engine ({bridge.alias.split()[1]}); "
                "give this one a name of its own with --bridge"
            )
        if network.ipv6:
            _write_sysctl(f"ipv6/conf/{bridge.name}/disable_ipv6", "0")
        has = {(a.address, a.prefix) for a in links.addresses(nl) if a.index == bridge.index}
        for address, prefix in _host_addresses(network):
            if (address, prefix) not in has:
                links.add_address(nl, bridge.index, address, prefix)
                mended.append(f"gave the bridge {bridge.name} the address {address}/{prefix}")
        if bridge.alias.startswith(self._alias):
            wanted = set(_host_addresses(network))
            for address, prefix in has - wanted:
                if not address.startswith("fe80:"):  # that one the kernel made
                    links.delete_address(nl, bridge.index, address, prefix)
                    mended.append(f"took the address {address}/{prefix} from the bridge {bridge.name}")
        if not network.icc and _bridged_traffic_is_filtered(network):
            links.filter_bridged(nl, bridge.index)
        if not bridge.up:
            links.set_up(nl, bridge.index)
        return mended

    def _open_port(self, nl: Netlink, name: str, bridge: Link, network: Network, endpoint: Endpoint) -> None:
        for address in (endpoint.ipv4, endpoint.ipv6):
            if address:
                # Somebody else may have had this address a moment ago.
                links.forget_neighbour(nl, bridge.index, address)
        filtered = _bridged_traffic_is_filtered(network)
        if filtered or not network.icc:
            link = links.find(nl, name)
            if link is not None:
                # When bridged frames pass the firewall, a container that calls its own published port is answered
                # through the port that it came from, and icc is the firewall's. When they do not, ports are isolated:
                # they reach the host, and not each other.
                links.set_port(nl, link.index, hairpin=filtered, isolated=not network.icc and not filtered)
        ready = links.wait_until(nl, name, lambda port: port.forwarding)
        if ready and not bridge.running:  # its first port
            ready = links.wait_until(nl, bridge.name, lambda link: link.running)
        if not ready:
            self._log.warning(f"the port {name} of bridge {bridge.name} is not forwarding yet")

    def _remove(self, nl: Netlink, name: str) -> None:
        link = links.find(nl, name)
        if link is not None:
            links.delete(nl, link.index)

    def _name(self, endpoint: Endpoint) -> str:
        # The core takes care that the first five digits differ among the endpoints of an engine.
        return f"{self._veth}{endpoint.id[:5]}"

    def _is_ours(self, link: Link) -> bool:
        return link.name.startswith(self._veth) or link.alias.startswith(self._alias)


def _netlink_inside(namespace: int, endpoint: Endpoint) -> Netlink:
    """A socket of the sandbox, and the switches there that an endpoint needs."""
    link = endpoint.interface
    with netns.inside(namespace):
        if endpoint.ipv6:
            # Its addresses are given and are nobody else's: no router's word, no time to see whether they are doubled.
            for switch, value in (("accept_ra", "0"), ("accept_dad", "0"), ("ndisc_notify", "1")):
                _write_sysctl(f"ipv6/conf/{link}/{switch}", value)
            _write_sysctl(f"ipv6/conf/{link}/disable_ipv6", "0")
        _write_sysctl(f"ipv4/conf/{link}/arp_notify", "1")
        return Netlink()


def _furnish(nl: Netlink, endpoint: Endpoint) -> Link:
    """The sandbox's end: addresses, up, default route."""
    link = links.find(nl, endpoint.interface)
    if link is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), endpoint.interface)
    if endpoint.ipv4:
        links.add_address(nl, link.index, endpoint.ipv4, endpoint.ipv4_prefix)
    if endpoint.ipv6:
        links.add_address(nl, link.index, endpoint.ipv6, endpoint.ipv6_prefix)
    for address in endpoint.link_local:
        links.add_address(nl, link.index, address, 64 if ":" in address else 16)
    links.set_up(nl, link.index)
    for gateway in (endpoint.ipv4_gateway, endpoint.ipv6_gateway):
        if gateway:
            with contextlib.suppress(FileExistsError):  # another network already is the way out
                links.add_default_route(nl, gateway, link.index)
    return link


def _host_addresses(network: Network) -> Iterator[tuple[str, int]]:
    """What the bridge has: the gateway of each range, and of links with IPv6 the address that everybody knows."""
    for subnet in network.subnets:
        inhibited = not subnet.is_ipv6 and network.options.get(_INHIBIT, "").lower() in ("true", "1", "t")
        if subnet.gateway and not inhibited:
            yield subnet.gateway, int(subnet.cidr.partition("/")[2])
    if network.ipv6:
        yield "fe80::1", 64


def _bridge_mac(network_id: str) -> str:
    """A locally administered MAC that is the same each time the bridge is made."""
    digest = hashlib.sha256(network_id.encode()).digest()
    return "02:42:" + ":".join(f"{part:02x}" for part in digest[:4])


def _bridged_traffic_is_filtered(network: Network) -> bool:
    """Whether what passes between two ports of the network's bridge is seen by the host's firewall."""
    try:
        return _FILTERED_BY_DEFAULT.read_text().strip() == "1" or not network.icc
    except OSError:
        return False  # br_netfilter is not loaded


def _write_sysctl(name: str, value: str) -> None:
    """In the calling thread's network namespace."""
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/sys/net", name).write_text(value)
