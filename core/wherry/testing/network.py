"""The contract of network drivers as a test suite, and network namespaces to try networks in.

    class TestMine(NetworkDriverContract):
        @pytest.fixture
        def driver(self, services: Services) -> MyNetwork:
            return MyNetwork(services=services)

Every test runs in a network namespace of its own, as root: whatever a driver does to "the host", this machine never
sees it. A driver that wires endpoints, that has `join`, is held to `WiringDriverContract`.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from wherry.errors import InvalidRequest, WherryError
from wherry.linux import links, netns
from wherry.linux.netlink import Netlink
from wherry.plugins import Resolved, examine
from wherry.spec.network import Desired, Endpoint, Joined, Network, Sandbox, SandboxPlan, Subnet

ENGINE_ID: Final = "0a1b2c3d"
DEADLINE: Final = 10.0


# ---- Namespaces and what talks in them


@contextmanager
def own_network() -> Iterator[None]:
    """The calling thread, and every thread and program that it starts, are in a new network namespace with `lo` up.

    As on a host, links there have IPv6.
    """
    descriptor = netns.new(ipv6=True)
    try:
        with netns.inside(descriptor):
            yield
    finally:
        os.close(descriptor)


def ip(*arguments: str) -> str:
    """Run ip(8) in the calling thread's network namespace."""
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def eventually(condition: Callable[[], Any], what: str, timeout: float = DEADLINE) -> None:
    """Poll until `condition()` is true; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not hold within {timeout} s"
        time.sleep(0.005)


@dataclass
class Place:
    """A network namespace to talk from: a container's sandbox, a neighbour, the host. `where` None is right here."""

    where: int | str | None

    @contextmanager
    def inside(self) -> Iterator[None]:
        if self.where is None:
            yield
        else:
            with netns.inside(self.where):
                yield

    def socket(self, kind: socket.SocketKind = socket.SOCK_STREAM, address: str = "") -> socket.socket:
        """A socket of this place, with a deadline on all it does; of the IP version that `address` is of."""
        with self.inside():
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        made.settimeout(DEADLINE)
        return made

    def ip(self, *arguments: str) -> str:
        with self.inside():
            return ip(*arguments)


