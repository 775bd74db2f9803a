"""Publishing: ports of the host claimed for a container, led to it by the firewall, and given back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wherry.network import binding
from wherry.network.connection import Connection
from wherry.network.conntrack import Flows
from wherry.network.firewall.firewall import Firewall
from wherry.network.firewall.model import VERSIONS, Grant, Publication, Version
from wherry.network.gateways import address
from wherry.network.ports import EVERY_IPV6, Held, Owner, Ports, PortWish
from wherry.spec.network import PortBinding
from wherry.undo import Undo


class Publishing:
    """The published ports of an engine's connections. Safe to share."""

    def __init__(self, ports: Ports, firewall: Firewall, flows: Flows) -> None:
        self._ports = ports
        self._firewall = firewall
        self._flows = flows

    def adopt(self, connection: Connection) -> None:
        """Enter what a living container has; its keeper holds the sockets, the firewall is told as a whole."""
        self._ports.adopt(_owner(connection.container_id, connection.name), connection.ports)

    def claim(
        self, container_id: str, name: str, wishes: Sequence[PortWish], default: str, undo: Undo
    ) -> tuple[tuple[PortBinding, ...], list[Held]]:
        """Ports and the descriptors that hold them; those are the caller's once `undo` is kept. Conflict.

        `default`: the address where a wish names none; empty: the daemon's.
        """
        if not wishes:
            return (), []
        bindings, held = self._ports.claim(_owner(container_id, name), wishes, default)
        undo.add(self._ports.release, bindings)
        undo.add(binding.close, held)
        return bindings, held

    def targets(self, connection: Connection) -> dict[PortBinding, tuple[str, int]]:
        """Where the keeper is to take what comes for ports that the firewall does not, or not all, lead to a container.

        What comes by an IP version that the container has not; what comes from ::1; all, where no rules are written.
        """
        found: dict[PortBinding, tuple[str, int]] = {}
        for port in connection.ports:
            version: Version = 6 if ":" in port.host_address else 4
            other: Version = 4 if version == 6 else 6
            endpoint = connection.published(version)
            if endpoint is not None and version == 4 and self._firewall.active:
                continue
            if endpoint is None:
                version, endpoint = other, connection.published(other)
            if endpoint is not None:
                found[port] = (address(endpoint, version), port.container_port)
        return found

    def move(self, old: Connection, new: Connection, undo: Undo) -> None:
        """A container's ports lead to where `new` says, and no more to where `old` does."""
        before, after = set(publications(old)), set(publications(new))
        if before == after:
            return
        undo.add(self._firewall.publish, before - after)
        self._firewall.withdraw(before - after)
        undo.add(self._firewall.withdraw, after - before)
        self._firewall.publish(after - before)
        self._flows.forget_soon(new.ports)

    def publish(self, connection: Connection, undo: Undo) -> None:
        wanted = publications(connection)
        if wanted:
            undo.add(self._firewall.withdraw, wanted)
            self._firewall.publish(wanted)
            self._flows.forget_soon(connection.ports)

    def unpublish(self, connection: Connection) -> None:
        """Withdraw and release; not published is success."""
        wanted = publications(connection)
        if wanted:
            self._firewall.withdraw(wanted)
            self._flows.forget_soon(connection.ports)
        self._ports.release(connection.ports)

    def release(self, bindings: Iterable[PortBinding]) -> None:
        self._ports.release(bindings)


def publications(connection: Connection) -> list[Grant]:
    """What the firewall is told of a container: its ports, and what passes for it."""
    found: list[Grant] = list(connection.passages)
    endpoints = {version: connection.published(version) for version in VERSIONS}
    for port in connection.ports:
        version: Version = 6 if ":" in port.host_address else 4
        endpoint = endpoints[version]
        if endpoint is not None:
            found.append(
                Publication(
                    protocol=port.protocol,
                    host_address="" if port.host_address == EVERY_IPV6 else port.host_address,
                    host_port=port.host_port,
                    address=address(endpoint, version),
                    container_port=port.container_port,
                )
            )
    return found


def _owner(container_id: str, name: str) -> Owner:
    return Owner(container_id=container_id, name=name)
