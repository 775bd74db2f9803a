"""Two daemons on one machine; a root has one owner; embedding without a daemon."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from wherry.testing.daemon import WHERRY, Daemon, NetworkNamespace


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
