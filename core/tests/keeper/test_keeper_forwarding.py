"""Ports that a keeper serves itself: every byte, both ways, to the end, and bounded."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from wherry.keeper import forwarding
from wherry.keeper.forwarding import forward
from wherry.keeper.loop import Loop

Serve = Callable[[str, tuple[str, int]], tuple[str, int]]


@pytest.fixture
def faults() -> list[Exception]:
    return []


@pytest.fixture
def serve(faults: list[Exception]) -> Iterator[Serve]:
    """Forwards a port of [::] to a target, in a loop of its own; answers where."""
    loop = Loop(faults.append)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    made = []

    def start(protocol: str, target: tuple[str, int]) -> tuple[str, int]:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        bound = socket.socket(socket.AF_INET6, kind)
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(("::", 0))
        where = ("::1", bound.getsockname()[1])
        ready = threading.Event()

        def begin() -> None:
            made.append(forward(loop, bound.detach(), protocol, *target))
            ready.set()

        loop.post(begin)
        assert ready.wait(10)
        return where

    yield start
    loop.post(lambda: [each.close() for each in made] and None)
    loop.post(loop.stop)
    thread.join(10)
    loop.close()
    assert faults == []


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What a container would listen with."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(20)
        yield made


def test_bytes_go_both_ways_and_each_end_is_told(serve: Serve, listener: socket.socket) -> None:
    """30 MB up and 30 MB down at once; the client's end reaches the container, which goes on speaking."""
    where = serve("tcp", listener.getsockname())
    blob = os.urandom(1 << 20) * 30
    heard = hashlib.sha256()

    def container() -> None:
        talk, _ = listener.accept()
        with talk:
            writer = threading.Thread(target=talk.sendall, args=(blob,))
            writer.start()
            while data := talk.recv(1 << 16):
                heard.update(data)
            writer.join()
            talk.sendall(b"and the last word")

    thread = threading.Thread(target=container)
    thread.start()
    got = bytearray()
    with socket.create_connection(where, timeout=30) as client:
        sender = threading.Thread(target=lambda: (client.sendall(blob), client.shutdown(socket.SHUT_WR)))
        sender.start()
        while data := client.recv(1 << 16):
            got += data
        sender.join()
    thread.join()
    assert bytes(got) == blob + b"and the last word"
    assert heard.digest() == hashlib.sha256(blob).digest()


def test_many_clients_at_once(serve: Serve, listener: socket.socket) -> None:
    """Each is answered, whatever the others do."""
    where = serve("tcp", listener.getsockname())

    def container() -> None:
        for _ in range(300):
            talk, _ = listener.accept()
            with talk:
                talk.sendall(b"<" + talk.recv(100) + b">")

    thread = threading.Thread(target=container)
    thread.start()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(where, timeout=30)) for _ in range(300)]
        for number, client in enumerate(clients):
            client.sendall(str(number).encode())
        for number, client in enumerate(clients):
            assert client.recv(100) == f"<{number}>".encode()
    thread.join()


def test_a_container_that_does_not_listen_refuses(serve: Serve) -> None:
    """The client is reset, as if it had asked the container."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        target = closed.getsockname()
    where = serve("tcp", target)
    with pytest.raises(ConnectionResetError), socket.create_connection(where, timeout=10) as client:
        client.sendall(b"x")
        while client.recv(1) == b"":
            raise ConnectionResetError(errno.ECONNRESET, "closed")


def test_a_client_that_does_not_read_holds_back_its_container_only(
    serve: Serve, listener: socket.socket
) -> None:
    """What waits is bounded: the container's writes stop; other clients are served."""
    where = serve("tcp", listener.getsockname())
    with socket.create_connection(where, timeout=10) as slow:
        talk, _ = listener.accept()
        talk.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while sent < 1 << 30:
                sent += talk.send(bytes(1 << 16))
        assert sent < 64 << 20
        with socket.create_connection(where, timeout=10) as quick:
            other, _ = listener.accept()
            other.sendall(b"here")
            assert quick.recv(10) == b"here"
            other.close()
        talk.close()
        while slow.recv(1 << 20):
            pass


def test_too_many_clients_wait(
    serve: Serve, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until others have gone."""
    monkeypatch.setattr(forwarding, "CONNECTIONS", 2)
    where = serve("tcp", listener.getsockname())
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(where, timeout=10)) for _ in range(3)]
        talks = [listener.accept()[0] for _ in range(2)]
        listener.settimeout(0.3)
        with pytest.raises(TimeoutError):
            listener.accept()
        listener.settimeout(10)
        talks[0].close()
        clients[0].close()
        third, _ = listener.accept()
        third.sendall(b"at last")
        assert clients[2].recv(10) == b"at last"
        third.close()
        talks[1].close()


@pytest.mark.parametrize("target", ["127.0.0.1", "::1"])
def test_datagrams_find_their_way_back(serve: Serve, target: str) -> None:
    """Each client's own; from the address that it spoke to."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as container, ExitStack() as stack:
        container.bind((target, 0))
        container.settimeout(10)
        where = serve("udp", container.getsockname()[:2])
        clients = []
        for number in range(20):
            client = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            client.settimeout(10)
            client.connect(where)  # so it takes answers from there only
            client.send(f"{number}".encode())
            clients.append(client)
        for _ in clients:
            data, source = container.recvfrom(1 << 16)
            container.sendto(b"<" + data + b">", source)
        for number, client in enumerate(clients):
            assert client.recv(100) == f"<{number}>".encode()
        clients[0].send(bytes(60000))
        assert len(container.recv(1 << 16)) == 60000


def test_datagram_clients_are_bounded(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was quiet longest is forgotten."""
    monkeypatch.setattr(forwarding, "CLIENTS", 5)
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as container:
        container.bind(("127.0.0.1", 0))
        container.settimeout(10)
        where = serve("udp", container.getsockname())
        for number in range(50):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                client.sendto(f"{number}".encode(), where)
                assert container.recv(100) == f"{number}".encode()
        assert len(os.listdir("/proc/self/fd")) < before + 15
