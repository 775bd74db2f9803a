"""Fixtures for the tests that cross rooms: real daemons that must leave nothing behind."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.linux import namespaces
from wherry.testing.daemon import Daemon, NetworkNamespace, eventually, leftovers
from wherry.testing.dockerd import Dockerd

_numbers = itertools.count()


@pytest.fixture(scope="session")
def session_root() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="wherry-test-", dir="/var/tmp"))
    yield root
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if target.startswith(str(root)):
            subprocess.run(["umount", "-l", target], check=False, capture_output=True)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def attacks(session_root: Path) -> Path:
    """The programs of tests/attacks, static, in a directory to be mounted into containers."""
    directory = session_root / "attacks"
    directory.mkdir(mode=0o755)
    for source in sorted((Path(__file__).parent / "attacks").glob("*.c")):
        program = directory / source.stem
        subprocess.run(
            ["gcc", "-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True
        )
    return directory


@pytest.fixture
def make_daemon(session_root: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons that are not started yet; at the end each has to leave nothing behind."""
    made: list[Daemon] = []

    def make(*flags: str, net: NetworkNamespace | None = None) -> Daemon:
        root = session_root / f"d{next(_numbers)}"
        root.mkdir()
        daemon = Daemon(root=root, net=net or NetworkNamespace.make(), flags=flags)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.close()
        if daemon.process is not None:
            eventually(lambda d=daemon: not leftovers(d), f"a clean end ({leftovers(daemon)})")
        daemon.net.close()
        shutil.rmtree(daemon.root, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_daemon(session_root: Path) -> Iterator[Daemon]:
    """One daemon with the image busybox for all tests that only need containers."""
    root = session_root / "shared"
    root.mkdir()
    daemon = Daemon(root=root, net=NetworkNamespace.make()).start()
    daemon.image()
    yield daemon
    daemon.close()
    eventually(lambda: not leftovers(daemon), f"a clean end ({leftovers(daemon)})")
    daemon.net.close()


@pytest.fixture
def daemon(shared_daemon: Daemon) -> Iterator[Daemon]:
    """The shared daemon; containers that a test leaves are removed."""
    yield shared_daemon
    names = shared_daemon.docker("ps", "-aq").stdout.split()
    if names:
        shared_daemon.docker("rm", "-f", "-v", *names)


@pytest.fixture(scope="module")
def host_directory(session_root: Path) -> Iterator[Path]:
    """A directory of the host to mount: `inside` (a file, "content"), and `sub` with a file `deep`."""
    directory = session_root / f"directory-{next(_numbers)}"
    (directory / "sub").mkdir(parents=True)
    (directory / "inside").write_text("content\n")
    (directory / "sub" / "deep").write_text("deeper\n")
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def host_mount(session_root: Path) -> Iterator[Path]:
    """A private tmpfs of the host, with a shared one mounted on `sub` in it."""
    directory = session_root / f"mount-{next(_numbers)}"
    directory.mkdir()
    try:
        for place, kind in ((directory, "private"), (directory / "sub", "shared")):
            place.mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "test", place], check=True)
            subprocess.run(["mount", f"--make-{kind}", place], check=True)
        yield directory
    finally:
        subprocess.run(["umount", "-R", directory], check=True)
        directory.rmdir()


@pytest.fixture(scope="session")
def shared_dockerd(session_root: Path) -> Iterator[Dockerd]:
    """One real dockerd, started for the first test that compares with it."""
    dockerd = Dockerd(session_root / "dockerd")
    try:
        yield dockerd.start()
    finally:
        dockerd.close()


@pytest.fixture
def dockerd(shared_dockerd: Dockerd) -> Iterator[Dockerd]:
    """The shared dockerd; containers that a test leaves are removed."""
    yield shared_dockerd
    if names := shared_dockerd.docker("ps", "-aq").stdout.split():
        shared_dockerd.docker("rm", "-f", "-v", *names)


@pytest.fixture
def own_network() -> Iterator[None]:
    """Put this thread, and the threads and processes that a test makes, into a network namespace of their own."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    namespaces.unshare(namespaces.CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    yield
    namespaces.setns(before, namespaces.CLONE_NEWNET)
    os.close(before)
