"""Real TCP and UDP between containers, their host, and a neighbour: what must pass, and what must not."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from network_house import HOST, OUTSIDE, Engine, tcp, udp

from wherry.spec.container import EndpointRequest
from wherry.spec.network import Network
from wherry.testing.network import Echo, Place, ask_tcp, ask_udp, ip, is_silent

ASK = pytest.mark.parametrize("ask", [ask_tcp, ask_udp], ids=["tcp", "udp"])
Ask = Callable[..., str]


@pytest.fixture(params=["0", "1"], ids=["bridged-unfiltered", "bridged-filtered"])
def bridged(request: pytest.FixtureRequest, host: Place) -> str:
    """Whether frames between ports of a bridge pass the host's firewall, as they do where br_netfilter is loaded."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not switch.exists():
        pytest.skip("br_netfilter is not there")
    switch.write_text(str(request.param))
    return str(request.param)


@pytest.fixture
def engine(bridged: str, engine: Engine) -> Engine:
    return engine


@ASK
def test_a_container_and_its_host_reach_each_other(engine: Engine, host: Place, ask: Ask) -> None:
    """By the bridge's address one way, by the container's the other."""
    container = engine.run()
    with Echo(host, 700, "host"), Echo(container.place, 80, "container"):
        assert ask(container.place, "172.17.0.1", 700) == "host"
        assert ask(host, container.address, 80) == "container"


@ASK
def test_containers_of_a_network_reach_each_other(engine: Engine, ask: Ask) -> None:
    """Directly, and their own addresses are seen."""
    one, two = engine.run(), engine.run()
    with Echo(two.place, 80, "two") as echo:
        assert ask(one.place, two.address, 80) == "two"
        assert echo.seen == [one.address]


@ASK
def test_a_container_reaches_the_world_by_the_hosts_address(
    engine: Engine, neighbour: Place, ask: Ask
) -> None:
    """Masquerade: outside only the host is seen."""
    container = engine.run()
    with Echo(neighbour, 80, "outside") as echo:
        assert ask(container.place, OUTSIDE, 80) == "outside"
        assert echo.seen == [HOST]


@ASK
@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "172.17.0.1", HOST])
def test_a_published_port_is_reached_from_the_host(
    engine: Engine, host: Place, neighbour: Place, ask: Ask, address: str
) -> None:
    """By every address that the host has, its loopback included."""
    container = engine.run(tcp(8080), udp(8080))
    with Echo(container.place, 80, "container"):
        assert ask(host, address, 8080) == "container"


@ASK
def test_a_published_port_is_reached_from_outside(engine: Engine, neighbour: Place, ask: Ask) -> None:
    """And the container sees who asks."""
    container = engine.run(tcp(8080), udp(8080))
    with Echo(container.place, 80, "container") as echo:
        assert ask(neighbour, HOST, 8080) == "container"
        assert echo.seen == [OUTSIDE]


@ASK
@pytest.mark.parametrize("address", ["172.17.0.1", HOST])
def test_a_container_calls_its_own_published_port(
    engine: Engine, neighbour: Place, ask: Ask, address: str
) -> None:
    """Hairpin: out to the host's address and back in."""
    container = engine.run(tcp(8080), udp(8080))
    with Echo(container.place, 80, "container"):
        assert ask(container.place, address, 8080) == "container"


@ASK
@pytest.mark.parametrize("address", ["172.17.0.1", HOST])
def test_a_container_calls_another_ones_published_port(
    engine: Engine, neighbour: Place, ask: Ask, address: str
) -> None:
    """In the same network, by the host's addresses."""
    container, other = engine.run(tcp(8080), udp(8080)), engine.run()
    with Echo(container.place, 80, "container"):
        assert ask(other.place, address, 8080) == "container"


