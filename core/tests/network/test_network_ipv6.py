"""Real TCP and UDP by IPv6: between containers, their host, and a neighbour; what must pass, and what must not."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest
from network_house import HOST6, OUTSIDE6, Engine, tcp, udp

from wherry.errors import InvalidRequest
from wherry.network.networks import PortWish
from wherry.spec.container import EndpointRequest, IPAMChoice
from wherry.spec.network import Network, Subnet
from wherry.testing.network import Echo, Place, ask_tcp, ask_udp, ip, is_silent

ASK = pytest.mark.parametrize("ask", [ask_tcp, ask_udp], ids=["tcp", "udp"])
Ask = Callable[..., str]


@pytest.fixture
def engine(make_engine: Callable[..., Engine], firewall: str) -> Engine:
    """One whose default network has IPv6, once with each firewall."""
    return make_engine(firewall=firewall, ipv6=True)


def gateway(engine: Engine, name: str = "bridge") -> str:
    return engine.networks.get(name).subnets[1].gateway


def ports(number: int, address: str = "") -> tuple[PortWish, PortWish]:
    return tcp(number, address=address), udp(number, address=address)


def test_the_default_network_has_a_range_of_its_own(engine: Engine) -> None:
    """Unique local, the same after a restart; containers have a global and a link-local address, and a way out."""
    container = engine.run()
    range_ = engine.networks.get("bridge").subnets[1].cidr
    assert ipaddress.IPv6Network(range_).subnet_of(ipaddress.IPv6Network("fd00::/8"))
    shown = container.place.ip("-6", "-o", "address", "show", "dev", "eth0")
    assert f"{container.ipv6}/64 scope global" in shown and "fe80::" in shown and "tentative" not in shown
    assert f"default via {gateway(engine)} dev eth0" in container.place.ip("-6", "route")
    assert "fe80::1/64" in ip("-6", "-o", "address", "show", "dev", "wherry0")
    engine.restart()
    assert engine.networks.get("bridge").subnets[1].cidr == range_


def test_a_fixed_range_is_used(make_engine: Callable[..., Engine]) -> None:
    """`--fixed-cidr-v6`, `--default-gateway-v6`."""
    engine = make_engine(
        firewall="nft", ipv6=True, fixed_cidr_v6="2001:db8:77::/64", default_gateway_v6="2001:db8:77::9"
    )
    container = engine.run()
    assert container.ipv6 == "2001:db8:77::2"
    assert "default via 2001:db8:77::9" in container.place.ip("-6", "route")


def test_without_ipv6_containers_have_none(make_engine: Callable[..., Engine]) -> None:
    """Nor can they be talked into it: an address that nobody asked for is a way around the firewall."""
    engine = make_engine(firewall="nft")
    container = engine.run()
    assert container.place.ip("-6", "address", "show", "dev", "eth0") == ""


@ASK
def test_a_container_and_its_host_reach_each_other(engine: Engine, host: Place, ask: Ask) -> None:
    container = engine.run()
    with Echo(host, 700, "host"), Echo(container.place, 80, "container"):
        assert ask(container.place, gateway(engine), 700) == "host"
        assert ask(host, container.ipv6, 80) == "container"


@ASK
def test_containers_of_a_network_reach_each_other(engine: Engine, ask: Ask) -> None:
    one, two = engine.run(), engine.run()
    with Echo(two.place, 80, "two") as echo:
        assert ask(one.place, two.ipv6, 80) == "two"
        assert echo.seen == [one.ipv6]


@ASK
def test_a_container_reaches_the_world_by_the_hosts_address(
    engine: Engine, neighbour: Place, ask: Ask
) -> None:
    """NAT66: a range of the engine's own means nothing outside."""
    container = engine.run()
    with Echo(neighbour, 80, "outside") as echo:
        assert ask(container.place, OUTSIDE6, 80) == "outside"
        assert echo.seen == [HOST6]


