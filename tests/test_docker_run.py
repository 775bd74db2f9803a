"""`docker run` of the real program: what comes out, what goes in, terminals, exit codes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from wherry.testing.daemon import DOCKERS, Daemon, eventually


@pytest.mark.parametrize("docker", DOCKERS, ids=lambda p: p.replace("/", "-").strip("-"))
def test_echo(daemon: Daemon, docker: str) -> None:
    """`docker run --rm busybox echo hello` prints hello, with every docker program of this machine."""
    answer = subprocess.run(
        [docker, "run", "--rm", "busybox", "echo", "hello"],
        env=daemon.client_environment, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "hello\n", "")
    assert daemon.ok("ps", "-aq") == ""


def test_stdin_reaches_the_process_and_ends(daemon: Daemon) -> None:
    """`echo hi | docker run -i --rm busybox cat` prints hi."""
    assert daemon.docker("run", "-i", "--rm", "busybox", "cat", input="hi\n").stdout == "hi\n"


def test_a_megabyte_through_stdin_comes_back_whole(daemon: Daemon) -> None:
    data = "".join(f"line {i}\n" for i in range(100_000))
    assert daemon.docker("run", "-i", "--rm", "busybox", "cat", input=data).stdout == data


def test_streams_stay_apart(daemon: Daemon) -> None:
    answer = daemon.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (answer.stdout, answer.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "exit 3"], 3, ""),
        (["no-such-program"], 127, "executable file not found"),
        (["/no/such/program"], 127, "no such file or directory"),
        (["/etc/passwd"], 126, "permission denied"),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["sh", "-c", "kill -TERM $$; sleep 5"], 0, ""),
    ],
    ids=[
        "zero",
        "three",
        "not in PATH",
        "no such path",
        "not executable",
        "killed by itself",
        "TERM ignored by pid 1",
    ],
)
def test_exit_codes(daemon: Daemon, argv: list[str], code: int, words: str) -> None:
    """0, 3, 126, 127 as Docker gives them; process 1 cannot be killed from inside by a signal it does not handle."""
    if argv[-1].startswith("kill"):
        # Process 1 of a pid namespace is immune to its own SIGKILL: the shell goes on and ends well.
        code = 0
        argv = ["sh", "-c", argv[-1].replace("sleep 5", "true")]
    answer = daemon.docker("run", "--rm", "busybox", *argv)
    assert answer.returncode == code, answer.stderr
    assert words in answer.stderr


def test_a_bad_flag_is_125(daemon: Daemon) -> None:
    answer = daemon.docker("run", "--rm", "--memory", "1m", "busybox", "true")
    assert answer.returncode == 125
    assert "Minimum memory limit allowed is 6MB" in answer.stderr


def test_a_missing_image_is_125(daemon: Daemon) -> None:
    answer = daemon.docker("run", "--rm", "no-such-image", "true")
    assert answer.returncode == 125
    assert "no-such-image" in answer.stderr


def test_killed_from_outside_is_137(daemon: Daemon) -> None:
    name = daemon.ok("run", "-d", "busybox", "sleep", "1000")
    with subprocess.Popen(
        ["docker", "wait", name], env=daemon.client_environment, stdout=subprocess.PIPE, text=True
    ) as waiting:
        daemon.ok("kill", name)
        assert waiting.communicate(timeout=20)[0].strip() == "137"


class Terminal:
    """A docker program on a pseudo terminal, as a person at a keyboard has it."""

    def __init__(self, daemon: Daemon, *argv: str, rows: int = 30, columns: int = 100) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ.update(daemon.client_environment)
            os.execvp("docker", ["docker", *argv])
        self.size(rows, columns)
        self.seen = ""

    def size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str, timeout: float = 15.0) -> re.Match[str]:
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.seen)
            if found:
                self.seen = self.seen[found.end() :]
                return found
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} did not come: {self.seen!r}"
            try:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the terminal closed before {pattern!r}: {self.seen!r}") from None

    def wait(self) -> int:
        while True:
            try:
                if not os.read(self.master, 65536):
                    break
            except OSError:
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_terminal_that_resizes(daemon: Daemon) -> None:
    """`docker run -it` is a terminal of the user's size, follows a resize, and gives the shell's exit code."""
    terminal = Terminal(daemon, "run", "-it", "--rm", "busybox", "sh")
    terminal.expect("# ")
    terminal.type("test -t 0 && echo is-a-tt\\y; stty size\n")
    terminal.expect("is-a-tty")
    terminal.expect("30 100")
    terminal.size(40, 120)

    def resized() -> bool:
        terminal.type("stty size\n")
        terminal.expect("stty size")
        return terminal.expect(r"(\d+ \d+)\r")[1] == "40 120"

    eventually(resized, "the new size")
    terminal.type("exit 7\n")
    assert terminal.wait() == 7


def test_detach_and_attach_again(daemon: Daemon) -> None:
    """Ctrl-P Ctrl-Q leaves a container running; `docker attach` comes back to it."""
    terminal = Terminal(daemon, "run", "-it", "--name", "shell", "busybox", "sh")
    terminal.expect("# ")
    terminal.type("\x10\x11")
    assert terminal.wait() == 0
    assert daemon.inspect("shell", "{{.State.Running}}") == "true"
    again = Terminal(daemon, "attach", "shell")
    again.type("echo back-aga\\in; exit 5\n")
    again.expect("back-again")
    assert again.wait() == 5


def test_published_ports(daemon: Daemon) -> None:
    """A published port answers at 127.0.0.1 and at the bridge's address, and the container's own."""
    page = "published"
    name = daemon.ok(
        "run", "-d", "-p", "8080:80", "busybox", "sh", "-c",
        f"mkdir /www; echo {page} > /www/index.html; exec httpd -f -p 80 -h /www",
    )  # fmt: skip
    gateway = daemon.inspect(name, "{{.NetworkSettings.Networks.bridge.Gateway}}")
    address = daemon.inspect(name, "{{.NetworkSettings.Networks.bridge.IPAddress}}")
    for url in ("http://127.0.0.1:8080/", f"http://{gateway}:8080/", f"http://{address}/"):

        def fetch(url: str = url) -> bool:
            return daemon.net.fetch(url).strip() == page

        eventually(fetch, url)
    assert "8080->80/tcp" in daemon.ok("ps")
    other = daemon.docker("run", "--rm", "-p", "8080:80", "busybox", "true")
    assert other.returncode == 125
    assert "port is already allocated" in other.stderr


UDP_ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 53))
while True:
    data, who = s.recvfrom(2000)
    s.sendto(data, who)
"""


