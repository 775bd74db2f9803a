"""Many execs at once on one container: each ends as it should, and nothing is left of any."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from wherry.testing.api import Api
from wherry.testing.daemon import Daemon, eventually

ATONCE = 8


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds now."""

    descriptors: int
    resident: int
    """KiB."""

    @classmethod
    def of(cls, pid: int) -> Usage:
        status = Path(f"/proc/{pid}/status").read_text()
        return cls(len(os.listdir(f"/proc/{pid}/fd")), int(status.partition("VmRSS:")[2].split()[0]))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def zombies_below(pid: int) -> list[int]:
    """Of the daemon, launcher, keeper or container: children that have ended and that nobody waited for."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if state == "Z" and int(parent) == pid:
                found.append(int(entry.name))
    return found


@pytest.fixture
def box(daemon: Daemon) -> str:
    return daemon.ok("run", "-d", "--init", "--network", "none", "busybox", "sleep", "10000")


def storm(daemon: Daemon, name: str, count: int) -> None:
    api = Api(daemon.root / "sock")

    def one(number: int) -> tuple[int | None, bytes, bytes]:
        script = f"seq {number} {number + 999}; echo complaint {number} >&2; exit {number % 256}"
        answer = api.execute(name, ["sh", "-c", script])
        return answer.code, answer.stdout, answer.stderr

    with ThreadPoolExecutor(ATONCE) as pool:
        for number, (code, stdout, stderr) in enumerate(pool.map(one, range(count))):
            assert code == number % 256
            assert stdout == b"".join(b"%d\n" % n for n in range(number, number + 1000))
            assert stderr == b"complaint %d\n" % number


def nothing_is_left(daemon: Daemon, name: str, before: dict[int, Usage], margin: int) -> None:
    first = int(daemon.inspect(name, "{{.State.Pid}}"))
    keeper = parent_of(first)
    assert set(before) == {daemon.pid, keeper}
    eventually(lambda: children_of(keeper) == [first], "the keeper's only child is process 1")
    for pid in (daemon.pid, parent_of(keeper), keeper, first):
        eventually(lambda p=pid: not zombies_below(p), "no zombie")
    eventually(
        lambda: all(Usage.of(pid).descriptors <= usage.descriptors for pid, usage in before.items()),
        "no more descriptors than before",
    )
    for pid, usage in before.items():
        assert Usage.of(pid).resident <= usage.resident + margin, (pid, usage, Usage.of(pid))
    # Process 1, its child, and nobody else.
    assert len(daemon.ok("top", name).splitlines()) == 3


def usage(daemon: Daemon, name: str) -> dict[int, Usage]:
    keeper = parent_of(int(daemon.inspect(name, "{{.State.Pid}}")))
    return {pid: Usage.of(pid) for pid in (daemon.pid, keeper)}


def test_two_hundred_execs(daemon: Daemon, box: str) -> None:
    """200 execs, 8 at a time: each exit code is right, all output comes, no zombie stays, and keeper and daemon hold
    what they held before."""
    storm(daemon, box, 40)  # so that caches and pools are what they become
    before = usage(daemon, box)
    storm(daemon, box, 200)
    nothing_is_left(daemon, box, before, margin=8 << 10)


@pytest.mark.soak
def test_ten_thousand_execs(daemon: Daemon, box: str) -> None:
    """The same 10,000 times over."""
    storm(daemon, box, 200)
    before = usage(daemon, box)
    storm(daemon, box, 10_000)
    nothing_is_left(daemon, box, before, margin=32 << 10)


def test_amid_pauses(daemon: Daemon, box: str) -> None:
    """While the container is paused and unpaused, an exec ends as it should or is refused, and none hangs."""
    api = Api(daemon.root / "sock")
    before = usage(daemon, box)
    over = False

    def pauses() -> int:
        count = 0
        while not over:
            assert api.ask("POST", f"/containers/{box}/pause")[0] == 204
            assert api.ask("POST", f"/containers/{box}/unpause")[0] == 204
            count += 1
        return count

    def one(number: int) -> tuple[int, str]:
        status, made = api.ask("POST", f"/containers/{box}/exec", {"Cmd": ["sh", "-c", f"exit {number}"]})
        if status != 201:
            return status, made["message"]
        status, answer = api.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True})
        if status >= 300:
            return status, answer["message"]
        eventually(lambda: not api.ask("GET", f"/exec/{made['Id']}/json")[1]["Running"], "its end")
        assert api.ask("GET", f"/exec/{made['Id']}/json")[1]["ExitCode"] == number
        return 200, ""

    with ThreadPoolExecutor(ATONCE + 1) as pool:
        pausing = pool.submit(pauses)
        try:
            answers = list(pool.map(one, range(1, 81)))
        finally:
            over = True
        assert pausing.result() > 0
    assert {status for status, _ in answers} <= {200, 409, 503}, answers
    assert daemon.ok("exec", box, "echo", "fine") == "fine"
    nothing_is_left(daemon, box, before, margin=16 << 10)


def test_the_container_is_killed_amid(daemon: Daemon, box: str) -> None:
    """A container that is killed amid a storm takes its execs along; each client gets an end, and a code or a reason."""
    api = Api(daemon.root / "sock")
    first = int(daemon.inspect(box, "{{.State.Pid}}"))
    keeper = parent_of(first)

    def one(number: int) -> int | None:
        status, made = api.ask(
            "POST", f"/containers/{box}/exec",
            {"Cmd": ["sleep", "1000"], "AttachStdout": True, "AttachStderr": True},
        )  # fmt: skip
        if status != 201:
            assert status == 409, made
            return None
        try:
            api.start_exec(made["Id"])
        except AssertionError as refused:
            assert "HTTP/1.1 409" in str(refused)
        status, found = api.ask("GET", f"/exec/{made['Id']}/json")
        return None if status == 404 else found["ExitCode"]

    with ThreadPoolExecutor(64) as pool:
        running = [pool.submit(one, number) for number in range(64)]
        eventually(lambda: len(children_of(keeper)) > 20, "many execs run")
        os.kill(first, signal.SIGKILL)
        codes = [each.result(60) for each in running]
    assert 137 in codes
    assert not [code for code in codes if code == 0], codes
    eventually(lambda: daemon.inspect(box, "{{.State.Status}}") == "exited", "the end is known")
    eventually(lambda: not Path(f"/proc/{keeper}").exists(), "the keeper's end")


def test_clients_hang_up(daemon: Daemon, box: str) -> None:
    """Clients that go away amid their exec's output leave nothing behind once that has ended."""
    api = Api(daemon.root / "sock")
    before = usage(daemon, box)
    for _ in range(40):
        wanted = {"Cmd": ["sh", "-c", "seq 10000; sleep 0.2; seq 10000"], "AttachStdout": True}
        _, made = api.ask("POST", f"/containers/{box}/exec", wanted)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(api.address))
            client.sendall(
                b"POST /exec/%b/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}" % made["Id"].encode()
            )
            client.recv(100)
    nothing_is_left(daemon, box, before, margin=16 << 10)


def test_one_exec_starts_once(daemon: Daemon, box: str) -> None:
    """However many clients start the same exec at once: one does, the others are refused, and its end is its own."""
    api = Api(daemon.root / "sock")
    for _ in range(10):
        _, made = api.ask("POST", f"/containers/{box}/exec", {"Cmd": ["sh", "-c", "echo x >>/count; exit 7"]})

        def start(_: int, exec_id: str = made["Id"]) -> int:
            return api.ask("POST", f"/exec/{exec_id}/start", {"Detach": True})[0]

        with ThreadPoolExecutor(ATONCE) as pool:
            statuses = sorted(pool.map(start, range(ATONCE)))
        assert statuses[0] == 200 and set(statuses[1:]) == {409}, statuses
        eventually(lambda i=made["Id"]: not api.ask("GET", f"/exec/{i}/json")[1]["Running"], "its end")
        assert api.ask("GET", f"/exec/{made['Id']}/json")[1]["ExitCode"] == 7
    assert daemon.ok("exec", box, "wc", "-l", "/count").split()[0] == "10"
