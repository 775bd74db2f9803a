"""stop, kill, pause and their like, as users of the real `docker` program meet them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wherry import Engine
from wherry.errors import Conflict
from wherry.keeper.client import Keeper
from wherry.keeper.protocol import Running, Setup
from wherry.spec.container import Config, CreateRequest
from wherry.testing.daemon import Daemon, eventually
from wherry.testing.images import busybox_image

POLITE = ("sh", "-c", "trap 'exit 5' TERM; trap 'echo usr1' USR1; while :; do sleep 0.1; done")
DEAF = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")


def status(daemon: Daemon, name: str) -> str:
    return daemon.inspect(name, "{{.State.Status}} {{.State.ExitCode}}")


def started(daemon: Daemon, name: str, command: Sequence[str], *flags: str) -> str:
    """Run it, wait until its first process is the one that was asked for, answer that process's pid."""
    daemon.ok("run", "-d", "--name", name, *flags, "busybox", *command)
    return daemon.inspect(name, "{{.State.Pid}}")


def test_a_paused_container_takes_its_stop_signal(daemon: Daemon) -> None:
    """It runs on to end by itself, as with today's docker."""
    started(daemon, "paused", POLITE)
    eventually(
        lambda: (
            "usr1" in daemon.ok("logs", "paused") or daemon.docker("kill", "-s", "USR1", "paused").returncode
        )
    )
    daemon.ok("pause", "paused")
    daemon.ok("stop", "-t", "30", "paused")
    assert status(daemon, "paused") == "exited 5"


def test_other_signals_of_a_paused_container(daemon: Daemon) -> None:
    """Where the stop signal is named, another signal waits until the container runs on."""
    started(daemon, "waiting", POLITE, "--stop-signal", "TERM")
    daemon.ok("pause", "waiting")
    daemon.ok("kill", "-s", "USR1", "waiting")
    assert status(daemon, "waiting") == "paused 0"
    daemon.ok("unpause", "waiting")
    eventually(lambda: "usr1" in daemon.ok("logs", "waiting"))
    daemon.ok("pause", "waiting")
    daemon.ok("kill", "waiting")
    assert status(daemon, "waiting") == "exited 137"


def test_the_ladder(daemon: Daemon) -> None:
    """What does not hear is killed when its time is up: the container's own time, or the one given."""
    started(daemon, "deaf", DEAF, "--stop-timeout", "1")
    eventually(lambda: "ready" in daemon.ok("logs", "deaf"))
    begun = time.monotonic()
    daemon.ok("stop", "deaf")
    assert time.monotonic() - begun >= 1
    assert status(daemon, "deaf") == "exited 137"
    daemon.ok("start", "deaf")
    daemon.ok("stop", "-t", "0", "deaf")
    assert status(daemon, "deaf") == "exited 137"


def test_as_long_as_it_takes(daemon: Daemon) -> None:
    """`-t -1` waits for ever; another's kill ends the wait."""
    started(daemon, "slow", DEAF)
    eventually(lambda: "ready" in daemon.ok("logs", "slow"))
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(daemon.docker, "stop", "-t", "-1", "slow")
        assert not stopping.done()
        daemon.ok("kill", "slow")
        assert stopping.result(60).returncode == 0


def test_nobody_outlives_it(daemon: Daemon) -> None:
    """Execs, children that left their session, and those that fork without end die with the container, also when paused."""
    pid = started(daemon, "crowd", ("sh", "-c", "setsid sleep 7001 & while :; do sleep 0.01 & done"))
    daemon.ok("exec", "-d", "crowd", "sh", "-c", "trap '' TERM HUP; setsid sleep 7002 & exec sleep 7003")
    eventually(lambda: all(f"sleep 700{n}" in daemon.ok("top", "crowd") for n in (1, 2, 3)))
    pids = {row.split()[1] for row in daemon.ok("top", "crowd").splitlines()[1:]}
    assert pid in pids
    daemon.ok("pause", "crowd")
    daemon.ok("kill", "crowd")
    assert status(daemon, "crowd") == "exited 137"
    assert not [each for each in pids if _sleeps(each)]


