"""Publishing: ports of the host claimed for a container, led to it by the firewall, and given back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from wherry.errors import Unavailable
from wherry.network.connection import Connection
from wherry.network.conntrack import Flows
from wherry.network.firewall.firewall import Firewall
from wherry.network.firewall.model import Publication
from wherry.network.ports import Owner, Ports, PortWish
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
    ) -> tuple[tuple[PortBinding, ...], list[int]]:
        """Ports and the descriptors that hold them; those are the caller's once `undo` is kept. Conflict, Unavailable.

        `default`: the address where a wish names none; empty: the daemon's.
        """
        if not wishes:
            return (), []
        if not self._firewall.active:
            raise Unavailable("ports cannot be published: the daemon was started with iptables=false")
        bindings, sockets = self._ports.claim(_owner(container_id, name), wishes, default)
        undo.add(self._ports.release, bindings)
        descriptors = [held.detach() for held in sockets]
        for descriptor in descriptors:
            undo.add(os.close, descriptor)
        return bindings, descriptors

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


def publications(connection: Connection) -> list[Publication]:
    """What the firewall is told of a container's ports."""
    endpoint = connection.published(4)
    if endpoint is None:
        return []
    return [
        Publication(
            protocol=port.protocol,
            host_address=port.host_address,
            host_port=port.host_port,
            address=endpoint.ipv4,
            container_port=port.container_port,
        )
        for port in connection.ports
    ]


def _owner(container_id: str, name: str) -> Owner:
    return Owner(container_id=container_id, name=name)
