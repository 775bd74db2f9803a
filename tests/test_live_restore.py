"""Containers do not need the daemon: SIGKILL it, start it again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from wherry.testing.daemon import DOCKER, Daemon, eventually

COUNTER = "i=0; while true; do echo $i; i=$((i+1)); usleep 10000; done"


def numbers(text: str) -> list[int]:
    return [int(line) for line in text.split()]


def test_twenty_containers_run_on(make_daemon: Callable[..., Daemon]) -> None:
    """All 20 still run with the same pids, every number is in the log once, stop and wait work, exits are known."""
    daemon = make_daemon().start()
    daemon.image()
    names = [f"c{i}" for i in range(20)]
    for name in names:
        daemon.ok("run", "-d", "--name", name, "busybox", "sh", "-c", COUNTER)
    for i in range(3):
        daemon.ok(
            "run",
            "-d",
            "--name",
            f"ends{i}",
            "busybox",
            "sh",
            "-c",
            f"while [ ! -e /end ]; do usleep 10000; done; echo last words; exit 4{i}",
        )
    template = "{{.Name}} {{.State.Pid}} {{.State.Running}} {{.NetworkSettings.Networks.bridge.IPAddress}}"
    before = {name: daemon.inspect(name, template) for name in names}
    pids = [daemon.inspect(f"ends{i}", "{{.State.Pid}}") for i in range(3)]
    daemon.kill()
    for pid in pids:
        Path(f"/proc/{pid}/root/end").touch()
    for pid in pids:
        eventually(lambda pid=pid: not _alive(pid), "the end of a container without a daemon")
    reached = {}
    daemon.start()
    for name in names:
        assert daemon.inspect(name, template) == before[name]
        reached[name] = numbers(daemon.ok("logs", name))[-1]
    for i in range(3):
        assert daemon.inspect(f"ends{i}", "{{.State.Status}} {{.State.ExitCode}}") == f"exited 4{i}"
        assert daemon.ok("logs", f"ends{i}") == "last words"
    for name in names:
        eventually(lambda name=name: numbers(daemon.ok("logs", "--tail", "1", name))[-1] > reached[name])
    with subprocess.Popen(
        [DOCKER, "wait", "c0"], env=daemon.client_environment, stdout=subprocess.PIPE, text=True
    ) as waiting:
        daemon.ok("stop", "-t", "1", *names)
        assert waiting.communicate(timeout=30)[0].strip() == "137"
    for name in names:
        seen = numbers(daemon.ok("logs", name))
        assert seen == list(range(len(seen)))
        assert daemon.inspect(name, "{{.State.ExitCode}}") == "137"


def test_paused_and_exec_after_a_crash(make_daemon: Callable[..., Daemon]) -> None:
    """A paused container is paused after a crash; execs and published ports work as before."""
    daemon = make_daemon().start()
    daemon.image()
    daemon.ok("run", "-d", "--name", "frozen", "busybox", "sleep", "1000")
    daemon.ok(
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8081:80",
        "busybox",
        "sh",
        "-c",
        "echo page > index.html; exec httpd -f -p 80",
    )
    daemon.ok("pause", "frozen")
    daemon.kill()
    daemon.start()
    assert daemon.inspect("frozen", "{{.State.Status}}") == "paused"
    daemon.ok("unpause", "frozen")
    assert daemon.ok("exec", "frozen", "echo", "in") == "in"
    eventually(lambda: daemon.net.fetch("http://127.0.0.1:8081/") == "page\n")
    ports = json.loads(daemon.ok("inspect", "--format", "{{json .NetworkSettings.Ports}}", "web"))
    assert ports["80/tcp"][0]["HostPort"] == "8081"


def test_stop_and_start_of_the_daemon_leaves_containers(make_daemon: Callable[..., Daemon]) -> None:
    """SIGTERM ends the daemon with 0, and containers go on."""
    daemon = make_daemon().start()
    daemon.image()
    daemon.ok("run", "-d", "--name", "on", "busybox", "sleep", "1000")
    pid = daemon.inspect("on", "{{.State.Pid}}")
    assert daemon.stop() == 0
    assert _alive(pid)
    daemon.start()
    assert daemon.inspect("on", "{{.State.Pid}} {{.State.Running}}") == f"{pid} true"


def test_a_killed_keeper_is_an_exit(make_daemon: Callable[..., Daemon]) -> None:
    """SIGKILL a keeper: its container ends with 137, is recorded, and starts again."""
    daemon = make_daemon().start()
    daemon.image()
    daemon.ok("run", "-d", "--name", "kept", "busybox", "sleep", "1000")
    pid = daemon.inspect("kept", "{{.State.Pid}}")
    keeper = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    subprocess.run(["kill", "-9", keeper], check=True)
    eventually(lambda: daemon.inspect("kept", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137")
    assert not _alive(pid)
    daemon.ok("start", "kept")
    assert daemon.inspect("kept", "{{.State.Running}}") == "true"


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
