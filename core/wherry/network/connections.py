"""The connections of an engine's containers: made at start, undone at the end, found again by a later daemon.

    connect   ports claimed ─▶ addresses taken ─▶ sandbox made ─▶ driver.join each ─▶ firewall.publish
    release   the way back; what the kernel clears up by itself, or slowly, is left to a thread behind

A sandbox outlives its container while another container shares it: the connection *lingers*, and the container that is
started again gets it back. Entering and leaving single networks meanwhile is `membership`.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from wherry.dns.directory import Directory
from wherry.errors import Conflict, InvalidRequest, NotFound, Unavailable, WherryError
from wherry.network import endpoints, records
from wherry.network.connection import Connection, ConnectRequest, publishable
from wherry.network.gateways import ranked
from wherry.network.lingering import Lingering
from wherry.network.listening import Listener, listen
from wherry.network.places import Places, known
from wherry.network.ports import Held
from wherry.network.publishing import Publishing
from wherry.network.sandboxes import Sandboxes
from wherry.network.wiring import Wiring
from wherry.plugins import Driver
from wherry.spec.command import IdMaps
from wherry.spec.container import EndpointRequest
from wherry.spec.network import Endpoint, Network, PortBinding, Sandbox, SandboxPlan
from wherry.spec.services import Log
from wherry.undo import Undo


@dataclass(slots=True)
class _Held:
    """A connection in force, who else is in its sandbox, and whether its own container has left."""

    connection: Connection
    sharers: set[str] = field(default_factory=set)
    lingers: bool = False


class Connections:
    """Those in force. Safe to share; calls about one container do not overlap."""

    def __init__(
        self,
        *,
        driver: Callable[[str], Driver],
        places: Places,
        lingering: Lingering,
        sandboxes: Sandboxes,
        wiring: Wiring,
        publishing: Publishing,
        directory: Directory,
        log: Log,
    ) -> None:
        self._driver = driver
        self._places = places
        self._lingering = lingering
        self._sandboxes = sandboxes
        self._wiring = wiring
        self._publishing = publishing
        self._directory = directory
        self._log = log
        self._held: dict[str, _Held] = {}
        self.broken: dict[str, str] = {}
        """Network id → why nobody can be connected to it."""
        self._lock = threading.Lock()

    def adopt(self, live: Sequence[Connection], gone: Iterable[Connection] = ()) -> None:
        """Enter what living containers have: addresses, ports, and who shares whose sandbox."""
        connections = {c.container_id: c for c in live if c.plan.kind == "own"}
        ended = {c.container_id: c for c in gone if c.plan.kind == "own"}
        self._held = {name: _Held(connection) for name, connection in connections.items()}
        for sharer in live:
            if (
                sharer.plan.kind == "shared"
                and sharer.shares is not None
                and sharer.shares.sandbox is not None
            ):
                owner = self._held.get(sharer.plan.owner)
                if owner is None:
                    name = sharer.plan.owner
                    last = ended.get(name) or self._lingering.get(name) or sharer.shares
                    owner = self._held[name] = _Held(last, lingers=True)
                owner.sharers.add(sharer.container_id)
        for held in self._held.values():
            for network, endpoint in held.connection.endpoints:
                self._wiring.hold(network, endpoint)
            self._publishing.adopt(held.connection)
        places = [place for held in self._held.values() for place in held.connection.endpoints]
        self._directory.restore(place for place in places if endpoints.has_names(place[0]))

    def joined(self) -> list[tuple[Sandbox, Network, Endpoint]]:
        """Every endpoint that lives, with its sandbox."""
        return [
            (held.connection.sandbox, known(self._places, network.id) or network, endpoint)
            for held in self._held.values()
            if held.connection.sandbox is not None
            for network, endpoint in ranked(held.connection.endpoints)
        ]

    def all(self) -> list[Connection]:
        """Every connection in force, those that linger too."""
        with self._lock:
            return [held.connection for held in self._held.values()]

    def sandboxes(self) -> set[str]:
        """Ids of the sandboxes in use."""
        return {held.connection.sandbox.id for held in self._held.values() if held.connection.sandbox}

    def sharers(self, container_id: str) -> set[str]:
        """Ids of the containers that are in this one's sandbox with it."""
        with self._lock:
            held = self._held.get(container_id)
            return set(held.sharers) if held is not None else set()

    def lingering(self, container_id: str) -> Connection | None:
        """The connection of a container that does not run any more, if others still share its sandbox."""
        with self._lock:
            held = self._held.get(container_id)
            return held.connection if held is not None and held.lingers else None

    def connect(self, request: ConnectRequest) -> Connection:
        """Connect a container that is about to start; on an error nothing is left behind.

        The answer's `sockets` are the caller's to hand to the keeper and to close.
        """
        network, plan = self.resolve(request.mode)
        match plan.kind:
            case "host":
                return Connection(
                    container_id=request.container_id,
                    name=request.name,
                    plan=plan,
                    endpoints=() if network is None else ((network, _placeholder(request, network)),),
                )
            case "shared":
                return self._share(request, plan)
            case "own":
                return self._connect(request, plan, network)

    def release(self, connection: Connection) -> None:
        """Undo `connect`; already released is success. Quick: the slow parts happen behind."""
        with self._lock:
            if connection.plan.kind == "shared":
                self._leave_shared(connection)
                return
            held = self._held.get(connection.container_id)
            if held is not None:
                if held.connection != connection:
                    return  # released before; this is what came after
                if held.sharers:
                    held.lingers = True
                    self._lingering.put(connection)
                    return
                del self._held[connection.container_id]
        self._tear_down(connection)

    def replace(self, old: Connection, new: Connection) -> None:
        """A connection in force has become another. Conflict if `old` is not in force any more."""
        with self._lock:
            held = self._held.get(old.container_id)
            if held is None or held.connection != old:
                raise Conflict(f"container {old.container_id[:12]} is not connected any more")
            held.connection = new

    def refuse_broken(self, network: Network) -> None:
        """Unavailable if nobody can be connected to this network, with the reason."""
        if network.id in self.broken:
            raise Unavailable(f"network {network.name} cannot be used: {self.broken[network.id]}")

    def _connect(self, request: ConnectRequest, plan: SandboxPlan, network: Network | None) -> Connection:
        wanted = self._wanted_endpoints(request, network)
        lingering = self._take_up(request.container_id, [place for place, _ in wanted], request.id_maps)
        if lingering is not None:
            return self._publish_again(request, lingering)
        with Undo() as undo:
            bindings, held = self._claim(request, [(n, asked.gw_priority) for n, asked in wanted], undo)
            made: list[tuple[Network, Endpoint]] = []
            for place, asked in wanted:
                wish = endpoints.wish(request, place, asked, [endpoint.interface for _, endpoint in made])
                endpoint = self._wiring.allocate(place, wish)
                undo.add(self._wiring.forget, place, endpoint)
                made.append((place, endpoint))
            sandbox = self._sandboxes.make(request.container_id, request.namespace)
            undo.add(self._sandboxes.remove, sandbox)
            for place, endpoint in ranked(made):
                if place.subnets:
                    undo.add(self._wiring.leave_now, sandbox, place, endpoint)
                    self._wiring.join(sandbox, place, endpoint)
            listener = self._name(sandbox, made, undo)
            connection = Connection(
                container_id=request.container_id,
                name=request.name,
                plan=plan,
                sandbox=sandbox,
                endpoints=tuple(made),
                ports=bindings,
                id_maps=request.id_maps,
                resolver_port=listener.port if listener is not None else 0,
            )
            self._publishing.publish(connection, undo)
            with self._lock:
                self._held[request.container_id] = _Held(connection)
            undo.keep()
        return connection.holding(held, listener)

    def _name(
        self, sandbox: Sandbox, made: Sequence[tuple[Network, Endpoint]], undo: Undo
    ) -> Listener | None:
        """Let others find the container by its names, and it them, in the networks that have names."""
        named = [(network, endpoint) for network, endpoint in made if endpoints.has_names(network)]
        if not named:
            return None
        listener = listen(sandbox)
        undo.add(listener.close)
        for network, endpoint in named:
            undo.add(self._directory.drop, network, endpoint)
            self._directory.put(network, endpoint)
        return listener

    def _wanted_endpoints(
        self, request: ConnectRequest, network: Network | None
    ) -> list[tuple[Network, EndpointRequest]]:
        """The networks of a container in their order: that of the mode first, unless the record says otherwise."""
        wanted: dict[str, tuple[Network, EndpointRequest]] = {}
        for name, asked in request.endpoints.items():
            place = self._places.get(name)
            wanted[place.id] = (place, asked)
        if network is not None and network.id not in wanted:
            wanted = {network.id: (network, EndpointRequest()), **wanted}
        for place, _ in wanted.values():
            self.refuse_broken(place)
        return list(wanted.values())

    def _claim(
        self, request: ConnectRequest, networks: Sequence[tuple[Network, int]], undo: Undo
    ) -> tuple[tuple[PortBinding, ...], list[Held]]:
        """The ports that a container wishes, if one of its networks (with their priorities) can have them."""
        able = [(network, priority) for network, priority in networks if publishable(network)]
        if not able:
            return (), []
        network, _ = max(able, key=lambda each: each[1])
        return self._publishing.claim(
            request.container_id, request.name, request.ports, endpoints.binding(network), undo
        )

    def _share(self, request: ConnectRequest, plan: SandboxPlan) -> Connection:
        owner = request.owner
        if owner is None:
            raise Conflict(f"cannot join network of a non running container: {plan.owner}")
        if owner.shares is not None:  # a sharer of a sharer is in the same sandbox
            owner = owner.shares
        with self._lock:
            held = self._held.get(owner.container_id)
            if held is not None and owner.sandbox is not None:
                held.sharers.add(request.container_id)
        shared = Connection(
            container_id=request.container_id,
            name=request.name,
            plan=dataclasses.replace(plan, owner=owner.container_id),
            sandbox=owner.sandbox,
            resolver_port=owner.resolver_port,
            shares=owner,
        )
        try:
            return shared.holding(listener=self.listen_beside(shared))
        except BaseException:
            self.release(shared)
            raise

    def listen_beside(self, connection: Connection) -> Listener | None:
        """More sockets for the name server of a sandbox, for one keeper more; None if it has none."""
        if connection.sandbox is None or not connection.resolver_port:
            return None
        return listen(connection.sandbox, connection.resolver_port)

    def _leave_shared(self, connection: Connection) -> None:
        held = self._held.get(connection.plan.owner)
        if held is None:
            return
        held.sharers.discard(connection.container_id)
        if held.lingers and not held.sharers:
            del self._held[connection.plan.owner]
            self._tear_down(held.connection)

    def _take_up(
        self, container_id: str, networks: Sequence[Network], id_maps: IdMaps | None
    ) -> Connection | None:
        """The lingering connection of a container that starts again, if it is in the same networks as before."""
        with self._lock:
            held = self._held.get(container_id)
            if held is None:
                return None
            old = held.connection
            same = [network.id for network, _ in old.endpoints] == [network.id for network in networks]
            same = same and old.id_maps == id_maps
            if held.lingers and same and old.sandbox is not None and self._sandboxes.exists(old.sandbox):
                return old
            if held.sharers:
                raise Conflict(
                    f"the network of container {container_id[:12]} is shared by {len(held.sharers)} running "
                    "container(s) and cannot be changed: stop them first"
                )
            del self._held[container_id]
        self._tear_down(old)
        return None

    def _publish_again(self, request: ConnectRequest, old: Connection) -> Connection:
        self._publishing.unpublish(old)
        with Undo() as undo:
            bindings, held = self._claim(request, [(n, e.gateway_priority) for n, e in old.endpoints], undo)
            connection = dataclasses.replace(old, name=request.name, ports=bindings)
            self._publishing.publish(connection, undo)
            listener = self.listen_beside(connection)
            if listener is not None:
                undo.add(listener.close)
            with self._lock:
                entry = self._held[request.container_id]
                entry.connection, entry.lingers = connection, False
            self._lingering.drop(request.container_id)
            undo.keep()
        return connection.holding(held, listener)

    def _tear_down(self, connection: Connection) -> None:
        """Every part is tried, whatever became of the others."""
        sandbox = connection.sandbox
        self._lingering.drop(connection.container_id)
        try:
            self._publishing.unpublish(connection)
        except (WherryError, OSError) as error:
            self._log.warning(f"unpublishing ports: {error}", container=connection.container_id)
        if sandbox is None:
            return
        try:
            self._sandboxes.remove(sandbox)
        except OSError as error:
            self._log.warning(f"removing the sandbox: {error}", container=connection.container_id)
        for network, endpoint in connection.endpoints:
            self._directory.drop(network, endpoint)
            if endpoint.ipv4 or network.subnets:
                self._wiring.leave(sandbox, network, endpoint)

    def resolve(self, mode: str) -> tuple[Network | None, SandboxPlan]:
        """What `--network` means: its network, if it is one, and what its driver makes of it."""
        head, separator, argument = (mode or "bridge").partition(":")
        network = known(self._places, head) if not separator or head != "container" else None
        if network is not None:
            plan: SandboxPlan = self._driver(network.driver).call("sandbox", argument=argument)
            return network, plan
        if not separator:
            raise NotFound("network", head, f"network {head} not found")
        try:
            driver = self._driver(head)
        except NotFound:
            raise InvalidRequest(f"invalid network mode: {mode}") from None
        return None, driver.call("sandbox", argument=argument)


def _placeholder(request: ConnectRequest, network: Network) -> Endpoint:
    """What a container in the host's network has there, for those who list: no link, no address."""
    return Endpoint(id=records.new_id(), container_id=request.container_id, network_id=network.id)
