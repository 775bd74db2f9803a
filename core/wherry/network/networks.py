"""The networks of an engine, whole: set up when the daemon starts, made and removed by users, connected to by containers.

`setup` is told which connections live and makes everything else fit them: links, addresses, ports, firewall; what nobody
owns goes. Connecting one container is `connections`; links are the drivers' work.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wherry.dns.directory import Directory
from wherry.errors import ConfigurationError, NotFound, WherryError
from wherry.network import host
from wherry.network.connection import Connection, ConnectRequest, NetworkSettings
from wherry.network.connections import Connections
from wherry.network.conntrack import Flows
from wherry.network.endpoints import has_names
from wherry.network.firewall.firewall import Firewall, choose
from wherry.network.firewall.model import Passage
from wherry.network.firewall.watch import Watch
from wherry.network.lingering import Lingering
from wherry.network.listening import Listener
from wherry.network.membership import Membership
from wherry.network.places import Places, refuse_members, refuse_predefined
from wherry.network.ports import Ports, PortWish
from wherry.network.promises import Promises
from wherry.network.publishing import Publishing, publications
from wherry.network.sandboxes import Sandboxes
from wherry.network.wiring import Wiring
from wherry.plugins import Driver
from wherry.spec.container import EndpointRequest
from wherry.spec.network import Desired, Network, PortBinding
from wherry.spec.services import Log
from wherry.undo import Undo

__all__ = ["ConnectRequest", "Connection", "EndpointRequest", "NetworkSettings", "Networks", "PortWish"]


class Networks:
    """Everything about networks that an engine asks for. Safe to share; calls about one container do not overlap."""

    def __init__(
        self,
        *,
        root: Path,
        exec_root: Path,
        engine_id: str,
        driver: Callable[[str], Driver],
        settings: NetworkSettings,
        log: Log,
    ) -> None:
        """`root` keeps the records of networks; sandboxes are bound below `exec_root`. Nothing is done before `setup`."""
        self._engine_id = engine_id
        self._driver = driver
        self._settings = settings
        self._log = log
        self.promises = Promises()
        self._places = Places(root, settings, engine_id, log)
        self._sandboxes = Sandboxes(exec_root / "sandboxes", log, ready=settings.ready)
        self._wiring = Wiring(driver, log, self.promises.promised)
        self._ports = Ports(settings.default_address)
        self._firewall = Firewall()
        self._flows = Flows(log)
        self._publishing = Publishing(self._ports, self._firewall, self._flows)
        self._directory = Directory(exec_root / "names", log)
        self._connections = Connections(
            driver=driver,
            places=self._places,
            lingering=Lingering(exec_root / "lingering", log),
            sandboxes=self._sandboxes,
            wiring=self._wiring,
            publishing=self._publishing,
            directory=self._directory,
            log=log,
        )
        self._membership = Membership(self._connections, self._wiring, self._publishing, self._directory)
        self._watch: Watch | None = None
        self._lock = threading.Lock()

    # ---- The engine's life

    def setup(self, live: Sequence[Connection], gone: Sequence[Connection] = ()) -> builtins.list[str]:
        """Make the kernel fit the connections that live and the networks recorded; answers what was mended.

        `gone`: those of containers that ended since they were last seen, which are still to be released.

        Nothing that is on disk, and no driver, can make it fail: a network that cannot be set up is refused by name
        when somebody wants to connect to it.
        """
        mended = self._places.load(network.id for c in live for network, _ in c.endpoints)
        self._connections.adopt(live, gone)
        mended += self._restore()
        mended += self._raise_firewall()
        mended += self._remove_strays()
        self._sandboxes.start()
        self._wiring.start()
        self._flows.start()
        for sentence in self._places.shadows():
            self._log.warning(f"{sentence}: one of the two cannot be reached from here")
        if self._firewall.active:
            self._watch = Watch(self._look_after_firewall, told=self._firewall.name == "nftables")
        return mended

    def mend(self) -> builtins.list[str]:
        """Give the kernel again what it lost (somebody flushed the firewall); answers what that was."""
        return ["the firewall's rules"] if self._firewall.mend() else []

    def close(self) -> None:
        """Let go; what containers use stays in the kernel, for the next engine on this root."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._sandboxes.close()
        self._wiring.close()
        self._flows.close()
        self._firewall.close()

    def dismantle(self) -> None:
        """Leave nothing of this engine's networks in the kernel; no container may be connected."""
        for network in self._places.all():
            self._call_if_there(network, "remove_network")
        self._firewall.clear()

    def owned(self) -> builtins.list[str]:
        """Every kernel object of this engine's networks, and every address and port given out, sorted."""
        found = [f"sandbox {name}" for name in self._sandboxes.owned()]
        found += [f"address {address}" for address in self._wiring.taken()]
        found += [f"port {port}" for port in self._ports.taken()]
        found += [f"rules {name}" for name in self._firewall.owned()]
        for name in sorted({network.driver for network in self._places.all()}):
            try:
                driver = self._driver(name)
                found += [f"{name} {thing}" for thing in driver.call("owned") or ()]
            except WherryError as error:
                self._log.warning(f"network driver {name}: {error}")
        return sorted(found)

    # ---- Networks

    def list(self) -> builtins.list[Network]:
        return self._places.all()

    def get(self, name_or_id: str) -> Network:
        """By name, id, or an id's beginning that only one has; NotFound."""
        return self._places.get(name_or_id)

    def create(self, network: Network) -> Network:
        """Make a network as asked; what was left empty is chosen. Answers it as recorded.

        Forbidden for a predefined name, Conflict for one that exists or a range that is in use, InvalidRequest.
        """
        with self._lock:
            driver = self._known_driver(network.driver or "bridge")
            planned = self._places.plan(network)
            with Undo() as undo:
                undo.add(self._places.drop, planned)
                self._places.put(planned)
                if driver.has("create_network"):
                    undo.add(driver.call, "remove_network", network=planned)
                    driver.call("create_network", network=planned)
                for zone in host.zones(planned):
                    undo.add(self._firewall.remove_zone, zone)
                    self._firewall.add_zone(zone)
                self._open_host(planned)
                undo.keep()
            return planned

    def remove(self, name: str, in_use: Callable[[str], Any]) -> None:
        """Remove a network. `in_use(id)` answers who is in it; Forbidden if anybody is, or if it always exists."""
        with self._lock:
            network = self.get(name)
            refuse_predefined(network)
            refuse_members(network, in_use)
            self._call_if_there(network, "remove_network")
            for zone in host.zones(network):
                self._firewall.remove_zone(zone)
            self._places.drop(network)
            self._directory.forget(network.id)
            self._connections.broken.pop(network.id, None)

    # ---- Connections

    def check_mode(self, mode: str) -> None:
        """InvalidRequest or NotFound for a `--network` that no container could be started with."""
        self._connections.resolve(mode)

    def connect(self, request: ConnectRequest) -> Connection:
        """Connect a container that is about to start; on an error nothing is left behind.

        The answer's `sockets` are the caller's to hand to the keeper and to close. NotFound for a network, Conflict for
        a port or an address that is taken, Unavailable for what the host cannot do now.
        """
        return self._connections.connect(request)

    def release(self, connection: Connection) -> None:
        """Undo `connect`; already released is success. Quick: the slow parts happen behind."""
        self._connections.release(connection)

    def enter(
        self, connection: Connection, network: Network, asked: EndpointRequest, request: ConnectRequest
    ) -> Connection:
        """Connect a running container to one network more; on an error nothing has changed.

        The answer's `sockets` are the caller's to hand to the keeper and to close.
        """
        return self._membership.enter(connection, network, asked, request)

    def leave(self, connection: Connection, network: Network) -> Connection:
        """Disconnect a running container from a network. NotFound if it is not in it."""
        return self._membership.leave(connection, network)

    def allow(self, connection: Connection, passages: tuple[Passage, ...]) -> Connection:
        """Let exactly these pass for a container, whatever its network says; they go with its connection."""
        return self._membership.allow(connection, passages)

    def rename(self, connection: Connection, request: ConnectRequest) -> Connection:
        """A connected container has another name now: its networks know it by that one at once."""
        return self._membership.rename(connection, request)

    def pages(self, connection: Connection) -> builtins.list[str]:
        """Files with the names of a connection's networks, in their order: `wherry.dns.directory`."""
        return [
            str(self._directory.path(network.id)) for network, _ in connection.endpoints if has_names(network)
        ]

    def listen_beside(self, connection: Connection) -> Listener | None:
        """More sockets for the name server of a connection's sandbox, for one keeper more; None if it has none."""
        return self._connections.listen_beside(connection)

    def targets(self, connection: Connection) -> dict[PortBinding, tuple[str, int]]:
        """Where the keeper is to take what comes for published ports that the firewall does not lead, or not all."""
        return self._publishing.targets(connection)

    def lingering(self, container_id: str) -> Connection | None:
        """The connection of a container that does not run any more, if others still share its sandbox."""
        return self._connections.lingering(container_id)

    def sharers(self, container_id: str) -> set[str]:
        """Ids of the containers that are in this one's sandbox with it."""
        return self._connections.sharers(container_id)

    def _known_driver(self, name: str) -> Driver:
        try:
            return self._driver(name)
        except (NotFound, ConfigurationError) as error:
            raise NotFound("network driver", name, f"could not find plugin {name}: {error}") from error

    def _look_after_firewall(self) -> None:
        try:
            if self._firewall.mend():
                self._log.warning("somebody took the firewall's rules away: they are there again")
        except WherryError as error:
            self._log.error(f"the firewall's rules are gone and cannot be written again: {error}")

    # ---- Setting up

    def _restore(self) -> builtins.list[str]:
        mended: builtins.list[str] = []
        networks, joined = self._places.all(), self._connections.joined()
        for name in sorted({network.driver for network in networks}):
            mine = tuple(network for network in networks if network.driver == name)
            try:
                driver = self._driver(name)
                if driver.has("restore"):
                    desired = Desired(networks=mine, joined=tuple(j for j in joined if j[1].driver == name))
                    mended += driver.call("restore", desired=desired) or ()
            except (WherryError, OSError) as error:
                self._log.error(f"the networks of driver {name} cannot be set up: {error}")
                self._connections.broken.update({network.id: str(error) for network in mine})
        return mended

    def _raise_firewall(self) -> builtins.list[str]:
        mended = []
        networks = [network for network in self._places.all() if network.id not in self._connections.broken]
        try:
            writer = choose(self._engine_id, self._settings.firewall) if self._settings.iptables else None
            self._firewall.use(writer)
            zones = [zone for network in networks for zone in host.zones(network)]
            wanted = [p for connection in self._connections.all() for p in publications(connection)]
            if self._firewall.set(zones, wanted):
                mended.append(f"the firewall's rules ({self._firewall.name})")
        except (WherryError, OSError) as error:
            self._log.error(f"the firewall cannot be set up: {error}")
            self._connections.broken.update(
                {network.id: str(error) for network in networks if host.zones(network)}
            )
            return mended
        for network in networks:
            try:
                mended += self._open_host(network)
            except OSError as error:
                self._log.warning(f"network {network.name}: {error}")
        return mended

    def _open_host(self, network: Network) -> builtins.list[str]:
        """The host's switches for a network: only now that the firewall guards it."""
        done: builtins.list[str] = []
        if not network.interface or not network.subnets:
            return done
        if self._settings.ip_forward and network.ipv4 and host.forward():
            done.append("switched on IP forwarding")
        if self._settings.ip_forward and network.ipv6 and host.forward_ipv6():
            done.append("switched on IPv6 forwarding")
        if self._firewall.active:
            host.admit_loopback(network.interface)
        return done

    def _remove_strays(self) -> builtins.list[str]:
        """Remove sandboxes that belong to no living connection."""
        ours = self._connections.sandboxes()
        removed = []
        for name in self._sandboxes.owned():
            if name not in ours:
                self._sandboxes.remove(self._sandboxes.named(name))
                removed.append(f"removed the sandbox of {name[:12]}, which nobody owns")
        return removed

    def _call_if_there(self, network: Network, hook: str) -> None:
        driver = self._driver(network.driver)
        if driver.has(hook):
            driver.call(hook, network=network)
