"""A hostile process 1 goes for whoever joins it: each exec, and each container that shares its pid namespace.

Between the joining of a pid namespace and the execve of the user's program there is a process of ours in there. It must
have nothing that the container does not have, and what can be done to it must not reach the engine.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wherry.testing.api import Api
from wherry.testing.daemon import Daemon, eventually
from wherry_native_exec.neighbours import procfs_is_made_from_outside

EXECS = 200
ATONCE = 8


class Hunter:
    """A container whose process 1 is attacks/hunter.c; what it prints is its log."""

    def __init__(self, daemon: Daemon, attacks: Path, *words: str, flags: tuple[str, ...] = ()) -> None:
        self.daemon = daemon
        # A shell outlives the hunt, to see whether the container goes on.
        script = '"$@"; while :; do echo alive; sleep 0.1; done'
        self.name = daemon.ok(
            "run", "-d", *flags, "-v", f"{attacks}:/attacks:ro", "busybox",
            "sh", "-c", script, "sh", "/attacks/hunter", "100", *words,
        )  # fmt: skip
        eventually(lambda: "hunting" in self.log, "the hunt is on")

    @property
    def log(self) -> str:
        return self.daemon.ok("logs", self.name)

    def call_off(self) -> None:
        """End the hunt; then the container's output goes on."""
        process = self.daemon.inspect(self.name, "{{.State.Pid}}")
        Path(f"/proc/{process}/root/tmp/stop").touch()
        eventually(lambda: "alive" in self.log, "the container's output goes on")

    def end(self) -> list[str]:
        """Call it off; what it got from processes that were not yet what they should become."""
        self.call_off()
        (seen,) = re.findall(r"^seen (\d+) of \d+$", self.log, re.MULTILINE)
        # Enough were met on their way in for the test to mean something.
        assert int(seen) >= 5, self.log[-2000:]
        return re.findall(r"^early (.+)$", self.log, re.MULTILINE)


@pytest.fixture
def canary() -> Iterator[int]:
    """A process of the host that must not come to harm."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        assert process.poll() is None
        process.kill()


def storm(daemon: Daemon, name: str, count: int = EXECS) -> None:
    """Execs, several at a time; each ends as it should."""
    api = Api(daemon.root / "sock")

    def one(number: int) -> tuple[int | None, bytes]:
        answer = api.execute(name, ["sh", "-c", f"echo {number}; exit {number % 100}"])
        return answer.code, answer.stdout

    with ThreadPoolExecutor(ATONCE) as pool:
        assert list(pool.map(one, range(count))) == [(n % 100, b"%d\n" % n) for n in range(count)]


def beyond(found: list[str], bounding: int, allowed: str) -> list[str]:
    """What of the catch a container with these capabilities should not have had."""
    bad = [
        line
        for line in found
        if line.startswith("caps") and int(line.rsplit(" ", 1)[1], 16) & ~bounding
    ]  # fmt: skip
    return bad + [
        line for line in found if not line.startswith("caps") and not re.fullmatch(allowed, line)
    ]  # fmt: skip


def bounding_set(daemon: Daemon, name: str) -> int:
    status = daemon.ok("exec", name, "cat", "/proc/self/status")
    return int(re.findall(r"CapBnd:\s*(\w+)", status)[0], 16)


# What somebody who may trace gets: the three streams, the socket of the barrier, and the program as it lies in memory.
TRACER = (
    r"(?:getfd|link) (?:[012] (?:/dev/null|pipe:\[\d+\]|/dev/pts/\d+)|3 socket:\[\d+\])"
    r"|open (?:mem|exe|cwd|root|maps|environ|auxv)|memory (?:read|written)|seized "
)


@pytest.mark.parametrize("words", [(), ("stop",)], ids=["at once", "stopped"])
def test_nothing_is_had_from_who_joins(daemon: Daemon, attacks: Path, words: tuple[str, ...]) -> None:
    """Process 1 of a default container gets neither descriptor nor memory, trace nor program of 200 execs, and none of
    them has a capability that the container has not."""
    hunter = Hunter(daemon, attacks, *words)
    storm(daemon, hunter.name)
    bounding = bounding_set(daemon, hunter.name)
    assert beyond(hunter.end(), bounding, allowed="") == []


def test_a_tracer_finds_nothing_to_take(daemon: Daemon, attacks: Path) -> None:
    """With SYS_PTRACE process 1 seizes who joins, and has no more than before; every exec ends well all the same."""
    hunter = Hunter(daemon, attacks, "stop", flags=("--cap-add", "SYS_PTRACE"))
    storm(daemon, hunter.name)
    bounding = bounding_set(daemon, hunter.name)
    found = hunter.end()
    # The attack works: without this the test above would show nothing.
    assert {"seized ", "memory read", "open mem"} <= set(found)
    assert beyond(found, bounding, TRACER) == []


def test_a_neighbour_in_the_pid_namespace(
    daemon: Daemon, attacks: Path
) -> None:  # fmt: skip
    """A container that shares the pid namespace, and may trace, gets of another's execs no more than that other has."""
    name = daemon.ok("run", "-d", "busybox", "sleep", "1000")
    hunter = Hunter(daemon, attacks, "stop", flags=("--pid", f"container:{name}", "--cap-add", "SYS_PTRACE"))
    storm(daemon, name)
    assert beyond(hunter.end(), bounding_set(daemon, name), TRACER) == []


