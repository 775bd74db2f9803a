"""Connections from start to end: whole or not at all, nothing left, found again by the next daemon."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from network_house import Engine, tcp, udp

from wherry.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unavailable, WherryError
from wherry.linux import netns
from wherry.network import publishing, wiring
from wherry.network.networks import Connection
from wherry.spec.container import EndpointRequest, IPAMChoice
from wherry.spec.network import Network, Subnet
from wherry.testing.network import Echo, Place, ask_tcp, ask_udp, eventually, ip, is_silent


def at(address: str) -> EndpointRequest:
    return EndpointRequest(ipam_config=IPAMChoice(ipv4_address=address))


def rests(engine: Engine, before: list[str]) -> None:
    """Everything is as it was; links may take the kernel a moment."""
    eventually(lambda: engine.networks.owned() == before, f"{engine.networks.owned()} became {before}")


def test_release_leaves_nothing(engine: Engine) -> None:
    """No link, sandbox, rule, address or port."""
    before = engine.networks.owned()
    containers = [engine.run(tcp(8000 + n), udp(8000 + n)) for n in range(5)]
    # A sandbox, a link, an address, and each of two ports for both IP versions.
    assert len(engine.networks.owned()) == len(before) + 5 * 7
    for container in containers:
        engine.end(container)
    rests(engine, before)


def test_release_is_idempotent_and_knows_who_came_after(nft_engine: Engine) -> None:
    """Released twice, also when the same container has been started again since."""
    before = nft_engine.networks.owned()
    first = nft_engine.run(tcp(8080), container_id="a" * 64)
    nft_engine.end(first)
    second = nft_engine.run(tcp(8080), container_id="a" * 64)
    nft_engine.networks.release(first.connection)
    with Echo(second.place, 80, "second"):
        assert ask_tcp(Place(None), "127.0.0.1", 8080) == "second"
    nft_engine.end(second)
    nft_engine.networks.release(second.connection)
    rests(nft_engine, before)


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (wiring.Wiring, "allocate"),
        (wiring.Wiring, "join"),
        (publishing.Publishing, "publish"),
    ],
    ids=["address", "join", "publish"],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_start_that_fails_leaves_nothing(
    nft_engine: Engine, monkeypatch: pytest.MonkeyPatch, what: Any, name: str, when: str
) -> None:
    """Whichever step fails, before or after its work was done."""
    before = nft_engine.networks.owned()
    works = getattr(what, name)

    def fails(*arguments: Any, **keywords: Any) -> Any:
        if when == "after":
            works(*arguments, **keywords)
        raise Unavailable("injected")

    with monkeypatch.context() as patched:
        patched.setattr(what, name, fails)
        with pytest.raises(Unavailable, match="injected"):
            nft_engine.run(tcp(8080), udp(8081))
    if name == "allocate" and when == "after":
        return  # what a step loses before it answers, only its own undoing could find
    rests(nft_engine, before)
    nft_engine.run(tcp(8080), udp(8081))


def test_a_connection_survives_json(nft_engine: Engine) -> None:
    """It travels in a run's record; descriptors do not."""
    connection = nft_engine.run(tcp(8080)).connection
    again = msgspec.json.decode(msgspec.json.encode(connection), type=Connection)
    assert again == connection
    assert connection.sockets and again.sockets == ()


def test_modes_that_have_no_network_of_their_own(nft_engine: Engine) -> None:
    """host: no sandbox; none: loopback only; container: the sandbox of the other."""
    before = nft_engine.networks.owned()
    host = nft_engine.run(mode="host")
    assert host.connection.sandbox is None
    assert [network.name for network, _ in host.connection.endpoints] == ["host"]
    none = nft_engine.run(tcp(8080), mode="none")
    assert none.connection.ports == ()
    assert next(line.split()[1] for line in none.place.ip("-o", "address").splitlines()) == "lo"
    assert "eth0" not in none.place.ip("link")
    web = nft_engine.run(name="web")
    side = nft_engine.run(mode="container:web", owner=web.connection)
    assert side.connection.sandbox == web.connection.sandbox
    for container in (host, none, side, web):
        nft_engine.end(container)
    rests(nft_engine, before)


