"""Ranges and addresses: no address twice, none that is reserved, none that rests."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import Conflict, InvalidRequest
from wherry.network.addresses import Addresses, AddressResting, check_subnet, mac_of
from wherry.spec.network import Subnet

SMALL = Subnet(cidr="10.0.0.0/29", gateway="10.0.0.1", auxiliary={"printer": "10.0.0.4"})


def test_every_address_once_and_then_the_words_of_docker() -> None:
    """Of 8: not the network's, the broadcast's, the gateway's, an auxiliary one."""
    addresses = Addresses("net", SMALL)
    assert [addresses.take(f"e{n}") for n in range(4)] == ["10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.6"]
    with pytest.raises(Conflict, match="no available IPv4 addresses on this network's address pools"):
        addresses.take("late")


def test_an_address_just_freed_is_the_last_to_come_back() -> None:
    """In a circle, so that neighbours' memories have time to fade."""
    addresses = Addresses("net", SMALL)
    first = addresses.take("a")
    addresses.free(first)
    assert [addresses.take("b"), addresses.take("c"), addresses.take("d")] == [
        "10.0.0.3",
        "10.0.0.5",
        "10.0.0.6",
    ]
    assert addresses.take("e") == first


def test_a_resting_address_is_nobodys() -> None:
    """Until its link is gone."""
    addresses = Addresses("net", SMALL)
    addresses.take("a", "10.0.0.5")
    addresses.rest("10.0.0.5")
    with pytest.raises(AddressResting):
        addresses.take("b", "10.0.0.5")
    addresses.free("10.0.0.5")
    assert addresses.take("b", "10.0.0.5") == "10.0.0.5"


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ("10.0.0.1", InvalidRequest),
        ("10.0.0.4", InvalidRequest),
        ("10.0.0.0", InvalidRequest),
        ("10.0.0.7", InvalidRequest),
        ("10.0.1.2", InvalidRequest),
        ("nonsense", InvalidRequest),
        ("10.0.0.2", Conflict),
    ],
)
def test_addresses_that_cannot_be_had(wanted: str, error: type[Exception]) -> None:
    addresses = Addresses("net", SMALL)
    addresses.hold("10.0.0.2", "living")
    with pytest.raises(error):
        addresses.take("e", wanted)


@given(st.lists(st.sampled_from(["take", "wanted", "rest", "free", "hold"]), max_size=60), st.randoms())
def test_whatever_happens_no_two_endpoints_have_one_address(moves: list[str], random: object) -> None:
    """Takes, rests, frees and holds in any order."""
    addresses = Addresses("net", Subnet(cidr="10.0.0.0/28", gateway="10.0.0.1"))
    mine: dict[str, str] = {}
    resting: set[str] = set()
    for number, move in enumerate(moves):
        some = f"10.0.0.{2 + number * 7 % 13}"
        try:
            match move:
                case "take" | "wanted":
                    got = addresses.take(f"e{number}", some if move == "wanted" else "")
                    assert got not in mine and got not in resting
                    assert got not in ("10.0.0.0", "10.0.0.1", "10.0.0.15")
                    mine[got] = f"e{number}"
                case "rest":
                    addresses.rest(some)
                    if mine.pop(some, None):
                        resting.add(some)
                case "free":
                    addresses.free(some)
                    mine.pop(some, None)
                    resting.discard(some)
                case "hold" if some not in resting:
                    addresses.hold(some, f"e{number}")
                    mine[some] = f"e{number}"
        except Conflict:
            pass
    assert addresses.taken() == dict(sorted(mine.items(), key=lambda pair: IPv4Address(pair[0])))


def test_a_range_of_a_network_limits_what_is_given_not_what_may_be_asked_for() -> None:
    """`--ip-range`."""
    addresses = Addresses("net", Subnet(cidr="10.0.0.0/16", gateway="10.0.0.1", range="10.0.5.0/24"))
    assert addresses.take("a").startswith("10.0.5.")
    assert addresses.take("b", "10.0.9.9") == "10.0.9.9"


def test_a_subnet_without_a_gateway_gets_its_first_address() -> None:
    assert check_subnet(Subnet(cidr="10.5.0.0/24")).gateway == "10.5.0.1"


def test_a_mac_goes_with_its_address() -> None:
    """The same address has the same MAC, and neighbours need not relearn."""
    assert mac_of("172.17.0.2") == "02:42:ac:11:00:02"
    assert mac_of("fd00::a:1") == "02:42:00:0a:00:01"


def test_ipv6_addresses_are_counted_like_those_of_ipv4() -> None:
    """But the first of a range is that of all routers, and the last is like any other."""
    addresses = Addresses("net", Subnet(cidr="fd00::/64", gateway="fd00::1"))
    assert [addresses.take(f"e{n}") for n in range(3)] == ["fd00::2", "fd00::3", "fd00::4"]
    assert addresses.take("last", "fd00::ffff:ffff:ffff:ffff") == "fd00::ffff:ffff:ffff:ffff"
    with pytest.raises(InvalidRequest):
        addresses.take("routers", "fd00::")
    small = Addresses("net", Subnet(cidr="fd00::/126", gateway="fd00::1"))
    assert [small.take("a"), small.take("b")] == ["fd00::2", "fd00::3"]
    with pytest.raises(Conflict, match="no available IPv6 addresses on this network's address pools"):
        small.take("late")


def test_a_promised_address_is_not_handed_out() -> None:
    """Only to who asks for it by name: whether that is who was promised it, is seen when both run."""
    addresses = Addresses("net", SMALL, lambda address: address in ("10.0.0.2", "10.0.0.5"))
    assert [addresses.take("a"), addresses.take("b")] == ["10.0.0.3", "10.0.0.6"]
    with pytest.raises(Conflict, match="no available"):
        addresses.take("c")
    assert addresses.take("d", "10.0.0.5") == "10.0.0.5"


@pytest.mark.parametrize(
    ("subnet", "words"),
    [
        (Subnet(cidr="10.0.0.0/33"), "invalid subnet"),
        (Subnet(cidr="nonsense"), "invalid subnet"),
        (Subnet(cidr="10.0.0.0/24", gateway="10.0.1.1"), "the gateway 10.0.1.1 is not in the subnet"),
        (Subnet(cidr="10.0.0.0/24", gateway="fd00::1"), "is not in the subnet"),
        (Subnet(cidr="10.0.0.0/24", range="10.0.0.0/16"), "the range 10.0.0.0/16 is not in the subnet"),
        (Subnet(cidr="10.0.0.0/24", range="fd00::/64"), "is not in the subnet"),
        (Subnet(cidr="10.0.0.0/24", auxiliary={"a": "10.1.0.1"}), "auxiliary address a=10.1.0.1"),
        (Subnet(cidr="fe80::/64", gateway="fe80::1%eth0"), "it has a zone"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(subnet: Subnet, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        check_subnet(subnet)