@ASK
def test_a_published_port_is_reached_from_outside_and_the_host(
    engine: Engine, host: Place, neighbour: Place, ask: Ask
) -> None:
    """And the container sees who asks. (::1 is the keeper's: no kernel lets it out of the loopback.)"""
    container = engine.run(*ports(8080))
    with Echo(container.place, 80, "container") as echo:
        assert ask(neighbour, HOST6, 8080) == "container"
        assert echo.seen == [OUTSIDE6]
        assert ask(host, HOST6, 8080) == "container"
        assert ask(host, gateway(engine), 8080) == "container"


@ASK
def test_hairpin(engine: Engine, neighbour: Place, ask: Ask) -> None:
    """A container, and another of its network, call its published port by the host's addresses."""
    container, other = engine.run(*ports(8080)), engine.run()
    with Echo(container.place, 80, "container"):
        for place in (container.place, other.place):
            for address in (HOST6, gateway(engine)):
                assert ask(place, address, 8080) == "container"


@ASK
def test_a_port_of_one_address_is_not_on_others(
    engine: Engine, host: Place, neighbour: Place, ask: Ask
) -> None:
    """`-p [2001:db8::1]:8080:80`: neither by other addresses of IPv6 nor by IPv4."""
    container = engine.run(*ports(8080, HOST6))
    with Echo(container.place, 80, "container"):
        assert ask(neighbour, HOST6, 8080) == "container"
        assert is_silent(ask, host, gateway(engine), 8080)
        assert is_silent(ask, host, "127.0.0.1", 8080)


@ASK
def test_a_neighbour_cannot_reach_an_unpublished_port(engine: Engine, neighbour: Place, ask: Ask) -> None:
    """By a route to the network's range, also a port that is published."""
    container = engine.run(*ports(8080))
    with Echo(container.place, 80, "container") as echo, Echo(container.place, 81, "secret") as secret:
        assert is_silent(ask, neighbour, container.ipv6, 81)
        assert is_silent(ask, neighbour, container.ipv6, 80)
        assert secret.seen == echo.seen == []


@ASK
def test_without_icc_containers_do_not_reach_each_other(
    make_engine: Callable[..., Engine], firewall: str, host: Place, ask: Ask
) -> None:
    engine = make_engine(firewall=firewall, ipv6=True, icc=False)
    one, two = engine.run(), engine.run(*ports(8080))
    with Echo(two.place, 80, "two"), Echo(two.place, 81, "secret") as secret:
        assert ask(host, two.ipv6, 80) == "two"
        assert is_silent(ask, one.place, two.ipv6, 81)
        assert secret.seen == []
        assert ask(one.place, gateway(engine), 8080) == "two"


@ASK
def test_networks_are_isolated_from_each_other(engine: Engine, ask: Ask) -> None:
    engine.networks.create(Network(id="", name="other", driver="bridge", ipv6=True))
    here, there = engine.run(), engine.run(*ports(8080), mode="other")
    with Echo(there.place, 80, "there") as echo:
        assert is_silent(ask, here.place, there.ipv6, 80)
        assert echo.seen == []
        assert ask(here.place, gateway(engine), 8080) == "there"


@ASK
def test_an_internal_network_has_no_way_out_or_in(
    engine: Engine, host: Place, neighbour: Place, ask: Ask
) -> None:
    """Also for who is root in it, and by an IP version that the network does not have."""
    engine.networks.create(Network(id="", name="inner", driver="bridge", ipv6=True, internal=True))
    engine.networks.create(Network(id="", name="four", driver="bridge", internal=True))
    one, two = engine.run(mode="inner"), engine.run(mode="inner")
    with Echo(two.place, 80, "two"), Echo(neighbour, 80, "outside") as outside:
        assert ask(one.place, two.ipv6, 80) == "two"
        one.place.ip("-6", "route", "add", "default", "via", gateway(engine, "inner"))
        assert is_silent(ask, one.place, OUTSIDE6, 80)
        assert is_silent(ask, neighbour, two.ipv6, 80)
        lone = engine.run(mode="four")
        with lone.place.inside():
            Path("/proc/sys/net/ipv6/conf/eth0/disable_ipv6").write_text("0")
        bridge = engine.networks.get("four").interface
        ip("-6", "address", "add", "fd99::1/64", "dev", bridge, "nodad")  # as if the host were so kind
        lone.place.ip("-6", "address", "add", "fd99::2/64", "dev", "eth0", "nodad")
        lone.place.ip("-6", "route", "add", "default", "via", "fd99::1")
        assert is_silent(ask, lone.place, OUTSIDE6, 80)
        assert outside.seen == []


