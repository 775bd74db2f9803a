"""Who may have which port of the host."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from wherry.errors import Conflict, InvalidRequest, WherryError
from wherry.network import binding
from wherry.network.ports import EPHEMERAL, Owner, Ports, PortWish
from wherry.spec.network import PortBinding
from wherry.testing.network import own_network

WEB = Owner(container_id="a" * 64, name="web")


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with own_network():
        yield


@pytest.fixture
def ports() -> Ports:
    return Ports()


def claim(ports: Ports, *wishes: PortWish, owner: Owner = WEB) -> list[PortBinding]:
    """Claim and keep the sockets, as a keeper does, for the rest of the test."""
    bindings, held = ports.claim(owner, wishes)
    _kept.extend(descriptor for _, descriptor in held)
    return list(bindings)


_kept: list[int] = []


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    yield
    while _kept:
        os.close(_kept.pop())


def wish(first: int, last: int = 0, protocol: str = "tcp", address: str = "") -> PortWish:
    return PortWish(protocol=protocol, container_port=80, first=first, last=last, host_address=address)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("reuse", [0, socket.SO_REUSEADDR, socket.SO_REUSEPORT])
@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_nobody_else_can_take_a_claimed_port(ports: Ports, protocol: str, reuse: int, address: str) -> None:
    """Whatever options they set, on whatever address."""
    claim(ports, wish(8080, protocol=protocol))
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as other:
        if reuse:
            other.setsockopt(socket.SOL_SOCKET, reuse, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind((address, 8080))


@pytest.mark.parametrize(
    ("first", "second", "fits"),
    [
        (wish(80), wish(80), False),
        (wish(80), wish(80, protocol="udp"), True),
        (wish(80), wish(81), True),
        (wish(80, address="127.0.0.1"), wish(80, address="127.0.0.2"), True),
        (wish(80, address="127.0.0.1"), wish(80, address="127.0.0.1"), False),
        (wish(80, address="127.0.0.1"), wish(80), False),
        (wish(80, address="0.0.0.0"), wish(80, address="127.0.0.1"), False),
        (wish(80, protocol="sctp"), wish(80, protocol="sctp"), False),
        (wish(80, protocol="sctp"), wish(80), True),
        (wish(80, address="::1"), wish(80), False),
        (wish(80), wish(80, address="::"), False),
        (wish(80, address="::1"), wish(80, address="[::1]"), False),
        (wish(80, address="::1"), wish(80, address="127.0.0.1"), True),
        (wish(80, address="::"), wish(80, address="0.0.0.0"), True),
    ],
)
def test_what_can_be_published_together(ports: Ports, first: PortWish, second: PortWish, fits: bool) -> None:
    """One owner for each protocol, address and port; every address conflicts with any."""
    claim(ports, first)
    if fits:
        claim(ports, second)
    else:
        with pytest.raises(
            Conflict, match=r"Bind for .*:80 failed: port is already allocated \(by container web\)"
        ):
            claim(ports, second)


def test_a_port_is_of_both_ip_versions(ports: Ports) -> None:
    """Unless an address says of which; where IPv6 is switched off it is of one."""
    assert [each.host_address for each in claim(ports, wish(80))] == ["", "::"]
    assert [each.host_address for each in claim(ports, wish(81, address="0.0.0.0"))] == [""]
    assert [each.host_address for each in claim(ports, wish(82, address="::"))] == ["::"]
    with socket.socket(socket.AF_INET6) as other, pytest.raises(OSError, match="in use"):
        other.bind(("::1", 80))
    with socket.socket(socket.AF_INET6) as program:
        program.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        program.bind(("::", 83))
        program.listen()
        with pytest.raises(
            Conflict, match=r"Bind for \[::\]:83 failed: port is already allocated \(by program"
        ):
            claim(ports, wish(83))
        assert [each.host_port for each in claim(ports, wish(83, 84))] == [84, 84]
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
    assert [each.host_address for each in claim(ports, wish(85))] == [""]


def test_all_or_nothing(ports: Ports) -> None:
    """A wish that fails gives the others back."""
    claim(ports, wish(82))
    with pytest.raises(Conflict):
        ports.claim(WEB, [wish(80), wish(81), wish(82)])
    claim(ports, wish(80), wish(81))


def test_a_range_gives_its_first_free_port(ports: Ports) -> None:
    """`-p 8000-8002:80`."""
    assert [claim(ports, wish(8000, 8002))[0].host_port for _ in range(3)] == [8000, 8001, 8002]
    with pytest.raises(Conflict, match="8000-8002 failed: all ports are allocated"):
        claim(ports, wish(8000, 8002))


def test_no_port_means_one_of_the_ephemeral_range(ports: Ports) -> None:
    """A different one each time; what a program has is passed over."""
    with closing(socket.socket()) as program:
        program.bind(("0.0.0.0", EPHEMERAL[0] + 1))
        got = [claim(ports, wish(0))[0].host_port for _ in range(3)]
    assert got == [EPHEMERAL[0], EPHEMERAL[0] + 2, EPHEMERAL[0] + 3]


def test_a_released_port_is_free_at_once(ports: Ports) -> None:
    """Also when the old keeper closes its socket a moment later."""
    bindings, held = ports.claim(WEB, [wish(8080)])
    ports.release(bindings)
    late = threading.Timer(0.1, binding.close, [held])
    late.start()
    assert claim(ports, wish(8080))[0].host_port == 8080
    late.join()


def test_connections_that_wait_to_be_forgotten_are_no_owner(ports: Ports) -> None:
    """A server that ended a moment ago left TIME_WAIT behind: the port is free all the same."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        server.bind(("127.0.0.1", 8080))
        server.listen()
        with socket.create_connection(("127.0.0.1", 8080)) as client:
            talk, _ = server.accept()
            talk.close()  # who closes first waits
            client.recv(1)
    claim(ports, wish(8080))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", 8080))
            other.listen()


def test_a_program_that_has_the_port_is_named(ports: Ports) -> None:
    """With its process."""
    with socket.socket() as program:
        program.bind(("0.0.0.0", 8080))
        program.listen()
        with pytest.raises(Conflict, match=f"by program .*process {os.getpid()}"):
            claim(ports, wish(8080))


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (wish(80, protocol="icmp"), InvalidRequest),
        (wish(80, address="300.1.1.1"), InvalidRequest),
        (wish(80, address="198.51.100.7"), InvalidRequest),
        (wish(80, address="2001:db8::7"), InvalidRequest),
        (wish(80, address="fe80::1%lo"), InvalidRequest),
    ],
)
def test_wishes_that_cannot_be(ports: Ports, bad: PortWish, error: type[WherryError]) -> None:
    """Said in one sentence; nothing is kept."""
    with pytest.raises(error):
        claim(ports, bad)
    assert ports.taken() == {}


def test_the_default_address(ports: Ports) -> None:
    """The daemon's `--ip` holds for wishes that name none."""
    narrow = Ports("127.0.0.1")
    assert claim(narrow, wish(8080))[0].host_address == "127.0.0.1"
    assert claim(narrow, wish(8081, address="0.0.0.0"))[0].host_address == ""


def test_a_thousand_ports_are_quick(ports: Ports) -> None:
    """A range of 1,000 is claimed in a fraction of a second."""
    assert len(claim(ports, *[wish(port) for port in range(20000, 21000)])) == 2000
