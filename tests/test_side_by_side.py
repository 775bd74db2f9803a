"""Two daemons on one machine; a root has one owner; embedding without a daemon."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry import Engine
from wherry.errors import CommandNotFound
from wherry.testing.daemon import WHERRY, Daemon, NetworkNamespace, eventually
from wherry.testing.images import busybox_image


def test_two_daemons_side_by_side(make_daemon: Callable[..., Daemon]) -> None:
    """Different roots, bridges, subnets and sockets in one network namespace: both publish, neither sees the other."""
    net = NetworkNamespace.make()
    one = make_daemon("--bip", "10.87.1.1/24", net=net).start()
    two = make_daemon("--bip", "10.87.2.1/24", net=net).start()
    for daemon in (one, two):
        daemon.image()
        daemon.ok("run", "-d", "--name", "same", "busybox", "sleep", "1000")
    assert one.inspect("same", "{{.NetworkSettings.Networks.bridge.IPAddress}}").startswith("10.87.1.")
    assert two.inspect("same", "{{.NetworkSettings.Networks.bridge.IPAddress}}").startswith("10.87.2.")
    assert one.inspect("same", "{{.Id}}") != two.inspect("same", "{{.Id}}")
    two.ok("rm", "-f", "same")
    assert one.ok("exec", "same", "echo", "still here") == "still here"
    two.kill()
    assert one.ok("run", "--rm", "busybox", "echo", "fine") == "fine"
    two.start()


def test_a_root_has_one_owner(make_daemon: Callable[..., Daemon]) -> None:
    """A second daemon on the same root ends at once with one clear line and leaves the first alone."""
    daemon = make_daemon().start()
    second = subprocess.run(
        [
            *daemon.net.prefix, str(WHERRY), "daemon", "-H", f"unix://{daemon.root}/other",
            "--data-root", str(daemon.root / "data"),
            "--exec-root", str(daemon.root / "exec2"),
        ],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert "another engine owns" in second.stderr
    assert "Traceback" not in second.stderr
    assert daemon.docker("ps").returncode == 0


PROGRAM = """
import sys
from wherry import Engine
from wherry.testing.images import busybox_image
with Engine(sys.argv[1]) as engine:
    busybox_image(engine)
    print(engine.output("busybox", ["echo", "embedded"], network="none").decode().strip())
    print(engine.run("busybox", ["sh", "-c", "exit 7"], network="none"))
    print(engine.run("busybox", ["true"]))
    print(len(engine.containers(all=True)))
"""


def test_embedding() -> None:
    """`with Engine(root) as engine:` runs containers with no daemon, and leaves nothing mounted."""
    root = Path(tempfile.mkdtemp(prefix="wherry-embed-", dir="/var/tmp"))
    net = NetworkNamespace.make()
    try:
        answer = net.run(sys.executable, "-c", PROGRAM, str(root))
        assert answer.stdout.split() == ["embedded", "7", "0", "0"], answer.stderr
        assert str(root) not in Path("/proc/self/mountinfo").read_text()
    finally:
        net.close()
        shutil.rmtree(root)


def test_sighup_puts_flushed_rules_back(make_daemon: Callable[..., Daemon]) -> None:
    """Somebody flushes the firewall: on SIGHUP a published port answers again, and the daemon goes on."""
    daemon = make_daemon().start()
    daemon.image()
    daemon.ok(
        "run", "-d", "-p", "8082:80", "busybox", "sh", "-c", "echo page > index.html; exec httpd -f -p 80"
    )
    eventually(lambda: daemon.net.fetch("http://127.0.0.1:8082/") == "page\n")
    daemon.net.run("nft", "flush", "ruleset")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: daemon.net.fetch("http://127.0.0.1:8082/") == "page\n", "the port answers again")
    assert daemon.docker("ps").returncode == 0


def test_a_start_that_fails_tells_the_first_error(own_network: None) -> None:
    """`Engine.run` of a program that is not there says so, and leaves no container."""
    root = Path(tempfile.mkdtemp(prefix="wherry-embed-", dir="/var/tmp"))
    try:
        with Engine(root) as engine:
            busybox_image(engine)
            with pytest.raises(CommandNotFound, match="executable file not found"):
                engine.run("busybox", ["no-such-program"], network="none")
            assert engine.containers(all=True) == []
            engine_id = (root / "engine-id").read_text().strip()
        assert not list(Path("/sys/fs/cgroup").glob(f"*/wherry-{engine_id}"))
    finally:
        shutil.rmtree(root)
