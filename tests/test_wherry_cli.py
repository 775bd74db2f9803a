"""The `wherry` program against a real daemon: docker's verbs, flags and exit codes."""

from __future__ import annotations

import time

import pytest

from wherry.testing.daemon import Daemon


@pytest.mark.parametrize(
    ("argv", "code", "out", "err"),
    [
        (["echo", "hello"], 0, "hello\n", ""),
        (["sh", "-c", "echo out; echo err >&2; exit 3"], 3, "out\n", "err\n"),
        (["no-such-program"], 127, "", "executable file not found"),
        (["/etc/passwd"], 126, "", "permission denied"),
    ],
)
def test_run(daemon: Daemon, argv: list[str], code: int, out: str, err: str) -> None:
    answer = daemon.wherry("run", "--rm", "busybox", *argv)
    assert (answer.returncode, answer.stdout) == (code, out)
    assert err in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_user_s_mistake_is_said_in_a_line_and_125(daemon: Daemon) -> None:
    for argv in (["--memory", "1m", "busybox", "true"], ["no-such-image", "true"]):
        answer = daemon.wherry("run", "--rm", *argv)
        assert answer.returncode == 125
        assert len(answer.stderr.strip().splitlines()) <= 3
        assert "Traceback" not in answer.stderr


def test_stdin(daemon: Daemon) -> None:
    assert daemon.wherry("run", "-i", "--rm", "busybox", "cat", input="hi\n").stdout == "hi\n"


def test_the_life_of_a_container(daemon: Daemon) -> None:
    made = daemon.wherry("run", "-d", "--name", "cli", "-p", "8090:80", "busybox", "sleep", "1000")
    assert made.returncode == 0, made.stderr
    assert "cli" in daemon.wherry("ps").stdout
    assert "8090->80/tcp" in daemon.wherry("ps").stdout
    assert daemon.wherry("exec", "cli", "sh", "-c", "echo in; exit 4").returncode == 4
    assert daemon.wherry("pause", "cli").returncode == 0
    assert daemon.wherry("unpause", "cli").returncode == 0
    assert daemon.wherry("rename", "cli", "renamed").returncode == 0
    assert "sleep 1000" in daemon.wherry("top", "renamed").stdout
    assert daemon.wherry("stop", "-t", "0", "renamed").returncode == 0
    assert daemon.wherry("wait", "renamed").stdout.strip() == "137"
    assert daemon.wherry("rm", "renamed").returncode == 0
    assert "renamed" not in daemon.wherry("ps", "-a").stdout
    missing = daemon.wherry("inspect", "renamed")
    assert missing.returncode == 1
    assert "No such" in missing.stderr


def test_logs_images_and_drivers(daemon: Daemon) -> None:
    daemon.wherry("run", "--name", "talks", "busybox", "sh", "-c", "echo one; echo two")
    assert daemon.wherry("logs", "--tail", "1", "talks").stdout == "two\n"
    assert "busybox" in daemon.wherry("images").stdout
    drivers = daemon.wherry("drivers").stdout
    for name in ("native", "json-file", "overlay2", "bridge", "docker"):
        assert name in drivers


def test_it_starts_fast(daemon: Daemon) -> None:
    """No heavy import on the way to a simple answer: the best of five is well below what importing typer costs."""
    best = 1.0
    for _ in range(5):
        before = time.perf_counter()
        assert daemon.wherry("ps").returncode == 0
        best = min(best, time.perf_counter() - before)
    assert best < 0.5


def test_no_daemon_is_said_plainly(daemon: Daemon) -> None:
    answer = daemon.wherry("-H", "unix:///var/tmp/no-such-socket", "ps")
    assert answer.returncode == 1
    assert "/var/tmp/no-such-socket" in answer.stderr
    assert "Traceback" not in answer.stderr
