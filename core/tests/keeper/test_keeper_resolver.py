"""The name server in a keeper: its sockets in a sandbox, and the servers that it asks about all else."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from dnslib import QTYPE, RR, A, DNSRecord

from wherry.dns.directory import Directory
from wherry.keeper import resolver as resolving
from wherry.keeper import upstream
from wherry.keeper.line import Request
from wherry.keeper.loop import Loop
from wherry.keeper.protocol import NameServer
from wherry.keeper.resolver import Resolver
from wherry.linux import netns
from wherry.network.listening import listen
from wherry.spec.network import Endpoint, Network, Sandbox
from wherry.testing.network import Lines, own_network

NET = Network(id="1" * 64, name="net", driver="bridge")
WEB = Endpoint(id="e", container_id="c", network_id=NET.id, name="web", ipv4="10.0.0.2")


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    with own_network():
        yield


class House:
    """A keeper's name server in a loop of its own, and the sandbox that it serves."""

    def __init__(self, tmp_path: Path) -> None:
        self.faults: list[Exception] = []
        self.loop = Loop(self.faults.append)
        self.resolver = Resolver(self.loop)
        self.namespace = netns.new()
        self.sandbox = Sandbox(id="c" * 64, path=f"/proc/{os.getpid()}/fd/{self.namespace}")
        self.directory = Directory(tmp_path / "names", Lines())
        self.directory.restore([(NET, WEB)])
        self.hosts = tmp_path / "resolv.conf"
        # A thread is in the network of whoever started it: the host's.
        self.thread = threading.Thread(target=self.loop.run, daemon=True)
        self.thread.start()

    def call(self, function: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            function()
            done.set()

        self.loop.post(run)
        assert done.wait(10)

    def serve(self, *servers: str, outward: bool = True, port: int = 0) -> int:
        listener = listen(self.sandbox, port)
        wanted = NameServer(
            udp=0,
            tcp=1,
            sandbox=2,
            pages=(str(self.directory.path(NET.id)),),
            servers=servers,
            host_file=str(self.hosts),
            outward=outward,
        )
        request = Request("resolve", {}, [os.dup(each) for each in listener.descriptors])
        listener.close()
        self.call(lambda: self.resolver.take(request, wanted))
        return listener.port

    def ask(self, name: str, kind: str = "A", *, tcp: bool = False, timeout: float = 20.0) -> DNSRecord:
        with netns.inside(self.namespace):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(timeout)
            sock.connect(("127.0.0.11", 53))
            query = DNSRecord.question(name, kind).pack()
            sock.sendall(len(query).to_bytes(2, "big") + query if tcp else query)
            data = sock.recv(65535)
            if tcp:
                data = data[2:]
            assert data[:2] == query[:2]
            return DNSRecord.parse(data)

    def close(self) -> None:
        self.call(self.resolver.close)
        self.loop.post(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
        os.close(self.namespace)
        assert self.faults == []


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@contextmanager
def server(address: str, reply: Callable[[DNSRecord], bytes | None]) -> Iterator[list[str]]:
    """A name server of the world at port 53, UDP and TCP; what it was asked."""
    asked: list[str] = []
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket()
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for sock in (udp, tcp):
        sock.bind((address, 53))
        sock.settimeout(0.1)
    tcp.listen(64)
    closing = threading.Event()

    def serve_udp() -> None:
        while not closing.is_set():
            try:
                data, sender = udp.recvfrom(65535)
            except TimeoutError:
                continue
            record = DNSRecord.parse(data)
            asked.append(str(record.q.qname))
            if (made := reply(record)) is not None:
                udp.sendto(made, sender)

    def serve_tcp() -> None:
        while not closing.is_set():
            try:
                talk, _ = tcp.accept()
            except TimeoutError:
                continue
            with talk:
                talk.settimeout(5)
                record = DNSRecord.parse(talk.recv(65535)[2:])
                asked.append(f"tcp {record.q.qname}")
                if (made := reply(record)) is not None:
                    talk.sendall(len(made).to_bytes(2, "big")[:1])
                    talk.sendall(len(made).to_bytes(2, "big")[1:] + made)

    threads = [threading.Thread(target=serve) for serve in (serve_udp, serve_tcp)]
    for thread in threads:
        thread.start()
    try:
        yield asked
    finally:
        closing.set()
        for thread in threads:
            thread.join()
        udp.close()
        tcp.close()


def knows(record: DNSRecord) -> bytes:
    made = record.reply(ra=1)
    made.add_answer(RR(record.q.qname, QTYPE.A, rdata=A("198.51.100.7"), ttl=60))
    return bytes(made.pack())


def fails(record: DNSRecord) -> bytes:
    made = record.reply()
    made.header.rcode = 2
    return bytes(made.pack())


def addresses(record: DNSRecord) -> list[str]:
    return [str(each.rdata) for each in record.rr]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_names_of_containers_and_of_the_world(house: House, tcp: bool) -> None:
    """By both protocols; a container's own server on port 53 of every other address is none of our business."""
    house.serve()
    house.hosts.write_text("nameserver 127.0.0.2\n")
    with netns.inside(house.namespace):
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    own.bind(("0.0.0.0", 53))
    with own, server("127.0.0.2", knows) as asked:
        assert addresses(house.ask("web", tcp=tcp)) == ["10.0.0.2"]
        assert addresses(house.ask("example.org", tcp=tcp)) == ["198.51.100.7"]
        assert asked == [f"{'tcp ' if tcp else ''}example.org."]


def test_a_dead_server_does_not_keep_the_next_from_answering(house: House) -> None:
    """It is waited for a second, once: then it is asked last. One that refuses is not waited for at all."""
    house.serve()
    house.hosts.write_text("nameserver 127.0.0.4\nnameserver 127.0.0.3\nnameserver 127.0.0.2\n")
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with silent, server("127.0.0.2", knows):
        silent.bind(("127.0.0.3", 53))
        began = time.monotonic()
        assert addresses(house.ask("one.example")) == ["198.51.100.7"]
        assert 0.9 < time.monotonic() - began < 4
        began = time.monotonic()
        assert addresses(house.ask("two.example")) == ["198.51.100.7"]
        assert time.monotonic() - began < 0.9


def test_a_server_that_fails_is_asked_and_the_next_as_well(house: House) -> None:
    """Its failure is the answer only if nobody knows better."""
    house.serve()
    house.hosts.write_text("nameserver 127.0.0.3\nnameserver 127.0.0.2\n")
    with server("127.0.0.3", fails) as first, server("127.0.0.2", knows) as second:
        assert addresses(house.ask("one.example")) == ["198.51.100.7"]
        assert first == second == ["one.example."]
    with server("127.0.0.3", fails), server("127.0.0.2", fails):
        assert house.ask("two.example").header.rcode == 2


def test_guesses_of_others_are_no_answers(house: House) -> None:
    """Another id, another question, a question in place of an answer: not taken, the real one is."""
    house.serve()
    house.hosts.write_text("nameserver 127.0.0.2\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bad:
        bad.bind(("127.0.0.2", 53))
        bad.settimeout(10)

        def answer() -> None:
            data, sender = bad.recvfrom(65535)
            right = knows(DNSRecord.parse(data))
            other = knows(DNSRecord.question("evil.example"))
            for guess in (bytes([right[0] ^ 1]) + right[1:], right[:2] + other[2:], data, b"", b"x" * 5):
                bad.sendto(guess, sender)
            bad.sendto(right, sender)

        thread = threading.Thread(target=answer)
        thread.start()
        assert addresses(house.ask("one.example")) == ["198.51.100.7"]
        thread.join()


def test_no_answer_is_said_not_left_open(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """SERVFAIL after a while where every server is silent, and at once where there are none."""
    monkeypatch.setattr(upstream, "PATIENCE", 0.5)
    house.serve()
    house.hosts.write_text("nameserver 127.0.0.2\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.2", 53))
        assert house.ask("one.example").header.rcode == 2
        house.hosts.write_text("search example\n")
        assert house.ask("two.example").header.rcode == 2


def test_too_many_questions_at_a_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond the bound fail at once; containers' names are answered all the while; nothing stays open."""
    monkeypatch.setattr(upstream, "PATIENCE", 1.5)
    monkeypatch.setattr(upstream, "OPEN", 20)
    house.serve()
    house.hosts.write_text("nameserver 127.0.0.2\n")
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, ExitStack() as stack:
        silent.bind(("127.0.0.2", 53))
        clients = []
        with netns.inside(house.namespace):
            for _ in range(60):
                clients.append(stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        for number, client in enumerate(clients):
            client.connect(("127.0.0.11", 53))
            client.settimeout(15)
            client.send(DNSRecord.question(f"n{number}.example").pack())
        assert addresses(house.ask("web", timeout=10)) == ["10.0.0.2"]
        assert all(client.recv(1000)[3] & 15 == 2 for client in clients)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_said_servers_are_asked_from_the_containers_network(house: House) -> None:
    """`--dns`: also one that only the container reaches, such as its own loopback."""
    house.serve("127.0.0.9")
    with netns.inside(house.namespace):
        stack = ExitStack()
        asked = stack.enter_context(server("127.0.0.9", knows))
    with stack:
        assert addresses(house.ask("one.example")) == ["198.51.100.7"]
        assert asked == ["one.example."]


def test_nobody_outside_is_asked_from_within(house: House) -> None:
    """A container without a way out learns nothing of the world, and tells it nothing."""
    house.serve(outward=False)
    house.hosts.write_text("nameserver 127.0.0.2\n")
    with server("127.0.0.2", knows) as asked:
        assert house.ask("secret.example").header.rcode == 3
        assert addresses(house.ask("web")) == ["10.0.0.2"]
        assert asked == []


def test_two_keepers_share_a_sandbox(house: House, tmp_path: Path) -> None:
    """Whoever is left goes on answering."""
    port = house.serve()
    (tmp_path / "other").mkdir()
    other = House(tmp_path / "other")
    os.close(other.namespace)
    other.namespace = os.dup(house.namespace)
    other.sandbox = house.sandbox
    assert other.serve(port=port) == port
    for _ in range(20):
        assert addresses(house.ask("web")) == ["10.0.0.2"]
    house.call(house.resolver.close)
    for tcp in (False, True):
        assert addresses(other.ask("web", tcp=tcp)) == ["10.0.0.2"]
    other.close()


def test_clients_that_misbehave(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many, too slow, cut off in the middle, never reading: others are answered."""
    monkeypatch.setattr(resolving, "CLIENTS", 5)
    house.serve()
    with ExitStack() as stack:
        with netns.inside(house.namespace):
            idle = [
                stack.enter_context(socket.create_connection(("127.0.0.11", 53), timeout=10))
                for _ in range(5)
            ]
            late = stack.enter_context(socket.create_connection(("127.0.0.11", 53), timeout=10))
        idle[0].sendall(b"\0")
        idle[1].sendall(b"\xff\xff" + bytes(100))
        assert late.recv(10) == b""
        assert addresses(house.ask("web")) == ["10.0.0.2"]
        for each in idle[:2]:
            each.close()
        assert addresses(_until_answered(house)) == ["10.0.0.2"]


def _until_answered(house: House) -> DNSRecord:
    """Places become free a moment after their clients went."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return house.ask("web", tcp=True)
        except (OSError, AssertionError):
            assert time.monotonic() < deadline
