"""Rewriting a port in a network namespace, without libraries and without connection tracking."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest

from wherry.linux.nf_tables import rewrite_port
from wherry.testing.network import own_network


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with own_network():
        yield


def bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind)
    made.settimeout(10)
    made.bind((address, port))
    return made


def test_both_ways_and_both_protocols() -> None:
    """Who asks at one port is answered from it, large answers included; the port itself stays free for others."""
    rewrite_port("wherry-test", "127.0.0.11", 53, 40053)
    with (
        bound(socket.SOCK_DGRAM, "127.0.0.11", 40053) as server,
        bound(socket.SOCK_DGRAM, "0.0.0.0", 53) as own,
    ):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.connect(("127.0.0.11", 53))
            client.send(b"question")
            data, source = server.recvfrom(100)
            server.sendto(data.upper(), source)
            assert client.recv(100) == b"QUESTION"
            client.connect(("127.0.0.1", 53))
            client.send(b"own")
            assert own.recv(100) == b"own"
    with (
        bound(socket.SOCK_STREAM, "127.0.0.11", 40053) as server,
        bound(socket.SOCK_STREAM, "0.0.0.0", 53) as own,
    ):
        server.listen()
        own.listen()
        with socket.create_connection(("127.0.0.11", 53), timeout=10) as client:
            talk, _ = server.accept()
            talk.sendall(bytes(100_000))
            talk.close()
            got = 0
            while data := client.recv(1 << 16):
                got += len(data)
        assert got == 100_000


def test_what_cannot_be_done_leaves_nothing() -> None:
    """It is one transaction."""
    with pytest.raises(OSError, match=r"address|illegal|Invalid"):
        rewrite_port("wherry-test", "not an address", 53, 40053)
    with pytest.raises(OSError):
        rewrite_port("x" * 300, "127.0.0.11", 53, 40053)  # a name longer than the kernel takes
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert listed == ""


def test_the_rules_are_those_of_nft() -> None:
    """As the program shows them."""
    rewrite_port("wherry-test", "127.0.0.11", 53, 40053)
    listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    assert [line.strip() for line in listed.splitlines() if " set " in line] == [
        "ip daddr 127.0.0.11 udp dport 53 udp dport set 40053",
        "ip saddr 127.0.0.11 udp sport 40053 udp sport set 53",
        "ip daddr 127.0.0.11 tcp dport 53 tcp dport set 40053",
        "ip saddr 127.0.0.11 tcp sport 40053 tcp sport set 53",
    ]
    assert "policy accept" in listed