@pytest.mark.parametrize(
    ("mode", "error", "words"),
    [
        ("nowhere", NotFound, "network nowhere not found"),
        ("container:", InvalidRequest, "container:<name|id>"),
        ("bridge:x", InvalidRequest, "no argument"),
        ("strange:x", InvalidRequest, "invalid network mode"),
    ],
)
def test_modes_that_mean_nothing(nft_engine: Engine, mode: str, error: type[WherryError], words: str) -> None:
    """Refused at create and at start alike."""
    with pytest.raises(error, match=words):
        nft_engine.networks.check_mode(mode)
    with pytest.raises(error, match=words):
        nft_engine.run(mode=mode)


def test_sharing_with_a_container_that_does_not_run_is_refused(nft_engine: Engine) -> None:
    """By its name."""
    with pytest.raises(Conflict, match="cannot join network of a non running container: web"):
        nft_engine.run(mode="container:web")


def test_a_sandbox_lives_while_somebody_shares_it(nft_engine: Engine) -> None:
    """X stops and starts again: its side-car keeps its network, X gets the same back, with its ports (moby #10462)."""
    before = nft_engine.networks.owned()
    web = nft_engine.run(tcp(8080), container_id="a" * 64, name="web")
    side = nft_engine.run(mode="container:web", owner=web.connection)
    nft_engine.end(web)
    with Echo(side.place, 80, "side"):
        assert ask_tcp(Place(None), "127.0.0.1", 8080) == "side"
    nft_engine.restart()
    again = nft_engine.run(tcp(8081), container_id="a" * 64, name="web")
    assert again.address == web.address
    assert again.connection.sandbox == side.connection.sandbox
    with Echo(again.place, 80, "web"):
        assert ask_tcp(Place(None), "127.0.0.1", 8081) == "web"
        assert is_silent(ask_tcp, Place(None), "127.0.0.1", 8080)
    nft_engine.end(again)
    nft_engine.end(side)
    rests(nft_engine, before)


# ---- Addresses and ports


def test_addresses_are_wanted_and_refused(nft_engine: Engine) -> None:
    """`--ip`: given if free; in use, outside the range or the gateway's: said."""
    kept = nft_engine.run(endpoints={"bridge": at("172.17.0.77")})
    assert kept.address == "172.17.0.77"
    assert "link/ether 02:42:ac:11:00:4d" in kept.place.ip("link")
    for address, error in (
        ("172.17.0.77", Conflict),
        ("172.17.0.1", InvalidRequest),
        ("10.0.0.1", InvalidRequest),
    ):
        with pytest.raises(error):
            nft_engine.run(endpoints={"bridge": at(address)})


def test_an_address_comes_back_with_its_container(nft_engine: Engine) -> None:
    """A fixed address is there again at once at the next start, though its old link is slow to go."""
    for _ in range(5):
        container = nft_engine.run(container_id="a" * 64, endpoints={"bridge": at("172.17.0.9")})
        with Echo(container.place, 80, "it"):
            assert ask_tcp(Place(None), "172.17.0.9", 80, timeout=0.9) == "it"
        nft_engine.end(container)


def test_a_mac_of_the_users_own(nft_engine: Engine) -> None:
    """It is the link's, and nobody else in the network gets it."""
    container = nft_engine.run(mac="92:d0:c6:0a:29:33")
    assert "link/ether 92:d0:c6:0a:29:33" in container.place.ip("link")
    with pytest.raises(Conflict, match="MAC"):
        nft_engine.run(mac="92:D0:C6:0A:29:33")


def test_an_address_that_comes_back_with_another_mac_is_found_at_once(nft_engine: Engine) -> None:
    """Host and neighbours are told; nobody talks to the old one for minutes (moby #36069)."""
    other = nft_engine.run()
    for mac in ("", "92:d0:c6:0a:29:01", "92:d0:c6:0a:29:02", ""):
        container = nft_engine.run(mac=mac, endpoints={"bridge": at("172.17.0.50")})
        with Echo(container.place, 80, "it"):
            assert ask_tcp(other.place, "172.17.0.50", 80, timeout=0.9) == "it"
            assert ask_tcp(Place(None), "172.17.0.50", 80, timeout=0.9) == "it"
        nft_engine.end(container)


