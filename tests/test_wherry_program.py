"""The program `wherry` against a daemon: streams, terminal, signals and exit codes as docker's users know them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from wherry.testing.daemon import WHERRY, Daemon, eventually


def wherry(daemon: Daemon, *words: str, code: int = 0, stdin: bytes | None = None) -> str:
    """stdout of a command that ends with `code`."""
    given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    answer = subprocess.run(
        [WHERRY, *words], env=daemon.client_environment, capture_output=True, timeout=60, check=False, **given
    )
    assert answer.returncode == code, answer.stderr.decode()
    assert b"Traceback" not in answer.stderr
    return answer.stdout.decode()


@pytest.fixture
def sleeper(daemon: Daemon) -> str:
    """The name of a container that runs."""
    return wherry(daemon, "run", "-d", "-e", "A=1", "-l", "x=y", "busybox", "sleep", "1000").strip()


@dataclass
class Terminal:
    """A program on a terminal of 24×80, as a user sits in front of it."""

    process: subprocess.Popen[bytes]
    master: int
    seen: bytes = b""

    def until(self, words: str, timeout: float = 20.0) -> str:
        """All that was shown up to (and with) `words`; what follows stays to be read."""
        deadline = time.monotonic() + timeout
        wanted = words.encode()
        while wanted not in self.seen:
            assert time.monotonic() < deadline, f"{words!r} is not in {self.seen!r}"
            with contextlib.suppress(BlockingIOError):
                data = b""
                with contextlib.suppress(OSError):
                    data = os.read(self.master, 65536)
                assert data or self.process.poll() is None, f"it ended: {self.seen!r}"
                self.seen += data
        before, _, self.seen = self.seen.partition(wanted)
        return (before + wanted).decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self) -> int:
        return self.process.wait(20)


@contextlib.contextmanager
def terminal(daemon: Daemon, *words: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [WHERRY, *words], stdin=slave, stdout=slave, stderr=slave, env=daemon.client_environment,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["no-such-program"], 127),
        (["/etc"], 126),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_the_exit_code_is_the_containers(daemon: Daemon, command: list[str], code: int) -> None:
    wherry(daemon, "run", "--rm", "busybox", *command, code=code)
    assert wherry(daemon, "ps", "-aq") == ""


@pytest.mark.parametrize(
    "words",
    [
        ["--no-such-flag", "busybox"],
        ["-p", "x", "busybox"],
        [],
        ["no-such-image-here:at-all"],
        ["--memory", "x", "busybox"],
    ],
    ids=" ".join,
)
def test_what_is_no_containers_fault_is_125(daemon: Daemon, words: list[str]) -> None:
    wherry(daemon, "run", "--rm", *words, code=125)


def test_output_and_errors_are_apart_and_input_reaches_it(daemon: Daemon) -> None:
    answer = daemon.wherry("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (answer.stdout, answer.stderr) == ("out\n", "err\n")
    data = os.urandom(3 << 20)
    assert wherry(daemon, "run", "-i", "--rm", "busybox", "md5sum", stdin=data).split()[0] == _md5(data)


def _md5(data: bytes) -> str:
    return subprocess.run(["md5sum"], input=data, capture_output=True, check=True).stdout.split()[0].decode()


def test_a_signal_to_the_program_goes_to_the_container(daemon: Daemon) -> None:
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        [WHERRY, "run", "--rm", "busybox", "sh", "-c", script],
        env=daemon.client_environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == b"got\n"
    assert process.wait(20) == 9
    process.stdout.close()


def test_a_terminal_has_our_size_and_follows_it(daemon: Daemon) -> None:
    with terminal(daemon, "run", "-it", "--rm", "busybox", "sh") as screen:
        screen.until("# ")
        screen.type("stty size; test -t 0 && echo is-$((1+1))-tty\n")
        assert "24 80" in screen.until("is-2-tty\r\n")
        screen.resize(40, 100)

        def follows() -> bool:
            screen.type("echo size=$(stty size)=\n")
            return "size=40 100=" in screen.until("=\r\n")

        eventually(follows, "the new size")
        screen.type("exit 5\n")
        assert screen.end() == 5


def test_detaching_leaves_the_container_running(daemon: Daemon) -> None:
    with terminal(daemon, "run", "-it", "--name", "left", "busybox", "sh") as screen:
        screen.until("# ")
        screen.type("\x10\x11")
        assert screen.end() == 0
    assert wherry(daemon, "inspect", "-f", "{{.State.Running}}", "left") == "true\n"
    with terminal(daemon, "attach", "left") as screen:
        screen.type("echo back-again\n")
        screen.until("back-again\r\n")
        screen.type("exit 4\n")
        assert screen.end() == 4


def test_exec(daemon: Daemon, sleeper: str) -> None:
    assert wherry(daemon, "exec", "-e", "B=2", sleeper, "sh", "-c", "echo $A$B") == "12\n"
    assert wherry(daemon, "exec", "-i", sleeper, "cat", stdin=b"abc") == "abc"
    wherry(daemon, "exec", sleeper, "sh", "-c", "exit 7", code=7)
    wherry(daemon, "exec", sleeper, "no-such-program", code=127)
    with terminal(daemon, "exec", "-it", sleeper, "sh") as screen:
        screen.until("# ")
        screen.type("stty size; exit 6\n")
        screen.until("24 80")
        assert screen.end() == 6


def test_a_containers_life_by_its_verbs(daemon: Daemon) -> None:
    name = wherry(daemon, "create", "--name", "life", "busybox", "sh", "-c", "echo hi; sleep 1000").strip()
    assert wherry(daemon, "start", "life") == "life\n"
    eventually(lambda: wherry(daemon, "logs", "life") == "hi\n", "its line")
    assert wherry(daemon, "ps", "-q", "--no-trunc") == f"{name}\n"
    assert "Up " in wherry(daemon, "ps", "--format", "{{.Names}} {{.Status}}")
    for verb, status in (("pause", "paused"), ("unpause", "running"), ("restart", "running")):
        wherry(daemon, verb, *(["-t", "0"] if verb == "restart" else []), "life")
        assert wherry(daemon, "inspect", "-f", "{{.State.Status}}", "life") == f"{status}\n"
    assert "sleep 1000" in wherry(daemon, "top", "life")
    wherry(daemon, "update", "--pids-limit", "50", "life")
    assert wherry(daemon, "inspect", "-f", "{{.HostConfig.PidsLimit}}", "life") == "50\n"
    wherry(daemon, "rename", "life", "other")
    wherry(daemon, "rm", "other", code=1)
    assert wherry(daemon, "kill", "-s", "KILL", "other") == "other\n"
    assert wherry(daemon, "wait", "other") == "137\n"
    assert "A /file" not in wherry(daemon, "diff", "other")
    assert wherry(daemon, "rm", "other") == "other\n"
    wherry(daemon, "rm", "other", code=1)


def test_inspect_finds_containers_images_and_networks(daemon: Daemon, sleeper: str) -> None:
    answer = daemon.wherry("inspect", "-f", "{{.Id}} {{json .Config.Labels}}", sleeper)
    assert answer.stdout == f'{sleeper} {{"x":"y"}}\n'
    assert "sha256:" in wherry(daemon, "inspect", "-f", "{{.Id}}", "busybox")
    assert "bridge" in wherry(daemon, "inspect", "--type", "network", "-f", "{{.Name}}", "bridge")
    answer = daemon.wherry("inspect", "nothing-has-this-name")
    assert (answer.returncode, answer.stdout) == (1, "[]\n")
    assert "No such object" in answer.stderr


def test_images_come_go_and_are_named(daemon: Daemon, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    wherry(daemon, "tag", "busybox", "example/tagged:v1")
    assert "example/tagged   v1" in wherry(daemon, "images", "example/tagged")
    wherry(daemon, "save", "-o", str(archive), "example/tagged:v1")
    assert wherry(daemon, "rmi", "example/tagged:v1") == "Untagged: example/tagged:v1\n"
    assert wherry(daemon, "load", "-i", str(archive)) == "Loaded image: example/tagged:v1\n"
    wherry(daemon, "rmi", "example/tagged:v1")
    assert list(tmp_path.iterdir()) == [archive]


def test_networks(daemon: Daemon) -> None:
    wherry(daemon, "network", "create", "--subnet", "10.123.0.0/24", "mine")
    assert "mine" in wherry(daemon, "network", "ls", "--format", "{{.Name}}").split()
    found = wherry(daemon, "network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}}{{end}}", "mine")
    assert found == "10.123.0.0/24\n"
    shown = wherry(daemon, "run", "--rm", "--network", "mine", "--ip", "10.123.0.77", "busybox", "ip", "addr")
    assert "10.123.0.77/24" in shown
    assert wherry(daemon, "network", "rm", "mine") == "mine\n"


def test_published_ports_are_told(daemon: Daemon) -> None:
    wherry(daemon, "run", "-d", "--name", "web", "-p", "127.0.0.1:18080:80", "busybox", "sleep", "100")
    assert wherry(daemon, "port", "web") == "80/tcp -> 127.0.0.1:18080\n"
    assert wherry(daemon, "port", "web", "80") == "127.0.0.1:18080\n"
    wherry(daemon, "port", "web", "81", code=1)
    assert "127.0.0.1:18080->80/tcp" in wherry(daemon, "ps")


def test_events_stats_info_and_version(daemon: Daemon, sleeper: str) -> None:
    events = wherry(daemon, "events", "--since", "1m", "--until", "0s", "--filter", f"container={sleeper}")
    assert [line.split()[2] for line in events.splitlines()][-2:] == ["create", "start"] or "start" in events
    assert re.search(r"^20\d\d-\d\d-\d\dT[\d:.]{18}[+-]\d\d:\d\d container start", events, re.MULTILINE)
    assert sleeper[:12] in wherry(daemon, "stats", "--no-stream", sleeper)
    assert "Storage Driver: overlay2" in wherry(daemon, "info")
    assert wherry(daemon, "info", "--format", "{{.Driver}}") == "overlay2\n"
    assert "Server: wherry" in wherry(daemon, "version")


def test_drivers_are_listed_by_the_daemon_and_without_one(daemon: Daemon, sleeper: str) -> None:
    lines = {tuple(line.split()[:2]): line for line in wherry(daemon, "drivers").splitlines()}
    assert "in use" in lines["exec", "native"]
    assert "wherry-jsonfile-log" in lines["log", "json-file"]
    answer = daemon.wherry("-H", "unix:///nowhere/sock", "drivers")
    assert "wherry-native-exec" in answer.stdout
    assert "available" in answer.stdout
    assert "Cannot connect" in answer.stderr


def test_logs_stop_when_nobody_reads(daemon: Daemon) -> None:
    wherry(daemon, "run", "--name", "chatty", "busybox", "seq", "1", "100000")
    answer = subprocess.run(
        f"{WHERRY} logs chatty | head -n 2",
        shell=True,
        env=daemon.client_environment,
        capture_output=True,
        check=True,
    )
    assert (answer.stdout, answer.stderr) == (b"1\n2\n", b"")


def test_without_a_daemon_there_is_one_clear_line(daemon: Daemon) -> None:
    answer = daemon.wherry("-H", "unix:///nowhere/sock", "ps")
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert (
        "Cannot connect to the wherry daemon at unix:///nowhere/sock. Is the daemon running?" in answer.stderr
    )


def test_the_daemon_is_named_by_flag_then_variable(daemon: Daemon) -> None:
    elsewhere = {
        **daemon.client_environment,
        "WHERRY_HOST": "unix:///nowhere/a",
        "DOCKER_HOST": "unix:///nowhere/b",
    }
    answer = subprocess.run([WHERRY, "ps"], env=elsewhere, capture_output=True, text=True, check=False)
    assert "unix:///nowhere/a" in answer.stderr
    answer = subprocess.run(
        [WHERRY, "-H", daemon.host, "ps"], env=elsewhere, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0


def test_a_wrong_configuration_starts_no_daemon_and_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "wherry.toml"
    file.write_text('debug = true\nlog-drivr = "syslog"\n')
    answer = subprocess.run(
        [WHERRY, "daemon", "--config-file", str(file)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr == f'wherry: {file}:2: there is no setting "log-drivr"; did you mean "log-driver"?\n'


def test_the_doctor_finds_nothing_missing_here() -> None:
    """(Every other test needs what it looks for.)"""
    answer = subprocess.run([WHERRY, "doctor"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout
    assert "MISSING" not in answer.stdout
    for subject in ("kernel", "cgroups", "overlay", "seccomp", "firewall", "wherry-init"):
        assert re.search(rf"^(ok|lacks) +{subject} ", answer.stdout, re.MULTILINE)
    for line in answer.stdout.splitlines():
        assert line.startswith(("ok", "lacks", " "))
    assert not list(Path("/var/lib").glob("**/.wherry-doctor-*"))


def test_a_listing_imports_nothing_heavy(daemon: Daemon) -> None:
    """What `ps` may cost is an interpreter and typer: no other library, none of the engine."""
    script = (
        "import sys; from wherry.cli import main; main(['ps']); "
        "print(*sorted({name.partition('.')[0] for name in sys.modules} | "
        "{name for name in sys.modules if name.startswith('wherry.')}), file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script],
        env=daemon.client_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(answer.stderr.split())
    assert not loaded & {
        "msgspec",
        "pluggy",
        "stevedore",
        "rich",
        "http",
        "email",
        "asyncio",
        "pydantic",
        "wherry.config",
    }