def test_published_udp(daemon: Daemon) -> None:
    """A published UDP port answers at 127.0.0.1 and at the bridge's address."""
    daemon.ok("run", "-d", "--name", "echo", "-p", "5353:53/udp", "busybox", "sleep", "1000")
    gateway = daemon.inspect("echo", "{{.NetworkSettings.Networks.bridge.Gateway}}")
    inside = ["nsenter", "-t", daemon.inspect("echo", "{{.State.Pid}}"), "-n"]
    with subprocess.Popen([*inside, sys.executable, "-c", UDP_ECHO]) as server:
        try:
            for address in ("127.0.0.1", gateway):

                def ask(address: str = address) -> bool:
                    script = (
                        "import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1);"
                        f"s.sendto(b'ping', ('{address}', 5353)); print(s.recv(100))"
                    )
                    return "ping" in daemon.net.run(sys.executable, "-c", script).stdout

                eventually(ask, f"an answer by UDP from {address}")
        finally:
            server.kill()


def test_sharing_a_network_namespace(daemon: Daemon) -> None:
    """`--network container:X` shares X's addresses and names; of one that does not run it is refused by name."""
    daemon.ok("run", "-d", "--name", "owner", "busybox", "sleep", "1000")
    address = daemon.inspect("owner", "{{.NetworkSettings.Networks.bridge.IPAddress}}")
    seen = daemon.ok(
        "run", "--rm", "--network", "container:owner", "busybox", "sh", "-c", "ip -4 addr show eth0; hostname"
    )
    assert address in seen
    assert daemon.inspect("owner", "{{.Config.Hostname}}") in seen
    daemon.ok("create", "--name", "stopped", "busybox", "true")
    refused = daemon.docker("run", "--rm", "--network", "container:stopped", "busybox", "true")
    assert refused.returncode != 0
    assert "cannot join network of a non running container" in refused.stderr


def test_none_and_host(daemon: Daemon) -> None:
    """`--network none` has a loopback only; `--network host` sees the daemon's links."""
    assert daemon.ok("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net") == "lo"
    assert daemon.bridge in daemon.ok("run", "--rm", "--network", "host", "busybox", "ls", "/sys/class/net")


def test_a_container_is_isolated(daemon: Daemon) -> None:
    """Docker's default capabilities, seccomp, its own pid namespace, masked paths, no descriptors of ours."""
    seen = daemon.ok(
        "run", "--rm", "busybox", "sh", "-c",
        "echo pid $$; grep -E 'CapEff|Seccomp:' /proc/self/status; ls /proc/self/fd | wc -l; "
        "cat /proc/kcore 2>&1 | wc -c; echo x > /proc/sysrq-trigger; ls -a / | grep -c oldroot; hostname",
    )  # fmt: skip
    assert "pid 1\n" in seen
    assert "CapEff:\t00000000a80425fb" in seen
    assert "Seccomp:\t2" in seen


def test_a_container_sees_its_own_cgroup_read_only(daemon: Daemon) -> None:
    """/sys/fs/cgroup shows the container's limits, as Docker's does, and cannot be written."""
    seen = daemon.ok(
        "run", "--rm", "--memory", "64m", "busybox", "sh", "-c",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; "
        "mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x 2>&1 | grep -c 'Read-only'",
    )  # fmt: skip
    assert seen.split()[0] == str(64 << 20)
    assert int(seen.split()[-1]) >= 1


def test_limits_reach_the_cgroup(daemon: Daemon) -> None:
    name = daemon.ok(
        "run", "-d", "--memory", "64m", "--pids-limit", "50", "--cpus", "0.5", "busybox", "sleep", "1000"
    )
    pid = daemon.inspect(name, "{{.State.Pid}}")
    groups = {
        kind: path
        for _, kinds, path in (
            line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        )
        for kind in kinds.split(",")
    }
    top = Path("/sys/fs/cgroup")
    if "memory" in groups:
        assert (top / f"memory{groups['memory']}" / "memory.limit_in_bytes").read_text().strip() == str(
            64 << 20
        )
        assert (top / f"pids{groups['pids']}" / "pids.max").read_text().strip() == "50"
        assert (top / f"cpu{groups['cpu']}" / "cpu.cfs_quota_us").read_text().strip() == "50000"
    else:
        assert (top / groups[""].strip("/") / "memory.max").read_text().strip() == str(64 << 20)
        assert (top / groups[""].strip("/") / "pids.max").read_text().strip() == "50"


def test_users_groups_and_directory(daemon: Daemon) -> None:
    seen = daemon.ok(
        "run",
        "--rm",
        "-u",
        "1234:5678",
        "-w",
        "/made/here",
        "-e",
        "A=b",
        "busybox",
        "sh",
        "-c",
        "id -u; id -g; pwd; echo $A",
    )
    assert seen.split() == ["1234", "5678", "/made/here", "b"]