def test_a_taken_port_names_its_owner(nft_engine: Engine) -> None:
    """In Docker's words, and whose it is: a container's or a program's."""
    nft_engine.run(tcp(8080), name="web")
    with pytest.raises(
        Conflict, match=r"Bind for 0\.0\.0\.0:8080 failed: port is already allocated .*container web"
    ):
        nft_engine.run(tcp(8080))
    with pytest.raises(Conflict, match=r"Bind for 127\.0\.0\.1:8080 failed: port is already allocated"):
        nft_engine.run(tcp(8080, address="127.0.0.1"))
    with Echo(Place(None), 9090, "program"):
        with pytest.raises(
            Conflict, match=rf"9090 failed: port is already allocated .*process {os.getpid()}"
        ):
            nft_engine.run(tcp(9090))


# ---- The next daemon


def test_a_new_daemon_finds_everything_as_it_was(engine: Engine) -> None:
    """Nothing is mended, traffic goes on, and what is taken is still taken."""
    web = engine.run(tcp(8080), name="web", container_id="a" * 64)
    owned = engine.networks.owned()
    assert engine.restart() == []
    assert engine.networks.owned() == owned
    with Echo(web.place, 80, "web"):
        assert ask_tcp(Place(None), "127.0.0.1", 8080) == "web"
    with pytest.raises(Conflict, match="container web"):
        engine.run(tcp(8080))
    assert engine.run().address != web.address


def test_a_container_that_ended_meanwhile_is_released(engine: Engine) -> None:
    """By its recorded connection, though this daemon never made it."""
    before = engine.networks.owned()
    web = engine.run(tcp(8080))
    for descriptor in web.connection.sockets:
        os.close(descriptor)
        engine.sockets.remove(descriptor)
    engine.running.remove(web)
    recorded = msgspec.json.decode(msgspec.json.encode(web.connection), type=Connection)
    mended = engine.restart()
    assert any("sandbox" in line for line in mended)
    engine.networks.release(recorded)
    rests(engine, before)
    engine.run(tcp(8080))


def test_whatever_was_lost_is_mended(engine: Engine, firewall: str) -> None:
    """Rules flushed, links deleted, a stray sandbox: a restart makes it right and says so."""
    web = engine.run(tcp(8080))
    engine.networks.close()
    if firewall == "nft":
        subprocess.run(["nft", "flush", "ruleset"], check=True)
    else:
        for table in ("nat", "filter"):
            subprocess.run(["iptables-legacy", "-t", table, "-F"], check=True)
    ip("link", "delete", "wherry0")
    descriptor = netns.new()
    netns.bind(descriptor, engine.root / "sandboxes" / ("f" * 64))
    os.close(descriptor)
    mended = " ".join(engine.start([web.connection]))
    for part in ("bridge", "firewall", "sandbox of ffffffffffff"):
        assert part in mended
    with Echo(web.place, 80, "web"):
        assert ask_tcp(Place(None), "127.0.0.1", 8080) == "web"
        assert ask_udp(Place(None), web.address, 80) == "web"


def test_a_flushed_firewall_is_there_again_by_itself(nft_engine: Engine) -> None:
    """Without a restart: the kernel tells, and everything is written anew, isolation included."""
    web = nft_engine.run(tcp(8080))
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    with Echo(web.place, 80, "web"):
        eventually(lambda: not is_silent(ask_tcp, Place(None), "127.0.0.1", 8080), "the port is published")
    eventually(lambda: "took the firewall" in " ".join(nft_engine.services.log.lines), "it is said")


