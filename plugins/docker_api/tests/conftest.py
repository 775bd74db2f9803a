"""A front over a unix socket, on an engine in memory, and clients for it."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tests are collected without a package: what they share is found here.
sys.path.insert(0, str(Path(__file__).parent))

from docker_api_memory import MemoryEngine
from docker_api_raw import Raw

from wherry_docker_api import DockerApi


@pytest.fixture
def engine() -> Iterator[MemoryEngine]:
    engine = MemoryEngine()
    yield engine
    engine.close()


@pytest.fixture
def address(engine: MemoryEngine, tmp_path: Path) -> Iterator[str]:
    """The path of a socket where a front serves `engine`."""
    path = str(tmp_path / "docker.sock")
    front = DockerApi(DockerApi.Options(group=""))
    ready = threading.Event()
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            front.serve(engine=engine, addresses=[f"unix://{path}"], ready=ready.set)
        except BaseException as error:
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=serve, name="front")
    thread.start()
    assert ready.wait(5)
    assert not failures, failures
    yield path
    front.stop()
    thread.join(10)
    assert not thread.is_alive()


@pytest.fixture
def raw(address: str) -> Raw:
    return Raw(address)