def test_a_network_of_ipv6_alone(engine: Engine, neighbour: Place) -> None:
    """`--ipv4=false`."""
    made = engine.networks.create(Network(id="", name="six", driver="bridge", ipv4=False, ipv6=True))
    assert [subnet.is_ipv6 for subnet in made.subnets] == [True]
    container = engine.run(*ports(8080), mode="six")
    endpoint = container.connection.endpoints[0][1]
    assert endpoint.ipv4 == "" and endpoint.mac.startswith("02:42:")
    with Echo(container.place, 80, "six"), Echo(neighbour, 80, "outside"):
        assert ask_tcp(neighbour, HOST6, 8080) == "six"
        assert ask_tcp(container.place, OUTSIDE6, 80) == "outside"
    # What comes by IPv4 is for the keeper.
    targets = engine.networks.targets(container.connection)
    assert {(port.protocol, port.host_address): target for port, target in targets.items()} == {
        (protocol, address): (container.ipv6, 80) for protocol in ("tcp", "udp") for address in ("", "::")
    }


def test_addresses_that_were_asked_for(engine: Engine) -> None:
    """`--ip6`, `--link-local-ip`; what is of no range of the network is refused."""
    subnets = (Subnet(cidr="10.5.0.0/24"), Subnet(cidr="fd05::/64"))
    engine.networks.create(Network(id="", name="mine", driver="bridge", ipv6=True, subnets=subnets))
    asked = EndpointRequest(
        ipam_config=IPAMChoice(
            ipv4_address="10.5.0.9", ipv6_address="fd05::9", link_local_ips=["169.254.7.7", "fe80::7"]
        )
    )
    container = engine.run(mode="mine", endpoints={"mine": asked})
    shown = container.place.ip("-o", "address", "show", "dev", "eth0")
    for address in ("10.5.0.9/24", "fd05::9/64", "169.254.7.7/16", "fe80::7/64"):
        assert address in shown
    wrong = EndpointRequest(ipam_config=IPAMChoice(ipv6_address="fd06::9"))
    before = engine.networks.owned()
    with pytest.raises(InvalidRequest, match="does not belong to any of this network's subnets"):
        engine.run(mode="mine", endpoints={"mine": wrong})
    assert engine.networks.owned() == before


def test_a_host_that_forwards_keeps_its_own_way_out(
    make_engine: Callable[..., Engine], neighbour: Place
) -> None:
    """One that has it from a router's advertisement would lose it: accept_ra must be 2 then; bridges take none."""
    accept = Path("/proc/sys/net/ipv6/conf/uplink/accept_ra")
    accept.write_text("1")
    make_engine(firewall="nft", ipv6=True)
    assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text().strip() == "1"
    assert accept.read_text().strip() == "2"
    assert Path("/proc/sys/net/ipv6/conf/wherry0/accept_ra").read_text().strip() == "0"


def test_everything_survives_a_restart_and_a_flush(engine: Engine, neighbour: Place) -> None:
    """Addresses, ports, rules of both IP versions."""
    container = engine.run(*ports(8080))
    engine.restart()
    assert engine.networks.mend() == []
    with Echo(container.place, 80, "container"):
        assert ask_tcp(neighbour, HOST6, 8080) == "container"
    before = engine.networks.owned()
    other = engine.run(*ports(8081))
    assert other.ipv6 != container.ipv6
    engine.end(other)
    engine.end(container)
    engine.networks.close()
    engine.start()
    assert [name for name in engine.networks.owned() if name.startswith(("port", "address"))] == []
    assert before