def test_publishing_mends_a_flushed_firewall(engine: Engine, firewall: str) -> None:
    """A change that finds nothing to build on writes everything."""
    web = engine.run(tcp(8080))
    if firewall == "nft":
        subprocess.run(["nft", "flush", "ruleset"], check=True)
    else:
        for table in ("nat", "filter"):
            for flag in ("-F", "-X"):
                subprocess.run(["iptables-legacy", "-t", table, flag], check=True)
    other = engine.run(tcp(8081))
    with Echo(web.place, 80, "web"), Echo(other.place, 80, "other"):
        assert ask_tcp(Place(None), "127.0.0.1", 8080) == "web"
        assert ask_tcp(Place(None), "127.0.0.1", 8081) == "other"


def test_a_damaged_record_stops_nobody(nft_engine: Engine) -> None:
    """It is set aside and said; the rest works."""
    made = nft_engine.networks.create(Network(id="", name="mine", driver="bridge"))
    nft_engine.networks.close()
    (nft_engine.root / "networks" / f"{made.id}.json").write_text('{"id": 3')
    nft_engine.start()
    assert {network.name for network in nft_engine.networks.list()} == {"bridge", "host", "none"}
    assert "damaged" in " ".join(nft_engine.services.log.lines)
    nft_engine.run(tcp(8080))


# ---- Networks of users


def test_a_network_is_made_listed_and_removed(engine: Engine) -> None:
    """With a range that is free; nothing of it is left."""
    before = engine.networks.owned()
    made = engine.networks.create(Network(id="", name="mine", driver="bridge"))
    assert made.subnets[0].cidr == "172.18.0.0/24"
    assert engine.networks.get("mine") == engine.networks.get(made.id[:12]) == made
    engine.restart()
    assert engine.networks.get("mine") == made
    with pytest.raises(Forbidden, match="active endpoints"):
        engine.networks.remove("mine", in_use=lambda i: {"a": i})
    engine.networks.remove("mine", in_use=lambda i: {})
    assert engine.networks.owned() == before
    with pytest.raises(NotFound):
        engine.networks.get("mine")


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"name": "bridge"}, Forbidden),
        ({"name": "x", "driver": "host"}, Forbidden),
        ({"name": "x", "driver": "nosuch"}, NotFound),
        ({"name": "a/b"}, InvalidRequest),
        ({"name": "x", "subnets": (Subnet(cidr="172.17.5.0/24"),)}, Conflict),
        ({"name": "x", "subnets": (Subnet(cidr="not a range"),)}, InvalidRequest),
        ({"name": "x", "subnets": (Subnet(cidr="10.5.0.0/24", gateway="10.6.0.1"),)}, InvalidRequest),
        (
            {"name": "x", "options": {"com.docker.network.bridge.name": "much too long for a link"}},
            InvalidRequest,
        ),
        ({"name": "x", "options": {"com.docker.network.driver.mtu": "big"}}, InvalidRequest),
    ],
)
def test_networks_that_cannot_be(nft_engine: Engine, asked: dict[str, Any], error: type[WherryError]) -> None:
    """Refused, and nothing is left of them."""
    before = nft_engine.networks.owned(), nft_engine.networks.list()
    with pytest.raises(error):
        nft_engine.networks.create(Network(**{"id": "", "driver": "bridge", **asked}))
    assert (nft_engine.networks.owned(), nft_engine.networks.list()) == before


def test_a_predefined_network_cannot_be_removed(nft_engine: Engine) -> None:
    """bridge, host and none always exist."""
    for name in ("bridge", "host", "none"):
        with pytest.raises(Forbidden):
            nft_engine.networks.remove(name, in_use=lambda i: {})


def test_a_range_that_the_host_uses_is_not_taken(host: Place, make_engine: Callable[..., Engine]) -> None:
    """A VPN's route, an interface's address: the next free range is chosen (moby #21847)."""
    ip("link", "add", "vpn", "type", "bridge")
    ip("link", "set", "vpn", "up")
    ip("address", "add", "172.16.5.1/14", "dev", "vpn")
    engine = make_engine(firewall="nft")
    assert engine.networks.get("bridge").subnets[0].cidr == "172.20.0.0/16"


