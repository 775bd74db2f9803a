"""Process 1 from its first look at its terminal to its end: --init, stop signals, sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wherry.testing.daemon import Daemon, eventually


def test_init_is_what_docker_has(daemon: Daemon) -> None:
    """It reaps whom nobody waits for, forwards signals, and ends as its child; a group's signals come once."""
    script = "for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 &); done; trap 'exit 44' USR1; echo up; while :; do sleep 0.05; done"
    daemon.ok("run", "-d", "--init", "--name", "tini", "busybox", "sh", "-c", script)
    eventually(lambda: daemon.docker("logs", "tini").stdout == "up\n")
    eventually(lambda: len(daemon.ok("top", "tini").splitlines()) <= 4, "orphans are reaped")
    assert daemon.ok("exec", "tini", "cat", "/proc/1/comm") == "docker-init"
    daemon.ok("kill", "-s", "USR1", "tini")
    assert daemon.ok("wait", "tini") == "44"
    assert daemon.docker("run", "--rm", "--init", "busybox", "sh", "-c", "kill -SEGV $$").returncode == 139
    assert daemon.docker("run", "--rm", "--init", "busybox", "sh", "-c", "exit 7").returncode == 7
    assert daemon.docker("run", "--rm", "--init", "busybox", "nonesuch").returncode == 127


def test_init_keeps_job_control(daemon: Daemon) -> None:
    """On a terminal the program is in the foreground, in a group of its own, and its shell controls jobs."""
    script = "awk '{print $5 == $8, $5 == $1, $6 != $1}' /proc/$$/stat; set -m; sleep 0 & wait; echo done"
    shown = daemon.ok("run", "--rm", "-t", "--init", "busybox", "sh", "-c", script)
    assert shown.replace("\r", "").splitlines() == ["1 1 1", "done"]


def test_an_init_for_all(make_daemon: Callable[..., Daemon]) -> None:
    """The daemon's --init holds where a container does not say --init=false."""
    daemon = make_daemon("--init").start()
    daemon.image()
    assert daemon.ok("run", "--rm", "busybox", "cat", "/proc/1/comm") == "docker-init"
    assert daemon.ok("run", "--rm", "--init=false", "busybox", "cat", "/proc/1/comm") == "cat"


@pytest.mark.parametrize("signal", ["SIGUSR2", "USR2", "12"])
def test_stop_signal(daemon: Daemon, signal: str) -> None:
    """`docker stop` sends the container's own signal."""
    script = "trap 'exit 66' USR2; echo up; while :; do sleep 0.05; done"
    daemon.ok("run", "-d", "--name", "stops", "--stop-signal", signal, "busybox", "sh", "-c", script)
    eventually(lambda: daemon.docker("logs", "stops").stdout == "up\n")
    daemon.ok("stop", "-t", "20", "stops")
    assert daemon.inspect("stops", "{{.State.ExitCode}} {{.Config.StopSignal}}") == f"66 {signal}"


def test_stop_timeout(daemon: Daemon) -> None:
    """Who does not heed the signal is killed after the container's own time."""
    daemon.ok("run", "-d", "--name", "deaf", "--stop-timeout", "0", "busybox", "sleep", "1000")
    daemon.ok("stop", "deaf")
    assert daemon.inspect("deaf", "{{.State.ExitCode}}") == "137"


def test_console_size(daemon: Daemon) -> None:
    """A terminal has its size before the program looks, whether it was asked for at create or by a resize before start."""
    body = {
        "Image": "busybox", "Cmd": ["stty", "size"], "Tty": True, "HostConfig": {"ConsoleSize": [33, 99]},
    }  # fmt: skip
    for name, resize, expected in (("first", "", "33 99"), ("second", "h=44&w=111", "44 111")):
        status, answer = daemon.api("POST", f"/v1.51/containers/create?name={name}", body)
        assert status == 201, answer
        if resize:
            assert daemon.api("POST", f"/v1.51/containers/{name}/resize?{resize}", None)[0] == 200
        daemon.ok("start", name)
        daemon.ok("wait", name)
        assert daemon.ok("logs", name) == expected
