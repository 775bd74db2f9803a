"""A real rsyslogd, with sockets, ports and files of its own, in a network namespace of its own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.linux import netns
from wherry.spec.log import LogContext
from wherry.testing.log import eventually

PORT = 5514
CONFIGURATION = """
global(workDirectory="{root}" maxMessageSize="64k" net.enableDNS="off"
       parser.escapeControlCharactersOnReceive="off")
module(load="imuxsock" sysSock.use="off")
module(load="imtcp")
module(load="imudp")
input(type="imuxsock" socket="{root}/log" rateLimit.interval="0" useSysTimeStamp="off")
input(type="imtcp" address="127.0.0.1" port="{port}")
input(type="imudp" address="127.0.0.1" port="{port}")
template(name="ours" type="string"
         string="%programname%|%syslogfacility-text%|%syslogseverity-text%|%msg%\\n")
*.* action(type="omfile" file="{root}/messages" template="ours")
"""


class Rsyslog:
    """rsyslogd, which can be stopped and started again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "log"
        self.messages = root / "messages"
        self._process: subprocess.Popen[bytes] | None = None
        (root / "rsyslog.conf").write_text(CONFIGURATION.format(root=root, port=PORT))

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        rsyslogd = shutil.which("rsyslogd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if rsyslogd is None:
            if os.environ.get("WHERRY_NO_PEERS"):
                pytest.skip("no rsyslogd here")
            pytest.fail("this test needs rsyslogd: make setup-test installs it")
        self._process = subprocess.Popen(
            [rsyslogd, "-n", "-f", self.root / "rsyslog.conf", "-i", self.root / "pid"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._listens)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None

    def lines(self, context: LogContext) -> list[bytes]:
        """What arrived of a container that has the default tag, in order."""
        return [match[3] for match in self.parsed(context.container_id[:12])]

    def parsed(self, tag: str) -> list[re.Match[bytes]]:
        if not self.messages.exists():
            return []
        pattern = re.compile(rb"%b\|(\w+)\|(\w+)\| ?(.*)\n" % re.escape(tag.encode()))
        found = []
        for line in self.messages.read_bytes().splitlines(keepends=True):
            match = pattern.fullmatch(line)
            if match:
                found.append(match)
        return found

    def _listens(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "rsyslogd did not start"
        if not self.socket.exists():
            return False
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(("127.0.0.1", PORT)) == 0


@pytest.fixture(scope="module")
def network() -> Iterator[int]:
    """A network namespace with nothing in it but a loopback."""
    descriptor = netns.new()
    yield descriptor
    os.close(descriptor)


@pytest.fixture(autouse=True)
def inside(network: int) -> Iterator[None]:
    """Every test here has that network and no other."""
    with netns.inside(network):
        yield


@pytest.fixture(scope="module")
def shared_rsyslog(network: int) -> Iterator[Rsyslog]:
    root = Path(tempfile.mkdtemp(prefix="wherry-syslog-"))
    with netns.inside(network):
        server = Rsyslog(root)
        server.start()
    yield server
    server.stop()
    shutil.rmtree(root)


@pytest.fixture
def rsyslog(shared_rsyslog: Rsyslog) -> Rsyslog:
    """A server that runs; a test may stop it and need not start it again."""
    if shared_rsyslog._process is None:
        shared_rsyslog.start()
    return shared_rsyslog