def test_the_bridges_own_words(make_engine: Callable[..., Engine]) -> None:
    """`--bip`, `--fixed-cidr`, `--bridge`, `--mtu`."""
    engine = make_engine(
        bridge="mybridge", bip="10.77.0.1/16", fixed_cidr="10.77.8.0/24", mtu=1400, firewall="nft"
    )
    container = engine.run()
    assert container.address.startswith("10.77.8.")
    assert "mtu 1400" in container.place.ip("link", "show", "eth0")
    assert "10.77.0.1/16" in ip("address", "show", "mybridge")
    engine.end(container)
    mended = engine.restart(bip="10.78.0.1/16", fixed_cidr="")
    assert any("10.78.0.0/16" in line for line in mended)
    assert engine.run().address.startswith("10.78.")
    assert "10.77.0.1" not in ip("address", "show", "mybridge")


def test_without_a_bridge(make_engine: Callable[..., Engine]) -> None:
    """`--bridge none`: no default network."""
    engine = make_engine(bridge="none", firewall="nft")
    with pytest.raises(NotFound):
        engine.run()
    engine.run(mode="none")


def test_without_a_firewall(make_engine: Callable[..., Engine]) -> None:
    """`--iptables=false`: containers run, no rule is written, and keepers take what comes for published ports."""
    engine = make_engine(iptables=False)
    container = engine.run()
    with Echo(container.place, 80, "it"):
        assert ask_tcp(Place(None), container.address, 80) == "it"
    published = engine.run(tcp(8080))
    targets = engine.networks.targets(published.connection)
    assert set(targets.values()) == {(published.address, 80)} and len(targets) == 2
    assert subprocess.run(["nft", "list", "ruleset"], capture_output=True).stdout == b""


def test_two_engines_share_a_host(make_engine: Callable[..., Engine], firewall: str) -> None:
    """Different bridges and roots: neither sees, mends or removes what is the other's; a port is for one."""
    one = make_engine("one", "aaaaaaaa", firewall=firewall, bridge="one0")
    two = make_engine("two", "bbbbbbbb", firewall=firewall, bridge="two0")
    assert one.networks.get("bridge").subnets != two.networks.get("bridge").subnets
    first, second = one.run(tcp(8080)), two.run(tcp(8081))
    owned = one.networks.owned()
    assert two.restart() == []
    assert one.networks.owned() == owned
    with pytest.raises(Conflict, match="port is already allocated"):
        two.run(tcp(8080))
    with Echo(first.place, 80, "one"), Echo(second.place, 80, "two"):
        assert ask_tcp(Place(None), "127.0.0.1", 8080) == "one"
        assert ask_tcp(Place(None), "127.0.0.1", 8081) == "two"
        assert is_silent(ask_tcp, first.place, second.address, 80)


def test_a_bridge_of_another_engine_is_refused_by_name(make_engine: Callable[..., Engine]) -> None:
    """The engine starts all the same; whoever wants the bridge is told."""
    make_engine("one", "aaaaaaaa", firewall="nft")
    two = make_engine("two", "bbbbbbbb", firewall="nft")
    with pytest.raises(Unavailable, match="belongs to another engine"):
        two.run()
    two.run(mode="none")


def test_a_bridge_that_somebody_else_made_is_used_and_kept(
    host: Place, make_engine: Callable[..., Engine]
) -> None:
    """`--bridge br0` of the host's own."""
    ip("link", "add", "br0", "type", "bridge")
    ip("address", "add", "10.9.0.1/24", "dev", "br0")
    ip("link", "set", "br0", "up")
    engine = make_engine(bridge="br0", firewall="nft")
    assert engine.run().address.startswith("10.9.0.")
    for container in list(engine.running):
        engine.end(container)
    engine.networks.dismantle()
    assert "br0" in ip("link")


def test_dismantling_leaves_nothing(engine: Engine) -> None:
    """What `make stop` needs."""
    engine.networks.create(Network(id="", name="mine", driver="bridge"))
    engine.networks.dismantle()
    assert engine.networks.owned() == []
