"""A container that runs out of memory: who is killed, who is told, and what still works."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from wherry.linux import cgroups
from wherry.testing.cgroups import VERSION, file_of, value_of
from wherry.testing.daemon import DOCKER, Daemon, eventually

SMALL: Final = ("-m", "16m", "--memory-swap", "16m")
EAT: Final = ("tail", "/dev/zero")
"""It looks for the last line of what has no lines."""
EAT_IN_USER_MODE: Final = ("awk", 'BEGIN { s = "x"; while (1) s = s s }')
"""So that memory runs out where the program writes, and not in a system call, which would fail."""


@contextmanager
def events(daemon: Daemon) -> Iterator[list[str]]:
    """The actions of containers from now on, as `action name`."""
    seen: list[str] = []
    with subprocess.Popen(
        [DOCKER, "events", "--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}"],
        env=daemon.client_environment, stdout=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        reader = threading.Thread(target=lambda: seen.extend(line.strip() for line in watching.stdout or ()))
        reader.start()
        try:
            names = (f"tells{number}" for number in itertools.count())
            eventually(
                lambda: daemon.ok("create", "--name", next(names), "busybox") and seen, "events are told"
            )
            yield seen
        finally:
            watching.terminate()
            reader.join()


def test_the_killed_container(daemon: Daemon) -> None:
    """137, OOMKilled, and `oom` before `die`."""
    with events(daemon) as seen:
        assert daemon.docker("run", "--name", "eater", *SMALL, "busybox", *EAT).returncode == 137
        assert daemon.inspect("eater", "{{.State.OOMKilled}} {{.State.ExitCode}}") == "true 137"
        eventually(lambda: "die eater" in seen)
    assert seen.count("oom eater") == 1
    assert seen.index("oom eater") < seen.index("die eater")
    daemon.ok("update", "-m", "64m", "--memory-swap", "64m", "eater")
    daemon.ok("run", "-d", "--name", "calm", *SMALL, "busybox", "sleep", "1000")
    daemon.ok("kill", "calm")
    assert daemon.inspect("calm", "{{.State.OOMKilled}} {{.State.ExitCode}}") == "false 137"


@pytest.mark.parametrize("who", ["exec", "child"])
def test_another_than_the_first_process(daemon: Daemon, who: str) -> None:
    """An exec, or a child of process 1, is killed: that is told at once, and the container runs on."""
    with events(daemon) as seen:
        if who == "exec":
            daemon.ok("run", "-d", "--name", who, *SMALL, "busybox", "sleep", "1000")
            assert daemon.docker("exec", who, *EAT).returncode == 137
        else:
            daemon.ok("run", "-d", "--name", who, *SMALL, "busybox", "sh", "-c", "tail /dev/zero; sleep 1000")
        eventually(lambda: f"oom {who}" in seen)
        assert daemon.inspect(who, "{{.State.OOMKilled}} {{.State.Status}}") == "true running"
    daemon.ok("stop", "-t", "0", who)
    assert daemon.inspect(who, "{{.State.OOMKilled}}") == "true"
    daemon.ok("start", who)
    if who == "exec":
        assert daemon.inspect(who, "{{.State.OOMKilled}}") == "false"


def test_a_limit_above_the_container(daemon: Daemon) -> None:
    """The parent's limit kills too; the log says that it was not the container's own."""
    parent = "/wherry-test-tight"
    daemon.ok("run", "-d", "--name", "sized", "--cgroup-parent", parent, "busybox", "sleep", "1000")
    file = "memory.limit_in_bytes" if VERSION == 1 else "memory.max"
    above = file_of(daemon.inspect("sized", "{{.State.Pid}}"), file).parent.parent
    for name in (file, "memory.memsw.limit_in_bytes" if VERSION == 1 else "memory.swap.max"):
        if (above / name).exists():
            (above / name).write_text("0" if name == "memory.swap.max" else str(16 << 20))
    assert daemon.docker("exec", "sized", *EAT).returncode == 137
    eventually(lambda: daemon.inspect("sized", "{{.State.OOMKilled}}") == "true")
    eventually(
        lambda: "container sized ran out of memory, by a limit of a cgroup above its own" in daemon.log
    )
    daemon.docker("run", "--name", "own", *SMALL, "busybox", *EAT)
    eventually(lambda: "container own ran out of memory, by its own limit of 16MiB" in daemon.log)
    daemon.ok("rm", "-f", "sized")
    cgroups.remove_empty(parent)


def test_told_to_the_next_daemon(make_daemon: Callable[..., Daemon]) -> None:
    """Memory ran out while there was no daemon: the next one knows."""
    daemon = make_daemon().start()
    daemon.image()
    script = "while [ ! -e /go ]; do usleep 10000; done; tail /dev/zero; touch /gone; sleep 1000"
    daemon.ok("run", "-d", "--name", "alone", *SMALL, "busybox", "sh", "-c", script)
    pid = daemon.inspect("alone", "{{.State.Pid}}")
    daemon.kill()
    root = f"/proc/{pid}/root"
    open(f"{root}/go", "w").close()
    eventually(lambda: subprocess.run(["test", "-e", f"{root}/gone"], check=False).returncode == 0)
    daemon.start()
    eventually(lambda: daemon.inspect("alone", "{{.State.OOMKilled}} {{.State.Status}}") == "true running")


@pytest.mark.skipif(VERSION == 2, reason="cgroups of version 2 always kill")
def test_everyone_waits(daemon: Daemon) -> None:
    """With --oom-kill-disable the processes stand still. Docker's `oom` says so; ps, top, stats answer; it can be ended."""
    with events(daemon) as seen:
        daemon.ok("run", "-d", "--name", "stuck", *SMALL, "--oom-kill-disable", "busybox", *EAT_IN_USER_MODE)
        pid = daemon.inspect("stuck", "{{.State.Pid}}")
        eventually(lambda: "under_oom 1" in value_of(pid, "memory.oom_control"))
        eventually(lambda: "oom stuck" in seen)
        assert "stuck" in daemon.ok("ps")
        assert "awk" in daemon.ok("top", "stuck")
        stats = json.loads(daemon.ok("stats", "--no-stream", "--format", "{{json .}}", "stuck"))
        assert stats["MemUsage"].endswith("/ 16MiB")
        assert daemon.inspect("stuck", "{{.State.OOMKilled}} {{.State.Status}}") == "false running"
        daemon.ok("stop", "-t", "1", "stuck")
    assert daemon.inspect("stuck", "{{.State.Status}} {{.State.ExitCode}}") == "exited 137"


@pytest.mark.skipif(VERSION == 2, reason="cgroups of version 2 always kill")
def test_more_memory_ends_the_wait(daemon: Daemon) -> None:
    """`update` lets those go on who wait."""
    script = 'BEGIN { s = "x"; while (length(s) < 16000000) s = s s; print length(s) }'
    daemon.ok("run", "-d", "--name", "waits", *SMALL, "--oom-kill-disable", "busybox", "awk", script)
    pid = daemon.inspect("waits", "{{.State.Pid}}")
    eventually(lambda: "under_oom 1" in value_of(pid, "memory.oom_control"))
    daemon.ok("update", "-m", "256m", "--memory-swap", "256m", "waits")
    assert daemon.ok("wait", "waits") == "0"
    assert daemon.ok("logs", "waits") == "16777216"
