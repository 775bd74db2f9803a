"""`docker logs` with a driver that sends everything away: a bounded copy here answers."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.testing.daemon import Daemon, eventually


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[str]:
    """The options for a syslog server that reads and forgets."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        reader = threading.Thread(target=_read_to_the_end, args=(server,))
        reader.start()
        yield f"--log-driver=syslog --log-opt=syslog-address=unixgram://{tmp_path}/log"
        server.shutdown(socket.SHUT_RD)
        reader.join()


def _read_to_the_end(server: socket.socket) -> None:
    while server.recv(65536):
        pass


def test_logs_of_syslog(daemon: Daemon, syslog: str) -> None:
    """Both streams, tail and timestamps, as with json-file; the options are shown as they were given."""
    name = daemon.ok("run", "-d", *syslog.split(), "busybox", "sh", "-c", "seq 1 5; echo oops >&2")
    daemon.ok("wait", name)
    answer = daemon.docker("logs", name)
    assert (answer.stdout, answer.stderr) == ("1\n2\n3\n4\n5\n", "oops\n")
    last = daemon.docker("logs", "--timestamps", "--tail", "2", name)
    assert [line.count(" ") for line in (last.stdout + last.stderr).splitlines()] == [1, 1]
    assert daemon.inspect(name, "{{.HostConfig.LogConfig.Type}} {{.LogPath}}|") == "syslog |"
    daemon.ok("start", name)
    daemon.ok("wait", name)
    assert daemon.ok("logs", name).split() == [*"12345", *"12345"]


def test_following_syslog(daemon: Daemon, syslog: str) -> None:
    """`logs -f` gets lines as they come, and ends with the container."""
    name = daemon.ok("run", "-di", *syslog.split(), "busybox", "sh", "-c", "echo ready; read end; echo end")
    with subprocess.Popen(
        ["docker", "logs", "-f", name], env=daemon.client_environment, stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "ready\n"
        assert daemon.docker("attach", name, input="now\n").returncode == 0
        assert following.communicate(timeout=20)[0] == "end\n"


def test_the_copy_is_bounded_and_goes_with_the_container(daemon: Daemon, syslog: str) -> None:
    """`cache-max-size` × `cache-max-file` bytes at most, and none after `rm`."""
    options = ["--log-opt=cache-max-size=8k", "--log-opt=cache-max-file=2"]
    name = daemon.ok("run", "-d", *syslog.split(), *options, "busybox", "seq", "1", "20000")
    daemon.ok("wait", name)
    lines = daemon.ok("logs", name).split()
    assert lines and lines[-1] == "20000" and len(lines) < 300
    directory = daemon.root / "data" / "containers" / name
    assert sum(file.stat().st_size for file in (directory / "log-cache").iterdir()) <= 2 * 8192
    daemon.ok("rm", name)
    eventually(lambda: not directory.exists(), "the container's directory goes")


def test_a_copy_can_be_refused(daemon: Daemon, syslog: str) -> None:
    """`cache-disabled=true`: nothing is kept here, and `logs` says so in Docker's words."""
    name = daemon.ok("run", "-d", *syslog.split(), "--log-opt=cache-disabled=true", "busybox", "echo", "away")
    daemon.ok("wait", name)
    answer = daemon.docker("logs", name)
    assert answer.returncode == 1
    assert "configured logging driver does not support reading" in answer.stderr
    assert not (daemon.root / "data" / "containers" / name / "log-cache").exists()
