"""A host of the tests' own: a network namespace with the networks of an engine, and a neighbour outside."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).with_name("support")))

from network_house import HOST, HOST6, OUTSIDE, OUTSIDE6, Engine

from wherry.linux import links, netns
from wherry.linux.netlink import Netlink
from wherry.testing.network import ENGINE_ID, Place, ip, own_network


@pytest.fixture
def host() -> Iterator[Place]:
    """The host: the test itself is in this namespace."""
    with own_network():
        yield Place(None)


@pytest.fixture(params=["nft", "legacy"])
def firewall(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_engine(host: Place, tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Makes and starts engines; all they had is taken away after the test."""
    with ExitStack() as after:

        def make(name: str = "engine", engine_id: str = ENGINE_ID, **settings: Any) -> Engine:
            engine = Engine(tmp_path / name, {"ready": 1, **settings}, engine_id)
            engine.root.mkdir()
            engine.start()
            after.callback(engine.close)
            return engine

        yield make


@pytest.fixture
def engine(make_engine: Callable[..., Engine], firewall: str) -> Engine:
    """An engine, once with each firewall."""
    return make_engine(firewall=firewall)


@pytest.fixture
def nft_engine(make_engine: Callable[..., Engine]) -> Engine:
    """An engine where the firewall does not matter."""
    return make_engine(firewall="nft")


@pytest.fixture
def neighbour(host: Place) -> Iterator[Place]:
    """Somebody on the host's network, who sends all he has to the host: 192.0.2.10, the host is 192.0.2.1.

    By IPv6 he is 2001:db8::10, and the host 2001:db8::1.
    """
    descriptor = netns.new(ipv6=True)
    place = Place(descriptor)
    try:
        with Netlink() as nl:
            links.create_veth(nl, "uplink", peer="wire", peer_namespace=descriptor)
        ip("address", "add", f"{HOST}/24", "dev", "uplink")
        place.ip("address", "add", f"{OUTSIDE}/24", "dev", "wire")
        place.ip("link", "set", "wire", "up")
        place.ip("route", "add", "default", "via", HOST)
        ip("address", "add", f"{HOST6}/64", "dev", "uplink", "nodad")
        place.ip("address", "add", f"{OUTSIDE6}/64", "dev", "wire", "nodad")
        place.ip("-6", "route", "add", "default", "via", HOST6)
        yield place
    finally:
        os.close(descriptor)