@ASK
def test_a_port_published_on_one_address_is_not_on_others(
    engine: Engine, host: Place, neighbour: Place, ask: Ask
) -> None:
    """`-p 192.0.2.1:8080:80`."""
    container = engine.run(tcp(8080, address=HOST), udp(8080, address=HOST))
    with Echo(container.place, 80, "container"):
        assert ask(neighbour, HOST, 8080) == "container"
        assert is_silent(ask, host, "127.0.0.1", 8080)
        assert is_silent(ask, host, "172.17.0.1", 8080)


@ASK
def test_two_containers_share_a_port_on_two_addresses(
    engine: Engine, host: Place, neighbour: Place, ask: Ask
) -> None:
    """The exact address decides."""
    one = engine.run(tcp(8080, address="127.0.0.1"), udp(8080, address="127.0.0.1"))
    two = engine.run(tcp(8080, address=HOST), udp(8080, address=HOST))
    with Echo(one.place, 80, "one"), Echo(two.place, 80, "two"):
        assert ask(host, "127.0.0.1", 8080) == "one"
        assert ask(host, HOST, 8080) == "two"


# ---- What must not pass


@ASK
def test_a_neighbour_cannot_reach_what_is_published_on_loopback(
    engine: Engine, host: Place, neighbour: Place, ask: Ask
) -> None:
    """Neither by the host's address, nor by a route to 127.0.0.1 over the wire (moby #45610)."""
    container = engine.run(tcp(8080, address="127.0.0.1"), udp(8080, address="127.0.0.1"))
    _let_loopback_out(neighbour)
    with Echo(container.place, 80, "container") as echo:
        assert ask(host, "127.0.0.1", 8080) == "container"
        assert is_silent(ask, neighbour, HOST, 8080)
        assert is_silent(ask, neighbour, "127.0.0.1", 8080)
        assert len(echo.seen) == 1


@ASK
def test_a_neighbour_cannot_reach_an_unpublished_port(engine: Engine, neighbour: Place, ask: Ask) -> None:
    """A route to the bridge's range through the host leads nowhere, also to ports that are published (moby #14041)."""
    container = engine.run(tcp(8080), udp(8080))
    with Echo(container.place, 80, "container"), Echo(container.place, 81, "secret") as secret:
        assert is_silent(ask, neighbour, container.address, 81)
        assert is_silent(ask, neighbour, container.address, 80)
        assert secret.seen == []


@ASK
def test_a_container_cannot_reach_the_hosts_loopback(engine: Engine, host: Place, ask: Ask) -> None:
    """Ports on 127.0.0.1 need `route_localnet` on the bridge: that must not let containers in."""
    container = engine.run()
    _let_loopback_out(container.place)
    with Echo(host, 700, "private", address="127.0.0.1") as echo:
        assert ask(host, "127.0.0.1", 700) == "private"
        assert is_silent(ask, container.place, "127.0.0.1", 700)
        assert echo.seen == ["127.0.0.1"]


def _let_loopback_out(place: Place) -> None:
    """Whoever is root in a place can send what is for 127.0.0.1 over its wire."""
    with place.inside():
        for interface in ("all", "wire", "eth0"):
            switch = Path(f"/proc/sys/net/ipv4/conf/{interface}/route_localnet")
            if switch.exists():
                switch.write_text("1")
        device = "wire" if "wire" in ip("link") else "eth0"
        gateway = HOST if device == "wire" else "172.17.0.1"
        source = OUTSIDE if device == "wire" else "172.17.0.2"
        ip("address", "delete", "127.0.0.1/8", "dev", "lo")
        ip("route", "add", "127.0.0.1/32", "via", gateway, "dev", device, "src", source)


@ASK
def test_without_icc_containers_do_not_reach_each_other(
    make_engine: Callable[..., Engine], firewall: str, bridged: str, host: Place, ask: Ask
) -> None:
    """But the host does, and published ports are for everybody."""
    engine = make_engine(firewall=firewall, icc=False)
    one, two = engine.run(), engine.run(tcp(8080), udp(8080))
    with Echo(two.place, 80, "two"), Echo(two.place, 81, "secret") as secret:
        assert ask(host, two.address, 80) == "two"
        assert is_silent(ask, one.place, two.address, 81)
        assert secret.seen == []
        assert ask(one.place, "172.17.0.1", 8080) == "two"


