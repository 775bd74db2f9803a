"""Copying out of a container and into it while a process inside changes the way: CVE-2018-15664, CVE-2019-14271."""

from __future__ import annotations

import http.client
import io
import os
import socket
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from wherry.testing.daemon import Daemon, eventually

SECRET = b"a secret of the host"
ROUNDS = 150
ANSWERS = {200, 400, 404, 409, 503}
"""What a copy may end with while somebody pulls away what it stands on."""


class Connection(http.client.HTTPConnection):
    """One request to a daemon's socket."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__("daemon", timeout=30)
        self._address = daemon.host.removeprefix("unix://")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._address)


@dataclass(frozen=True, slots=True)
class Bait:
    """A container in which attacks/exchanger.c runs in /bait, and what of the host it wants."""

    daemon: Daemon
    outside: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **query: str) -> tuple[int, bytes]:
        connection = Connection(self.daemon)
        url = "/containers/bait/archive?" + urlencode({"path": path, **query})
        try:
            connection.request(method, url, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def host(self) -> list[tuple[object, ...]]:
        """What of the host could be changed by being led there."""
        places = [
            Path("/"),
            Path("/etc"),
            Path("/dev"),
            Path("/etc/passwd"),
            *sorted(self.outside.rglob("*")),
        ]
        return [(p, *_looks(p), p.read_bytes() if p.is_file() else sorted(os.listdir(p))) for p in places]


def _looks(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    return found.st_mode, found.st_uid, found.st_gid, found.st_nlink


@pytest.fixture(params=["", "volume"])
def bait(request: pytest.FixtureRequest, daemon: Daemon, attacks: Path, session_root: Path) -> Iterator[Bait]:
    """In the container's own layer, and in a volume."""
    outside = session_root / "outside"
    outside.mkdir(exist_ok=True, mode=0o700)
    (outside / "file").write_bytes(SECRET)
    (outside / "file").chmod(0o600)
    (outside / "dir").mkdir(exist_ok=True, mode=0o700)
    volume = ["-v", "/bait"] if request.param else []
    script = """
        mkdir -p /bait/dir /bait/deep/dir/inner; cd /bait; echo x > file
        for i in 1 2 3 4 5 6 7 8; do echo inside > dir/$i; echo inside > deep/dir/$i; echo inside > deep/dir/inner/$i; done
        echo ready; exec /attacks/exchanger /bait "$1"
    """
    daemon.ok(
        "run", "-d", "--name", "bait", *volume, "-v", f"{attacks}:/attacks:ro",
        "busybox", "sh", "-ec", script, "sh", str(outside),
    )  # fmt: skip
    eventually(lambda: daemon.ok("logs", "bait") == "ready")
    eventually(lambda: "exchanger" in daemon.ok("top", "bait"))
    yield Bait(daemon, outside)
    assert "exchanger" in daemon.ok("top", "bait"), "it went on to the end"
    daemon.ok("rm", "-f", "-v", "bait")
    for descriptor in ("file", "dir"):
        assert (outside / descriptor).exists()


def descriptors(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def test_nothing_of_the_host_comes_out(bait: Bait) -> None:
    """Whatever is exchanged meanwhile: no byte of the host, no pipe that is waited for, no descriptor left open."""
    before = bait.host()
    bait.ask("GET", "/bait")
    opened = descriptors(bait.daemon)
    kinds: set[int] = set()
    paths = ("/bait", "/bait/dir", "/bait/dir/", "/bait/file", "/bait/deep/dir/inner", "/bait/dir/file")
    for number in range(ROUNDS):
        path = paths[number % len(paths)]
        assert bait.ask("HEAD", path)[0] in ANSWERS
        try:
            status, body = bait.ask("GET", path)
        except http.client.IncompleteRead:
            continue  # what was being read was pulled away: it must not look whole
        assert status in ANSWERS, body
        assert SECRET not in body
        if status == 200:
            kinds |= kinds_in(body)
    assert {stat.S_IFDIR, stat.S_IFLNK} <= kinds, "the exchanger was quick enough"
    assert bait.host() == before
    eventually(lambda: descriptors(bait.daemon) <= opened + 5, "no descriptor is left open")


def kinds_in(body: bytes) -> set[int]:
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        types = {member.type for member in tar}
    named = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK, tarfile.FIFOTYPE: stat.S_IFIFO}
    return {named[each] for each in types if each in named}


def archive() -> bytes:
    """Directories and files at the places that are exchanged, with an owner and a mode that would be noticed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in (
            "dir/",
            "dir/file",
            "dir/dir/",
            "deep/",
            "deep/dir/",
            "deep/dir/inner/",
            "deep/dir/inner/file",
            "file",
        ):
            member = tarfile.TarInfo(name.rstrip("/"))
            member.uid = member.gid = 4321
            member.mode = 0o777
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            member.size = 0 if name.endswith("/") else 7
            tar.addfile(member, io.BytesIO(b"written" if member.size else b""))
        # Names below no directory that the archive names: a link on the way would be followed, inside.
        for name in ("0/tmp/led", "2/file", "3", "dir/dir/dir/file"):
            member = tarfile.TarInfo(name)
            member.size = 7
            tar.addfile(member, io.BytesIO(b"written"))
    return buffer.getvalue()


@pytest.mark.parametrize("keep", ["1", "0"], ids=["keep-kinds", "replace"])
def test_nothing_of_the_host_is_changed(bait: Bait, keep: str) -> None:
    """Neither written, nor given another owner or mode, nor deleted; the engine answers every time."""
    before = bait.host()
    body = archive()
    bait.ask("PUT", "/bait", body, noOverwriteDirNonDir=keep)
    opened = descriptors(bait.daemon)
    statuses: set[int] = set()
    paths = ("/bait", "/bait/dir", "/bait/deep/dir", "/bait/deep", "/bait/dir/..")
    for number in range(ROUNDS):
        status, answer = bait.ask("PUT", paths[number % len(paths)], body, noOverwriteDirNonDir=keep)
        assert status in ANSWERS, answer
        statuses.add(status)
    assert len(statuses) > 1, f"the exchanger was quick enough ({statuses})"
    assert bait.host() == before
    eventually(lambda: descriptors(bait.daemon) <= opened + 5, "no descriptor is left open")
