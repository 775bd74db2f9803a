"""Where the front listens, for whom, and how it leaves."""

import contextlib
import grp
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_api_memory import MemoryEngine
from docker_api_raw import Raw, Wire, request

from wherry.errors import ConfigurationError
from wherry_docker_api import DockerApi


class Front:
    """A front in a thread of its own."""

    def __init__(self, engine: MemoryEngine, *addresses: str, group: str = "") -> None:
        self.front = DockerApi(DockerApi.Options(group=group))
        self.ready = threading.Event()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._serve, args=(engine, addresses))
        self.thread.start()
        assert self.ready.wait(5)
        if self.failure is not None:
            self.thread.join()
            raise self.failure

    def _serve(self, engine: MemoryEngine, addresses: tuple[str, ...]) -> None:
        try:
            self.front.serve(engine=engine, addresses=addresses, ready=self.ready.set)
        except BaseException as error:
            self.failure = error
            self.ready.set()

    def leave(self) -> float:
        began = time.monotonic()
        self.front.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        return time.monotonic() - began


@contextlib.contextmanager
def front(engine: MemoryEngine, *addresses: str, group: str = "") -> Iterator[Front]:
    serving = Front(engine, *addresses, group=group)
    try:
        yield serving
    finally:
        serving.leave()


def test_a_unix_socket_is_for_root_and_its_group(engine: MemoryEngine, tmp_path: Path) -> None:
    """0660 for the group that there is; 0600 without one; gone when the front leaves."""
    path = tmp_path / "deep" / "docker.sock"
    for group, mode, gid in (("daemon", 0o660, grp.getgrnam("daemon").gr_gid), ("no such group", 0o600, 0)):
        with front(engine, f"unix://{path}", group=group):
            found = path.stat()
            assert stat.S_IMODE(found.st_mode) == mode
            assert found.st_gid == gid
        assert not path.exists()


def test_a_left_over_socket_is_replaced_and_a_used_one_is_not(engine: MemoryEngine, tmp_path: Path) -> None:
    """Nobody steals a daemon's address; nobody is kept out by a dead one's; no file is overwritten."""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with front(engine, f"unix://{path}"):
        assert Raw(str(path)).ask("GET", "/_ping").status == 200
        with pytest.raises(ConfigurationError, match="another daemon does"):
            Front(engine, f"unix://{path}")
        assert Raw(str(path)).ask("GET", "/_ping").status == 200
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="no socket"):
        Front(engine, f"unix://{path}")
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/run/x.sock", "is no address to listen on"),
        ("npipe:////./pipe/x", "is no address to listen on"),
        ("unix://run/x.sock", "must be absolute"),
        ("unix:///" + "x" * 120, "longer than the 107 bytes"),
        ("tcp://localhost", "names no port"),
        ("tcp://127.0.0.1:99999", "names no port"),
        ("fd://", "no socket was passed"),
        ("fd://x", "is no address"),
    ],
)
def test_an_address_that_is_none(engine: MemoryEngine, address: str, words: str) -> None:
    """One sentence that says how to write it."""
    with pytest.raises(ConfigurationError, match=words):
        Front(engine, address)


def test_tcp_and_passed_sockets(engine: MemoryEngine) -> None:
    """Loopback TCP, and a socket that somebody else has opened."""
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        given.listen()
        port = given.getsockname()[1]
        with front(engine, f"fd://{os.dup(given.fileno())}"):
            with socket.create_connection(("127.0.0.1", port), 5) as client:
                client.sendall(request("GET", "/_ping"))
                assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")
    with front(engine, f"tcp://127.0.0.1:{port}"):
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(request("GET", "/_ping"))
            assert client.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_leaving_lets_answers_finish(engine: MemoryEngine, tmp_path: Path) -> None:
    """Idle clients and streams end at once, an answer that is being made is still sent."""
    path = str(tmp_path / "docker.sock")
    engine.hold = threading.Event()
    serving = Front(engine, f"unix://{path}")
    raw = Raw(path)
    raw.ask("POST", "/containers/create?name=last", {"Image": "busybox", "Cmd": ["sleep", "9"]})
    raw.ask("POST", "/containers/last/start")
    with raw.open() as idle, raw.open() as events, raw.open() as stopping:
        idle.send(request("GET", "/_ping"))
        idle.reply()
        events.send(request("GET", "/events"))
        events.head()
        stopping.send(request("POST", "/containers/last/stop?t=1"))
        _asked(engine, "stop")
        leaving = threading.Thread(target=serving.leave)
        leaving.start()
        assert idle.rest() == b""
        assert events.rest() == b""
        engine.hold.set()
        assert stopping.reply().status == 204
        leaving.join(5)
    assert not Path(path).exists()


def test_leaving_does_not_wait_for_what_hangs(engine: MemoryEngine, tmp_path: Path) -> None:
    """At most two seconds."""
    path = str(tmp_path / "docker.sock")
    engine.hold = threading.Event()
    serving = Front(engine, f"unix://{path}")
    with Wire(path) as wire:
        wire.send(request("POST", "/containers/any/stop"))
        _asked(engine, "stop")
        assert serving.leave() < 4
    engine.hold.set()


def test_stop_before_serve(engine: MemoryEngine, tmp_path: Path) -> None:
    """A front that was stopped before it served does not begin."""
    early = DockerApi()
    early.stop()
    early.serve(
        engine=engine, addresses=[f"unix://{tmp_path}/docker.sock"], ready=lambda: pytest.fail("ready")
    )


def _asked(engine: MemoryEngine, what: str) -> None:
    deadline = time.monotonic() + 5
    while what not in [each[0] for each in engine.asked]:
        assert time.monotonic() < deadline