def test_a_container_that_joins(daemon: Daemon, attacks: Path) -> None:
    """Process 1 of a container that joins a hostile pid namespace has given up all it should before it is seen there;
    where the kernel does not let it, it is refused."""
    hunter = Hunter(daemon, attacks, "stop", flags=("--cap-add", "SYS_PTRACE"))
    bounding = bounding_set(daemon, hunter.name)
    joining = ("run", "--rm", "--network", "none", "--pid", f"container:{hunter.name}", "busybox", "true")
    if not procfs_is_made_from_outside():
        refused = daemon.docker(*joining)
        assert refused.returncode == 125
        assert "may have CAP_SYS_PTRACE" in refused.stderr
        return
    for _ in range(15):
        daemon.ok(*joining)
    found = hunter.end()
    assert beyond(found, bounding, TRACER) == []
    assert "seized " in found


def test_lies_on_the_line(daemon: Daemon, attacks: Path, canary: int) -> None:
    """A tracer takes the socket of who joins it and tells the engine lies: it kills no process of the host that these
    name, holds the engine up for a bounded time, and spoils its own execs only."""
    hunter = Hunter(daemon, attacks, "stop", "forge", str(canary), flags=("--cap-add", "SYS_PTRACE"))
    while "early socket" not in hunter.log:
        before = time.monotonic()
        daemon.docker("exec", hunter.name, "true")
        assert time.monotonic() - before < 40
    hunter.call_off()
    assert {"forged H", "forged P"} <= set(hunter.log.splitlines())
    assert daemon.ok("exec", hunter.name, "echo", "fine") == "fine"
    assert daemon.inspect(hunter.name, "{{.State.Running}}") == "true"


def test_who_joins_is_stopped_and_left_so(daemon: Daemon, attacks: Path) -> None:
    """SIGSTOP to each newcomer: the exec fails in a bounded time and leaves no process, the container's output goes on,
    another container notices nothing, and removal is quick."""
    hunter = Hunter(daemon, attacks, "leave")
    other = daemon.ok("run", "-d", "busybox", "sleep", "1000")
    while True:
        before = time.monotonic()
        with subprocess.Popen(
            ["docker", "exec", hunter.name, "true"],
            env=daemon.client_environment, stdout=subprocess.PIPE, text=True,
        ) as attempt:  # fmt: skip
            assert daemon.ok("exec", other, "echo", "quick") == "quick"
            assert time.monotonic() - before < 5
            words, _ = attempt.communicate(timeout=40)
        if attempt.returncode != 0:
            break
    assert "within" in words
    hunter.call_off()
    # Nobody of ours is left in there.
    assert "wherry-init" not in daemon.ok("exec", hunter.name, "ps", "-o", "comm")
    before = time.monotonic()
    daemon.ok("rm", "-f", hunter.name)
    assert time.monotonic() - before < 10