def _sleeps(pid: str) -> bool:
    try:
        return b"sleep\0700" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("verb", [("stop",), ("kill",), ("rm", "-f")], ids=" ".join)
def test_a_process_that_has_vanished(daemon: Daemon, verb: tuple[str, ...]) -> None:
    """Somebody else has killed it this moment: nothing to do is success, and the end is recorded."""
    pid = started(daemon, "ghost", ("sleep", "1000"))
    os.kill(int(pid), signal.SIGKILL)
    answer = daemon.docker(*verb, "ghost")
    assert answer.returncode == 0 or "is not running" in answer.stderr
    if verb[0] == "rm":
        assert daemon.docker("inspect", "ghost").returncode == 1
    else:
        eventually(lambda: status(daemon, "ghost") == "exited 137")


@pytest.mark.parametrize(
    ("verb", "why"),
    [
        ("pause", "is not running"),
        ("unpause", "is not paused"),
        ("kill", "is not running"),
        ("top", "is not running"),
    ],
)
def test_refused_of_one_that_does_not_run(daemon: Daemon, verb: str, why: str) -> None:
    daemon.ok("create", "--name", "still", "busybox")
    answer = daemon.docker(verb, "still")
    assert answer.returncode == 1
    assert why in answer.stderr
    assert daemon.docker("stop", "still").returncode == 0


def test_top_takes_what_ps_takes(daemon: Daemon) -> None:
    """Columns of the user's choice; what ps refuses is the user's fault, in ps's words; no shell reads them."""
    pid = started(daemon, "shown", ("sleep", "1000"))
    assert daemon.ok("top", "shown", "-o", "pid,comm").split() == ["PID", "COMMAND", pid, "sleep"]
    assert daemon.ok("top", "shown", "aux").splitlines()[0].split()[:2] == ["USER", "PID"]
    assert "PID field" in daemon.docker("top", "shown", "-eo", "user").stderr
    status_code, answer = daemon.api("GET", "/v1.51/containers/shown/top?ps_args=bogus")
    assert (status_code, "error running ps" in answer["message"]) == (400, True)
    status_code, answer = daemon.api("GET", "/v1.51/containers/shown/top?ps_args=-o%20pid;touch%20/x")
    assert status_code == 400


# ---- A start that hangs --------------------------------------------------------------------------------------------
@pytest.fixture
def engine(own_network: None) -> Iterator[Engine]:
    root = Path(tempfile.mkdtemp(prefix="wherry-hang-", dir="/var/tmp"))
    with Engine(root) as engine:
        busybox_image(engine)
        yield engine
        for container in engine.containers(all=True):
            engine.remove(container.id, force=True)
    shutil.rmtree(root)


@pytest.mark.parametrize("verb", ["stop", "kill", "remove"])
def test_a_start_that_hangs_is_cancelled(engine: Engine, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Its keeper does not answer: whoever wants the container to end does not wait for that, and nothing is left."""
    hangs = threading.Event()
    start = Keeper.start

    def frozen(self: Keeper, setup: Setup, descriptors: Sequence[int], deadline: float = 60.0) -> Running:
        os.kill(self.pid, signal.SIGSTOP)
        hangs.set()
        return start(self, setup, descriptors, deadline)

    name = engine.create(CreateRequest(config=Config(image="busybox", cmd=["sleep", "1000"]))).id
    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as pool:
        patched.setattr(Keeper, "start", frozen)
        starting = pool.submit(engine.start, name)
        assert hangs.wait(20)
        begun = time.monotonic()
        if verb == "remove":
            engine.remove(name, force=True)
        else:
            getattr(engine, verb)(name)
        assert time.monotonic() - begun < 30
        with pytest.raises(Conflict, match="was cancelled"):
            starting.result(20)
    if verb != "remove":
        assert engine.inspect(name).status == "created"
        engine.start(name)
        assert engine.inspect(name).status == "running"
