"""Pools: many small ranges, none that somebody else has."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import Conflict, InvalidRequest
from wherry.network.addresses import IPNetwork, parse_subnet
from wherry.network.pools import POOLS, choose, in_use, local_pool, overlap, pool, refuse_overlaps
from wherry.spec.network import Subnet


def networks(*texts: str) -> dict[IPNetwork, str]:
    return {parse_subnet(text): "a route" for text in texts}


def test_the_first_range_that_is_free_is_chosen() -> None:
    """And when none is, the error says what has them, and what can be done."""
    stock = (pool("172.16.0.0/14", 16),)
    assert choose({}, stock, 4) == Subnet(cidr="172.16.0.0/16", gateway="172.16.0.1")
    taken = networks("172.16.4.0/24", "172.17.0.0/16", "fd00::/8")
    assert choose(taken, stock, 4).cidr == "172.18.0.0/16"
    taken |= networks("172.18.0.0/15")
    with pytest.raises(Conflict, match=r"172.16.4.0/24 \(a route\), .*--default-address-pool"):
        choose(taken, stock, 4)
    with pytest.raises(Conflict, match="available, non-overlapping IPv6 address pool"):
        choose({}, stock, 6)


def test_thousands_of_networks_fit_and_are_found_quickly() -> None:
    """Of the usual pools; each has its own range."""
    taken: dict[IPNetwork, str] = {}
    began = time.monotonic()
    for number in range(300):
        taken[parse_subnet(choose(taken, POOLS, 4).cidr)] = f"network {number}"
    assert time.monotonic() - began < 30
    assert not any(a != b and overlap(a, b) for a in taken for b in taken)
    assert sum(1 << (stock.size - stock.base.prefixlen) for stock in POOLS) > 3000


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(20, 30)), max_size=40))
def test_what_is_chosen_overlaps_nothing(ranges: list[tuple[int, int]]) -> None:
    """Whatever is taken; and a conflict means that really every range of the pool is."""
    taken = networks(*(f"10.0.{third}.{third}/{prefix}" for third, prefix in ranges))
    stock = pool("10.0.0.0/16", 22)
    try:
        found = parse_subnet(choose(taken, [stock], 4).cidr)
    except Conflict:
        every = ipaddress.IPv4Network("10.0.0.0/16").subnets(new_prefix=22)
        assert all(any(overlap(one, other) for other in taken) for one in every)
    else:
        assert found.prefixlen == 22
        assert not any(overlap(found, other) for other in taken)


def test_default_routes_take_nothing() -> None:
    """Nor the halves that a VPN splits the default route into; loopback and what is of a link neither."""
    found = in_use(
        ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.8.0.0/24", "::/0", "fe80::/64", "fd00:1::/64"],
        ["127.0.0.0/8", "192.0.2.0/24", "::1/128", "ff00::/8"],
    )
    assert {str(network): why for network, why in found.items()} == {
        "10.8.0.0/24": "a route",
        "fd00:1::/64": "a route",
        "192.0.2.0/24": "an interface's address",
    }


def test_an_engine_has_ipv6_ranges_of_its_own() -> None:
    """Unique local ones, the same at each start, and other than another engine's."""
    first = choose({}, [local_pool("0a1b2c3d")], 6)
    assert first == choose({}, [local_pool("0a1b2c3d")], 6)
    assert parse_subnet(first.cidr).subnet_of(ipaddress.IPv6Network("fd00::/8"))  # type: ignore[arg-type]
    assert parse_subnet(first.cidr).prefixlen == 64
    assert first != choose({}, [local_pool("ffffffff")], 6)


def test_overlaps_are_refused() -> None:
    """With what is there, and among themselves."""
    refuse_overlaps([Subnet(cidr="10.0.0.0/24"), Subnet(cidr="fd00::/64")], networks("10.0.1.0/24"))
    with pytest.raises(Conflict, match="Pool overlaps with other one on this address space"):
        refuse_overlaps([Subnet(cidr="10.0.0.0/8")], networks("10.0.1.0/24"))
    with pytest.raises(Conflict, match="of the same network"):
        refuse_overlaps([Subnet(cidr="10.0.0.0/24"), Subnet(cidr="10.0.0.0/25")], {})


@pytest.mark.parametrize(("base", "size"), [("10.0.0.0/16", 8), ("10.0.0.0/16", 31), ("x", 24)])
def test_pools_that_make_no_sense_are_refused(base: str, size: int) -> None:
    with pytest.raises(InvalidRequest):
        pool(base, size)