@dataclass
class Echo:
    """A server that answers what it hears with its own name: TCP and UDP on one port, until closed.

    It listens on every address, of both IP versions, unless it is told otherwise.
    """

    place: Place
    port: int
    name: str
    address: str = "::"
    seen: list[str] = field(default_factory=list)
    """The source address of each conversation."""

    def __enter__(self) -> Echo:
        self._closing = threading.Event()
        self._tcp = self.place.socket(address=self.address)
        self._udp = self.place.socket(socket.SOCK_DGRAM, self.address)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.address == "::":
            for made in (self._tcp, self._udp):
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._tcp.bind((self.address, self.port))
        self._udp.bind((self.address, self.port))
        self._tcp.listen()
        self._threads = [
            threading.Thread(target=serve, daemon=True) for serve in (self._serve_tcp, self._serve_udp)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._tcp.shutdown(socket.SHUT_RDWR)
        own = self.address if self.address not in ("::", "0.0.0.0") else "127.0.0.1"
        with self.place.socket(socket.SOCK_DGRAM, own) as wake:
            wake.sendto(b"", (own, self.port))
        for thread in self._threads:
            thread.join(DEADLINE)
        self._tcp.close()
        self._udp.close()

    def _serve_tcp(self) -> None:
        while True:
            try:
                talk, source = self._tcp.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.seen.append(source[0].removeprefix("::ffff:"))
            with talk:
                talk.sendall(self.name.encode())

    def _serve_udp(self) -> None:
        while not self._closing.is_set():
            try:
                _, source = self._udp.recvfrom(1500)
            except TimeoutError:
                continue
            if not self._closing.is_set():
                self.seen.append(source[0].removeprefix("::ffff:"))
                self._udp.sendto(self.name.encode(), source)


def ask_tcp(place: Place, address: str, port: int, timeout: float = DEADLINE) -> str:
    """What an `Echo` answers by TCP; OSError if nobody does."""
    with place.socket(address=address) as asking:
        asking.settimeout(timeout)
        asking.connect((address, port))
        return asking.recv(1500).decode()


def ask_udp(place: Place, address: str, port: int, timeout: float = DEADLINE) -> str:
    """What an `Echo` answers by UDP; OSError if nobody does."""
    with place.socket(socket.SOCK_DGRAM, address) as asking:
        asking.settimeout(timeout)
        asking.connect((address, port))
        asking.send(b"?")
        return asking.recv(1500).decode()


def is_silent(ask: Callable[..., str], place: Place, address: str, port: int, timeout: float = 0.4) -> bool:
    """Whether nobody answers: refused, unreachable, or quiet for `timeout` seconds."""
    try:
        ask(place, address, port, timeout)
    except OSError:
        return True
    return False


# ---- Services for a driver


@dataclass
class Lines:
    """A log that keeps its lines."""

    lines: list[str] = field(default_factory=list)

    def debug(self, message: str, **fields: Any) -> None:
        pass

    def info(self, message: str, **fields: Any) -> None:
        self.lines.append(f"info {message}")

    def warning(self, message: str, **fields: Any) -> None:
        self.lines.append(f"warning {message}")

    def error(self, message: str, **fields: Any) -> None:
        self.lines.append(f"error {message}")


@dataclass
class EngineServices:
    """`wherry.spec.services.Services` for tests."""

    engine_id: str = ENGINE_ID
    cgroup_parent: str = f"/wherry-{ENGINE_ID}/containers"
    log: Lines = field(default_factory=Lines)


class NetworkDriverContract:
    """What every network driver promises. Override `driver`, and what fits your driver's words."""

    argument = ""
    """What follows `--network <name>:`."""
    bad_argument: str | None = "nonsense"
    """An argument that the driver refuses; None if it takes any."""

    @pytest.fixture(autouse=True)
    def namespace(self) -> Iterator[None]:
        with own_network():
            yield

    @pytest.fixture
    def services(self) -> EngineServices:
        return EngineServices()

    @pytest.fixture
    def driver(self, services: EngineServices) -> Any:
        raise NotImplementedError("a contract class names the driver it is about")

    def test_the_class_meets_the_specification(self, driver: Any) -> None:
        """Its hooks are those of the contract, marked, with the contract's arguments."""
        kind = type(driver)
        examine(Resolved(kind="network", name="test", module=kind.__module__, attribute=kind.__qualname__))

    def test_a_mode_says_what_it_means_for_a_sandbox(self, driver: Any) -> None:
        """`sandbox` answers own, host or shared; shared names whose."""
        plan = driver.sandbox(argument=self.argument)
        assert isinstance(plan, SandboxPlan)
        assert plan.kind in ("own", "host", "shared")
        assert (plan.kind == "shared") == bool(plan.owner)

    def test_a_bad_argument_is_refused(self, driver: Any) -> None:
        """An argument that means nothing is the user's mistake, and said in one sentence."""
        if self.bad_argument is None:
            pytest.skip("this driver takes any argument")
        with pytest.raises(InvalidRequest) as refused:
            driver.sandbox(argument=self.bad_argument)
        assert str(refused.value)


class WiringDriverContract(NetworkDriverContract):
    """What a driver that wires endpoints promises besides: it leaves nothing, finds again what was lost, removes strays.

    `loses` says how an endpoint's link is lost.
    """

    @pytest.fixture
    def network(self, driver: Any) -> Network:
        """A network of this driver as the core would record it."""
        subnet = Subnet(cidr="10.99.0.0/24", gateway="10.99.0.1")
        return Network(
            id=secrets.token_hex(32), name="test", driver="test", subnets=(subnet,), interface="wtest0"
        )

    @pytest.fixture
    def made(self, driver: Any, network: Network) -> Iterator[Network]:
        """The network, made; removed after."""
        driver.create_network(network=network)
        yield network
        driver.remove_network(network=network)

    @pytest.fixture
    def sandboxes(self, tmp_path: Path) -> Iterator[Callable[[], Sandbox]]:
        """Makes sandboxes; they are removed after the test."""
        with ExitStack() as after:

            def make() -> Sandbox:
                identity = secrets.token_hex(32)
                path = tmp_path / identity
                descriptor = netns.new()
                try:
                    netns.bind(descriptor, path)
                finally:
                    os.close(descriptor)
                after.callback(netns.unbind, path)
                return Sandbox(id=identity, path=str(path))

            yield make

    def endpoint(self, sandbox: Sandbox, network: Network, last: int = 2) -> Endpoint:
        """A place in the test network, its address ending in `last`."""
        return Endpoint(
            id=secrets.token_hex(32),
            container_id=sandbox.id,
            network_id=network.id,
            mac=f"02:42:0a:63:00:{last:02x}",
            ipv4=f"10.99.0.{last}",
            ipv4_prefix=24,
            ipv4_gateway="10.99.0.1",
        )

    def loses(self, driver: Any, joined: Joined) -> None:
        """Take an endpoint's link away behind the driver's back."""
        if not joined.host_interface:
            pytest.skip("this driver's links have no end on the host")
        ip("link", "delete", joined.host_interface)

    def test_making_a_network_twice_is_success(self, driver: Any, made: Network) -> None:
        """Already as wanted is success, and makes nothing more."""
        before = driver.owned()
        driver.create_network(network=made)
        assert driver.owned() == before

    def test_a_removed_network_leaves_nothing(self, driver: Any, made: Network) -> None:
        """`remove_network` undoes `create_network`; already gone is success."""
        driver.remove_network(network=made)
        assert driver.owned() == []
        driver.remove_network(network=made)

    def test_a_joined_sandbox_reaches_the_host(
        self, driver: Any, made: Network, sandboxes: Callable[[], Sandbox]
    ) -> None:
        """After `join` a first packet passes at once: nobody waits a second for a lost one."""
        sandbox = sandboxes()
        endpoint = self.endpoint(sandbox, made)
        joined = driver.join(sandbox=sandbox, network=made, endpoint=endpoint)
        assert joined.mac == endpoint.mac
        here, there = Place(None), Place(sandbox.path)
        with Echo(here, 7, "host"):
            began = time.monotonic()
            assert ask_tcp(there, "10.99.0.1", 7) == "host"
            assert time.monotonic() - began < 0.9
        driver.leave(sandbox=sandbox, network=made, endpoint=endpoint)

    def test_two_sandboxes_reach_each_other(
        self, driver: Any, made: Network, sandboxes: Callable[[], Sandbox]
    ) -> None:
        """Endpoints of one network, with icc, are neighbours."""
        first, second = sandboxes(), sandboxes()
        ends = [(first, self.endpoint(first, made, 2)), (second, self.endpoint(second, made, 3))]
        for sandbox, endpoint in ends:
            driver.join(sandbox=sandbox, network=made, endpoint=endpoint)
        with Echo(Place(second.path), 7, "second"):
            assert ask_tcp(Place(first.path), "10.99.0.3", 7) == "second"
        for sandbox, endpoint in ends:
            driver.leave(sandbox=sandbox, network=made, endpoint=endpoint)

    def test_leaving_undoes_joining(
        self, driver: Any, made: Network, sandboxes: Callable[[], Sandbox]
    ) -> None:
        """After `leave` the driver owns what it did before; leaving again is success."""
        before = driver.owned()
        sandbox = sandboxes()
        endpoint = self.endpoint(sandbox, made)
        driver.join(sandbox=sandbox, network=made, endpoint=endpoint)
        assert driver.owned() != before
        driver.leave(sandbox=sandbox, network=made, endpoint=endpoint)
        assert driver.owned() == before
        driver.leave(sandbox=sandbox, network=made, endpoint=endpoint)

    def test_leaving_a_sandbox_that_is_gone_is_success(
        self, driver: Any, made: Network, sandboxes: Callable[[], Sandbox]
    ) -> None:
        """The kernel clears up a sandbox on its own; `leave` afterwards finds nothing to do, or does the rest."""
        before = driver.owned()
        sandbox = sandboxes()
        endpoint = self.endpoint(sandbox, made)
        driver.join(sandbox=sandbox, network=made, endpoint=endpoint)
        netns.unbind(Path(sandbox.path))
        driver.leave(sandbox=sandbox, network=made, endpoint=endpoint)
        eventually(lambda: driver.owned() == before, "the driver owns what it did before")

    def test_a_failed_join_leaves_nothing(
        self, driver: Any, made: Network, sandboxes: Callable[[], Sandbox]
    ) -> None:
        """Whole or not at all: here the interface's name is taken in the sandbox."""
        before = driver.owned()
        sandbox = sandboxes()
        Place(sandbox.path).ip("link", "add", "eth0", "type", "bridge")
        with pytest.raises((WherryError, OSError)):
            driver.join(sandbox=sandbox, network=made, endpoint=self.endpoint(sandbox, made))
        assert driver.owned() == before

    def test_restoring_what_is_there_changes_nothing(
        self, driver: Any, made: Network, sandboxes: Callable[[], Sandbox]
    ) -> None:
        """A daemon's restart is not seen by containers: `restore` of what exists mends nothing."""
        sandbox = sandboxes()
        endpoint = self.endpoint(sandbox, made)
        driver.join(sandbox=sandbox, network=made, endpoint=endpoint)
        desired = Desired(networks=(made,), joined=((sandbox, made, endpoint),))
        before = Place(sandbox.path).ip("-o", "link"), driver.owned()
        assert driver.restore(desired=desired) == []
        assert (Place(sandbox.path).ip("-o", "link"), driver.owned()) == before
        driver.leave(sandbox=sandbox, network=made, endpoint=endpoint)

    def test_restoring_makes_what_was_lost(
        self, driver: Any, made: Network, sandboxes: Callable[[], Sandbox]
    ) -> None:
        """A link that somebody deleted is there again, and said to have been mended."""
        sandbox = sandboxes()
        endpoint = self.endpoint(sandbox, made)
        self.loses(driver, driver.join(sandbox=sandbox, network=made, endpoint=endpoint))
        assert driver.restore(desired=Desired(networks=(made,), joined=((sandbox, made, endpoint),)))
        with Echo(Place(None), 7, "host"):
            assert ask_tcp(Place(sandbox.path), "10.99.0.1", 7) == "host"
        driver.leave(sandbox=sandbox, network=made, endpoint=endpoint)

    def test_restoring_removes_what_nobody_owns(
        self, driver: Any, made: Network, sandboxes: Callable[[], Sandbox]
    ) -> None:
        """What a crash left behind goes; what is not this driver's stays."""
        ip("link", "add", "foreign0", "type", "bridge")
        before = driver.owned()
        sandbox = sandboxes()
        driver.join(sandbox=sandbox, network=made, endpoint=self.endpoint(sandbox, made))
        assert driver.restore(desired=Desired(networks=(made,)))
        assert driver.owned() == before
        driver.restore(desired=Desired())
        assert driver.owned() == []
        with Netlink() as nl:
            assert links.find(nl, "foreign0") is not None

    def test_another_engine_is_left_alone(self, driver: Any, made: Network) -> None:
        """What carries another engine's id is not ours: two daemons share a host."""
        other = type(driver)(services=EngineServices(engine_id="ffffffff"))
        assert other.owned() == []
        before = driver.owned()
        other.restore(desired=Desired())
        assert driver.owned() == before
