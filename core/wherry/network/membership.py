"""Entering and leaving networks while a container runs: `network connect` and `disconnect`.

enter   address taken ─▶ driver.join ─▶ ports moved ─▶ way out chosen anew ─▶ the connection replaced
leave   ports moved ─▶ driver.leave ─▶ way out chosen anew ─▶ the connection replaced
"""

from __future__ import annotations

import dataclasses

from wherry.dns.directory import Directory
from wherry.errors import Conflict, Forbidden, NotFound
from wherry.network import endpoints, gateways
from wherry.network.connection import Connection, ConnectRequest, publishable
from wherry.network.connections import Connections
from wherry.network.firewall.model import Passage
from wherry.network.listening import listen
from wherry.network.ports import Held
from wherry.network.publishing import Publishing
from wherry.network.wiring import Wiring
from wherry.spec.container import EndpointRequest
from wherry.spec.network import Network
from wherry.undo import Undo


class Membership:
    """The networks that running containers enter and leave. Safe to share; calls about one container do not overlap."""

    def __init__(
        self, connections: Connections, wiring: Wiring, publishing: Publishing, directory: Directory
    ) -> None:
        self._connections = connections
        self._wiring = wiring
        self._publishing = publishing
        self._directory = directory

    def enter(
        self, old: Connection, network: Network, asked: EndpointRequest, request: ConnectRequest
    ) -> Connection:
        """A container's connection with one network more. On an error nothing has changed.

        Ports are claimed if this is the first network that can have them: `sockets` of the answer are the caller's, to
        hand to the keeper and to close. Forbidden if the container is in the network.
        """
        sandbox = old.sandbox
        if old.plan.kind != "own" or sandbox is None:
            raise Conflict(
                "container sharing network namespace with another container or host cannot be connected to any "
                "other network"
            )
        if old.place(network.id) is not None:
            raise Forbidden(f"endpoint with name {request.name} already exists in network {network.name}")
        self._connections.refuse_broken(network)
        with Undo() as undo:
            interfaces = [endpoint.interface for _, endpoint in old.endpoints]
            endpoint = self._wiring.allocate(network, endpoints.wish(request, network, asked, interfaces))
            undo.add(self._wiring.forget, network, endpoint)
            if network.subnets:
                undo.add(self._wiring.leave_now, sandbox, network, endpoint)
                self._wiring.join(sandbox, network, endpoint)
            bindings, held = old.ports, list[Held]()
            if not bindings and publishable(network):
                bindings, held = self._publishing.claim(
                    request.container_id, request.name, request.ports, endpoints.binding(network), undo
                )
            listener = None
            if endpoints.has_names(network):
                undo.add(self._directory.drop, network, endpoint)
                self._directory.put(network, endpoint)
                if not old.resolver_port:
                    listener = listen(sandbox)
                    undo.add(listener.close)
            new = dataclasses.replace(
                old,
                endpoints=(*old.endpoints, (network, endpoint)),
                ports=bindings,
                resolver_port=listener.port if listener is not None else old.resolver_port,
            )
            self._publishing.move(old, new, undo)
            undo.add(gateways.set_routes, sandbox, old.endpoints)
            gateways.set_routes(sandbox, new.endpoints)
            self._connections.replace(old, new)
            undo.keep()
        return new.holding(held, listener)

    def leave(self, old: Connection, network: Network) -> Connection:
        """A container's connection with one network less. NotFound if it is not in that network."""
        place = old.place(network.id)
        if place is None or old.sandbox is None:
            raise NotFound(
                "network",
                network.name,
                f"container {old.container_id} is not connected to network {network.name}",
            )
        new = dataclasses.replace(
            old, endpoints=tuple(other for other in old.endpoints if other is not place)
        )
        with Undo() as undo:
            self._publishing.move(old, new, undo)
            self._connections.replace(old, new)
            undo.keep()
        self._directory.drop(*place)
        self._wiring.leave_now(old.sandbox, *place)
        gateways.set_routes(old.sandbox, new.endpoints)
        return new

    def allow(self, old: Connection, passages: tuple[Passage, ...]) -> Connection:
        """The connection of a container for which exactly these pass."""
        new = dataclasses.replace(old, passages=passages)
        with Undo() as undo:
            self._publishing.move(old, new, undo)
            self._connections.replace(old, new)
            undo.keep()
        return new

    def rename(self, old: Connection, request: ConnectRequest) -> Connection:
        """The connection of a container that has another name now: it is found by that one at once."""
        renamed = tuple(
            (
                network,
                dataclasses.replace(
                    endpoint,
                    name=request.name,
                    aliases=endpoints.aliases(
                        request, network, request.endpoints.get(network.name, EndpointRequest())
                    ),
                ),
            )
            for network, endpoint in old.endpoints
        )
        new = dataclasses.replace(old, name=request.name, endpoints=renamed)
        if old.plan.kind == "own":
            self._connections.replace(old, new)
            for network, endpoint in renamed:
                self._wiring.change(endpoint)
                if endpoints.has_names(network):
                    self._directory.put(network, endpoint)
        return new