@ASK
def test_networks_are_isolated_from_each_other(engine: Engine, ask: Ask) -> None:
    """Containers of two networks meet at published ports only."""
    engine.networks.create(Network(id="", name="other", driver="bridge"))
    here, there = engine.run(), engine.run(tcp(8080), udp(8080), mode="other")
    with Echo(there.place, 80, "there") as echo:
        assert is_silent(ask, here.place, there.address, 80)
        assert echo.seen == []
        assert ask(here.place, "172.17.0.1", 8080) == "there"


@ASK
def test_an_internal_network_has_no_way_out_or_in(
    engine: Engine, host: Place, neighbour: Place, ask: Ask
) -> None:
    """Its containers reach each other, and nobody else."""
    engine.networks.create(Network(id="", name="inner", driver="bridge", internal=True))
    one, two = engine.run(mode="inner"), engine.run(tcp(8080), udp(8080), mode="inner")
    with Echo(two.place, 80, "two"), Echo(neighbour, 80, "outside") as outside:
        assert ask(one.place, two.address, 80) == "two"
        one.place.ip("route", "add", "default", "via", "172.18.0.1")  # root in it may do so
        assert is_silent(ask, one.place, OUTSIDE, 80)
        assert is_silent(ask, neighbour, two.address, 80)
        assert is_silent(ask, neighbour, HOST, 8080)
        assert outside.seen == []


def test_a_container_in_two_networks_has_two_interfaces(engine: Engine) -> None:
    """Named in the order of its record; the first leads out."""
    engine.networks.create(Network(id="", name="other", driver="bridge"))
    container = engine.run(mode="bridge", endpoints={"bridge": EndpointRequest(), "other": EndpointRequest()})
    assert [e.interface for _, e in container.connection.endpoints] == ["eth0", "eth1"]
    assert "default via 172.17.0.1 dev eth0" in container.place.ip("route")
    peer = engine.run(mode="other")
    with Echo(peer.place, 80, "peer"):
        assert ask_tcp(container.place, peer.address, 80) == "peer"


def test_a_sender_that_never_pauses_reaches_a_port_published_since(
    nft_engine: Engine, neighbour: Place
) -> None:
    """UDP: the kernel's decision about the flow is forgotten when the port is published, and when it is not any more."""
    with neighbour.socket(socket.SOCK_DGRAM) as sender:
        sender.connect((HOST, 8080))

        def answer() -> str:
            for _ in range(200):
                try:
                    sender.settimeout(0.02)
                    sender.send(b"?")
                    return sender.recv(100).decode()
                except (ConnectionRefusedError, TimeoutError):
                    continue
            return ""

        with pytest.raises(OSError):
            sender.send(b"?")
            sender.settimeout(0.3)
            sender.recv(100)
        one = nft_engine.run(udp(8080))
        with Echo(one.place, 80, "one"):
            assert answer() == "one"
        nft_engine.end(one)
        two = nft_engine.run(udp(8080))
        assert two.address != one.address
        with Echo(two.place, 80, "two"):
            assert answer() == "two"


def test_forged_sources_of_loopback_are_dropped(engine: Engine, host: Place) -> None:
    """A container that claims to be 127.0.0.1 is not believed."""
    container = engine.run()
    with host.socket(socket.SOCK_DGRAM) as listening, container.place.inside():
        listening.bind(("172.17.0.1", 700))
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with raw:
            udp_part = struct.pack("!HHHH", 1000, 700, 12, 0) + b"evil"
            source, destination = socket.inet_aton("127.0.0.1"), socket.inet_aton("172.17.0.1")
            head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 1, 0, 64, 17, 0, source, destination)
            raw.sendto(head + udp_part, ("172.17.0.1", 0))
        listening.settimeout(0.3)
        with pytest.raises(TimeoutError):
            listening.recv(100)
