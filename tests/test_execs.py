"""`docker exec`, from outside: each of its options, what it joins, how it ends, and many at once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from wherry.linux import capabilities
from wherry.testing.api import Api
from wherry.testing.cgroups import VERSION
from wherry.testing.daemon import DOCKER, Daemon, eventually

HELD: Final = capabilities.of("self", "Prm")
NONE: Final = "0" * 16
DEFAULT: Final = f"{capabilities.mask(capabilities.DEFAULT) & HELD:016x}"
CAPS: Final = "echo $(sed -n 's/^Cap\\(Prm\\|Eff\\|Bnd\\)://p' /proc/self/status)"
GUARDS: Final = "echo $(sed -n 's/^\\(NoNewPrivs\\|Seccomp\\)://p' /proc/self/status)"
GROUPS: Final = "echo $(id -u) $(id -g) $(sed -n 's/^Groups://p' /proc/self/status) $HOME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`docker exec FLAGS c sh -c SCRIPT` in a container that was started with `container`."""

    option: str
    container: tuple[str, ...]
    flags: tuple[str, ...]
    script: str
    expected: str


def row(option: str, container: str, flags: str, script: str, expected: str) -> Row:
    return Row(
        option=option,
        container=tuple(container.split()),
        flags=tuple(flags.split()),
        script=script,
        expected=expected,
    )


ROWS: Final = (
    row("User", "", "", GROUPS, "0 0 0 /root"),
    row("User", "", "-u user", GROUPS, "1000 1000 29 100 1000 /home/user"),
    row("User", "", "-u 4321:staff", GROUPS, "4321 50 50 /"),
    row("User", "-u user", "", GROUPS, "1000 1000 29 100 1000 /home/user"),
    row("User", "-u user", "-u 0", GROUPS, "0 0 0 /root"),
    row("User", "--group-add 77", "-u user", GROUPS, "1000 1000 29 77 100 1000 /home/user"),
    row("Env", "-e A=run -e B=run", "-e B=exec -e C=", "echo $A $B .$C.", "run exec .."),
    row("Env", "-e TERM=vt100", "", "echo $TERM", "vt100"),
    row("Env", "-e TERM=vt100", "-t", "echo $TERM", "vt100"),
    row("Env", "-t", "", "echo .$TERM.", ".."),
    row("Env", "", "-t", "echo $TERM", "xterm"),
    row("WorkingDir", "-w /tmp", "", "pwd", "/tmp"),
    row("WorkingDir", "-w /tmp", "-w /etc", "pwd", "/etc"),
    row("Tty", "", "-t", "tty; test -c $(tty) && echo there", "/dev/pts/0\nthere"),
    row("Tty", "", "", "tty", "not a tty"),
    row("Privileged", "", "", CAPS, f"{DEFAULT} {DEFAULT} {DEFAULT}"),
    row("Privileged", "", "--privileged", CAPS, f"{HELD:016x} {HELD:016x} {HELD:016x}"),
    row("Privileged", "", "--privileged -u user", CAPS, f"{NONE} {NONE} {HELD:016x}"),
    row("Privileged", "", "--privileged", GUARDS, "0 2"),
    # The filter is the container's: what it does not let without SYS_ADMIN stays denied.
    row("Privileged", "", "--privileged", "mount -t tmpfs none /mnt 2>&1", "mount: permission denied (are you root?)"),
    row("Privileged", "--cap-add SYS_ADMIN", "--privileged", "mount -t tmpfs none /mnt && echo mounted", "mounted"),
    row("Privileged", "--security-opt seccomp=unconfined", "--privileged", GUARDS, "0 0"),
    row("Privileged", "--privileged", "", f"{CAPS}; {GUARDS}", f"{HELD:016x} {HELD:016x} {HELD:016x}\n0 0"),
    row("", "--cap-drop ALL --cap-add KILL", "", CAPS, f"{1 << 5:016x} {1 << 5:016x} {1 << 5:016x}"),
    row("", "--security-opt no-new-privileges", "--privileged", GUARDS, "1 2"),
    row("", "--ulimit nofile=123:456 --oom-score-adj 77", "", "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; umask",
        "123\n456\n77\n0022"),
    row("", "--init", "", "cat /proc/1/comm /proc/self/comm", "docker-init\ncat"),
    row("", "--read-only", "", "touch /x 2>&1", "touch: /x: Read-only file system"),
)  # fmt: skip


@pytest.mark.parametrize(
    "each", ROWS, ids=lambda each: " ".join((each.option, *each.container, "·", *each.flags)).strip()
)
def test_option(daemon: Daemon, each: Row) -> None:
    """What was asked for the exec is what it has; all else is as its container has it."""
    daemon.ok("run", "-d", "--name", "c0", *each.container, "busybox", "sleep", "1000")
    answer = daemon.docker("exec", *each.flags, "c0", "sh", "-c", each.script)
    assert answer.stdout.replace("\r\n", "\n").strip() == each.expected, answer.stderr


@pytest.mark.parametrize(
    "spoilt", ["rm /dev/null", "ln -sf /proc/1/exe /dev/null", "rm /dev/null; mkdir /dev/null"]
)
def test_without_a_null_device(daemon: Daemon, spoilt: str) -> None:
    """A container that takes its /dev/null away keeps nobody out; the null device that an exec then has is its own."""
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", f"{spoilt}; echo done; sleep 1000")
    eventually(lambda: daemon.ok("logs", name) == "done")
    of_host = os.stat("/dev/null")
    look = "cat; stat -L -c %a.%t:%T.%d:%i /proc/self/fd/0"
    for _ in range(2):
        mode, kind, device = daemon.ok("exec", name, "sh", "-c", f"{look}; chmod 600 /proc/self/fd/0").split(
            "."
        )
        assert (mode, kind) == ("666", "1:3")
        assert device != f"{of_host.st_dev}:{of_host.st_ino}"
    assert os.stat("/dev/null").st_mode == of_host.st_mode
    daemon.ok("exec", "-d", name, "sh", "-c", "echo nowhere && touch /came")
    eventually(lambda: daemon.docker("exec", name, "ls", "/came").returncode == 0)


# ---- Where it is -------------------------------------------------------------------------------------------------
def alongside(daemon: Daemon, name: str, *flags: str) -> tuple[str, str]:
    """(pid of process 1, pid of an exec that sleeps)."""
    daemon.ok("exec", "-d", *flags, name, "sleep", "4321")
    first = daemon.inspect(name, "{{.State.Pid}}")

    def found() -> str:
        _, view = daemon.api("GET", f"/v1.51/containers/{name}/json")
        pids = [daemon.api("GET", f"/v1.51/exec/{each}/json")[1]["Pid"] for each in view["ExecIDs"] or ()]
        return str(pids[0]) if pids and pids[0] else ""

    return first, eventually(found)


def test_it_joins_everything(daemon: Daemon) -> None:
    """All namespaces, cgroups, root and limits are process 1's; its parent is not of the container."""
    daemon.ok("run", "-d", "--name", "whole", "--pids-limit", "50", "busybox", "sleep", "1000")
    first, second = alongside(daemon, "whole")
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
    assert {k: os.readlink(f"/proc/{second}/ns/{k}") for k in kinds} == {
        k: os.readlink(f"/proc/{first}/ns/{k}") for k in kinds
    }
    for file in ("cgroup", "limits", "loginuid", "coredump_filter"):
        assert Path(f"/proc/{second}/{file}").read_text() == Path(f"/proc/{first}/{file}").read_text(), file
    assert os.stat(f"/proc/{second}/root/.").st_ino == os.stat(f"/proc/{first}/root/.").st_ino
    status = {
        pid: dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        for pid in (first, second)
    }
    same = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
            "Seccomp_filters", "Cpus_allowed", "Umask", "SigIgn", "SigBlk")  # fmt: skip
    assert {k: status[first][k] for k in same} == {k: status[second][k] for k in same}
    assert status[second]["NSpid"].split()[1] != "1"
    assert daemon.ok("exec", "whole", "sh", "-c", "grep PPid /proc/self/status").split()[-1] != "1"


def test_it_joins_where_process_1_is_now(daemon: Daemon) -> None:
    """A container that made cgroups of its own, as systemd does, and went into one, still takes an exec: there, in v2."""
    flags = ("--security-opt", "writable-cgroups=true", "--cgroupns", "private")
    top = "/sys/fs/cgroup" if VERSION == 2 else "/sys/fs/cgroup/pids"
    script = f"mkdir {top}/below && echo 1 > {top}/below/cgroup.procs && echo moved; sleep 1000"
    daemon.ok("run", "-d", "--name", "nests", *flags, "busybox", "sh", "-c", script)
    eventually(lambda: daemon.docker("logs", "nests").stdout == "moved\n", daemon.ok("logs", "nests"))
    if VERSION == 2:
        # From now on a process in the top cgroup would be refused with EBUSY.
        daemon.ok("exec", "nests", "sh", "-c", f"echo +pids > {top}/cgroup.subtree_control")
    assert daemon.ok("exec", "nests", "echo", "in") == "in"
    first, second = alongside(daemon, "nests")
    line = ":pids:" if VERSION == 1 else "0::"
    groups = {
        pid: [each for each in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line in each]
        for pid in (first, second)
    }
    assert groups[first][0].endswith("/below")
    assert groups[second][0] == (
        groups[first][0] if VERSION == 2 else groups[first][0].removesuffix("/below")
    )


# ---- How it ends -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("c0", "true"), 0, ""),
        (("c0", "sh", "-c", "exit 5"), 5, ""),
        (("c0", "sh", "-c", "exit 255"), 255, ""),
        (("c0", "sh", "-c", "kill -9 $$"), 137, ""),
        (("c0", "nonesuch"), 127, 'exec: "nonesuch": executable file not found in $PATH'),
        (("-t", "c0", "nonesuch"), 127, 'exec: "nonesuch": executable file not found in $PATH'),
        (("c0", "/none/such"), 127, "no such file or directory"),
        (("-e", "PATH=/none", "c0", "ls"), 127, 'exec: "ls": executable file not found in $PATH'),
        (("c0", "/etc/passwd"), 126, "permission denied"),
        (("c0", "/etc"), 126, "is a directory"),
        (("-w", "/none", "c0", "true"), 127, 'chdir to cwd ("/none") failed: no such file or directory'),
        (("-u", "none", "c0", "true"), 126, "unable to find user none: no matching entries in passwd file"),
        (("-u", "0:none", "c0", "true"), 126, "unable to find group none: no matching entries in group file"),
        (("-w", "relative", "c0", "true"), 1, "Cwd must be an absolute path"),
        (("-d", "c0", "nonesuch"), 1, 'exec: "nonesuch": executable file not found in $PATH'),
        (("c0", ""), 1, "No exec command specified"),
        (("none", "true"), 1, "No such container: none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_exit_code(daemon: Daemon, argv: tuple[str, ...], code: int, words: str) -> None:
    """Codes and words are docker's; the container goes on."""
    daemon.ok("run", "-d", "--name", "c0", "busybox", "sleep", "1000")
    answer = daemon.docker("exec", *argv)
    assert answer.returncode == code, answer.stdout + answer.stderr
    assert words in answer.stdout + answer.stderr
    assert daemon.inspect("c0", "{{.State.Running}} {{.ExecIDs}}") in ("true []", "true <no value>")


def test_where_nothing_can_be_executed(daemon: Daemon) -> None:
    """In a container that is paused, restarting, stopped or new, it is said which; also of an exec that was made before."""
    api = Api(daemon.root / "sock")
    daemon.ok("run", "-d", "--name", "states", "busybox", "sleep", "1000")
    whole = daemon.inspect("states", "{{.Id}}")
    _, made = api.ask("POST", "/containers/states/exec", {"Cmd": ["true"], "AttachStdout": True})
    daemon.ok("pause", "states")
    paused = "is paused, unpause the container before exec"
    assert paused in daemon.docker("exec", "states", "true").stderr
    status, answer = api.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True})
    assert (status, answer["message"]) == (409, f"Container {whole} {paused}")
    daemon.ok("unpause", "states")
    daemon.ok("kill", "states")
    eventually(lambda: daemon.inspect("states", "{{.State.Status}}") == "exited")
    assert f"container {whole} is not running" in daemon.docker("exec", "states", "true").stderr
    status, answer = api.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True})
    assert (status, answer["message"]) == (409, f"container {whole} is not running")
    daemon.ok("create", "--name", "new", "busybox", "true")
    assert "is not running" in daemon.docker("exec", "new", "true").stderr
    daemon.ok("run", "-d", "--name", "again", "--restart", "always", "busybox", "false")
    eventually(lambda: daemon.inspect("again", "{{.State.Status}}") == "restarting")

    def refused() -> bool:
        words = daemon.docker("exec", "again", "true").stderr
        return "is restarting, wait until the container is running" in words

    eventually(refused, "an exec that meets it while it waits")


def test_the_end_is_known_before_the_streams_close(daemon: Daemon) -> None:
    """Who sees the end of the output and asks, is told the code: 200 times of 200, and that it does not run."""
    api = Api(daemon.root / "sock")
    daemon.ok("run", "-d", "--name", "quick", "busybox", "sleep", "1000")

    def once(number: int) -> tuple[int | None, bytes]:
        done = api.execute("quick", ["sh", "-c", f"echo {number}; exit {number % 250}"])
        return done.code, done.stdout

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(once, range(200)))
    assert seen == [(number % 250, f"{number}\n".encode()) for number in range(200)]


def test_what_has_ended_can_be_asked_for(daemon: Daemon) -> None:
    """After the end of an exec, and of its container, its code is known; it cannot be started again."""
    api = Api(daemon.root / "sock")
    daemon.ok("run", "-d", "--name", "grace", "busybox", "sleep", "1000")
    _, made = api.ask("POST", "/containers/grace/exec", {"Cmd": ["sh", "-c", "exit 9"], "AttachStdout": True})
    _, lasting = api.ask("POST", "/containers/grace/exec", {"Cmd": ["sleep", "1000"]})
    _, never = api.ask("POST", "/containers/grace/exec", {"Cmd": ["true"]})

    def view(exec_id: str) -> dict[str, Any]:
        return dict(api.ask("GET", f"/exec/{exec_id}/json")[1])

    assert (view(made["Id"])["Running"], view(made["Id"])["ExitCode"]) == (False, None)
    for each in (made, lasting):
        assert api.ask("POST", f"/exec/{each['Id']}/start", {"Detach": True})[0] == 200
    eventually(lambda: view(made["Id"])["ExitCode"] == 9)
    assert (view(made["Id"])["Running"], view(made["Id"])["Pid"]) == (False, 0)
    status, answer = api.ask("POST", f"/exec/{made['Id']}/start", {"Detach": True})
    assert (status, answer["message"]) == (409, f"Error: Exec command {made['Id']} has already run")
    assert daemon.inspect("grace", "{{json .ExecIDs}}") == json.dumps(
        [lasting["Id"], never["Id"]], separators=(",", ":")
    )
    daemon.ok("rm", "-f", "grace")
    assert (view(lasting["Id"])["Running"], view(lasting["Id"])["ExitCode"]) == (False, 137)


def test_events(daemon: Daemon) -> None:
    """Made, started, ended: once each, in this order, with the code; also of one that cannot be started."""
    daemon.ok("run", "-d", "--name", "told", "busybox", "sleep", "1000")
    since = daemon.ok("info", "--format", "{{.SystemTime}}")
    daemon.docker("exec", "told", "sh", "-c", "exit 3")
    daemon.docker("exec", "told", "nonesuch")
    until = daemon.ok("info", "--format", "{{.SystemTime}}")
    shown = daemon.ok(
        "events", "--since", since, "--until", until, "--filter", "container=told",
        "--format", "{{.Action}} {{.Actor.Attributes.exitCode}}",
    )  # fmt: skip
    assert shown.splitlines() == [
        "exec_create: sh -c exit 3 <no value>", "exec_start: sh -c exit 3 <no value>", "exec_die 3",
        "exec_create: nonesuch <no value>", "exec_start: nonesuch <no value>", "exec_die 127",
    ]  # fmt: skip


# ---- Terminals ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("at_create", "at_start", "resize", "expected"),
    [
        ([11, 22], None, "", "11 22"),
        ([11, 22], [33, 44], "", "33 44"),
        (None, None, "h=55&w=66", "55 66"),
        ([11, 22], None, "h=55&w=66", "55 66"),
    ],
)
def test_sizes(
    daemon: Daemon, at_create: list[int] | None, at_start: list[int] | None, resize: str, expected: str
) -> None:
    """The terminal has its size before the program looks; a resize that comes before the start is remembered."""
    api = Api(daemon.root / "sock")
    daemon.ok("run", "-d", "--name", "sized", "busybox", "sleep", "1000")
    wanted = {
        "Cmd": ["sh", "-c", "stty size > /size"],
        "Tty": True,
        "AttachStdout": True,
        "ConsoleSize": at_create,
    }
    _, made = api.ask("POST", "/v1.51/containers/sized/exec", wanted)
    if resize:
        assert api.ask("POST", f"/exec/{made['Id']}/resize?{resize}")[0] == 200
    start = {"Detach": True, "Tty": True, "ConsoleSize": at_start}
    assert api.ask("POST", f"/v1.51/exec/{made['Id']}/start", start)[0] == 200
    eventually(lambda: api.ask("GET", f"/exec/{made['Id']}/json")[1]["ExitCode"] == 0)
    assert daemon.ok("exec", "sized", "cat", "/size") == expected
    status, answer = api.ask("POST", f"/exec/{made['Id']}/resize?h=1&w=2")
    assert (status, answer["message"]) == (409, f"exec {made['Id']} is not running")


# ---- Many, and for long ------------------------------------------------------------------------------------------
def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_storm_leaves_nothing(daemon: Daemon) -> None:
    """200 execs on one container, 8 at a time: no zombie, no descriptor more in keeper or daemon than before."""
    api = Api(daemon.root / "sock")
    daemon.ok("run", "-d", "--name", "storm", "busybox", "sleep", "1000")
    first = int(daemon.inspect("storm", "{{.State.Pid}}"))
    keeper = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    assert api.execute("storm", ["true"]).code == 0

    def once(number: int) -> int | None:
        argv = ["nonesuch"] if number % 4 == 0 else ["sh", "-c", "(sleep 0.01 &); exit 7"]
        return api.execute("storm", argv).code

    before = (descriptors(keeper), descriptors(daemon.pid))
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(once, range(200)))
    assert codes == [127 if number % 4 == 0 else 7 for number in range(200)]
    eventually(
        lambda: descriptors(keeper) <= before[0] and descriptors(daemon.pid) <= before[1] + 2,
        f"descriptors {before} → {descriptors(keeper), descriptors(daemon.pid)}",
    )
    children = Path(f"/proc/{keeper}/task/{keeper}/children")
    eventually(lambda: children.read_text().split() == [str(first)], "the keeper has one child")


def test_an_exec_outlives_the_daemon(make_daemon: Callable[..., Daemon]) -> None:
    """SIGKILL to the daemon: an exec goes on with its streams, the next daemon knows it, and docker gets its code."""
    daemon = make_daemon().start()
    daemon.image()
    daemon.ok("run", "-d", "--name", "lasts", "busybox", "sleep", "1000")
    argv = [DOCKER, "exec", "-i", "lasts", "sh", "-c", "read a; echo got $a; read b; echo got $b; exit 44"]
    with subprocess.Popen(
        argv, env=daemon.client_environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as client:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(b"one\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"got one\n"
        _, view = daemon.api("GET", "/v1.51/containers/lasts/json")
        (exec_id,) = view["ExecIDs"]
        _, before = daemon.api("GET", f"/v1.51/exec/{exec_id}/json")
        daemon.kill()
        daemon.start()
        assert daemon.api("GET", f"/v1.51/exec/{exec_id}/json") == (200, before)
        assert daemon.api("GET", "/v1.51/containers/lasts/json")[1]["ExecIDs"] == [exec_id]
        assert daemon.ok("exec", "lasts", "echo", "another") == "another"
        client.stdin.write(b"two\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"got two\n"
        assert client.wait(20) == 44
    assert daemon.api("GET", f"/v1.51/exec/{exec_id}/json")[1]["ExitCode"] == 44
    # One that ends while there is no daemon at all.
    _, made = daemon.api(
        "POST", "/v1.51/containers/lasts/exec", {"Cmd": ["sh", "-c", "while [ ! -e /go ]; do usleep 10000; done; exit 45"]}
    )  # fmt: skip
    assert daemon.api("POST", f"/v1.51/exec/{made['Id']}/start", {"Detach": True})[0] == 200
    pid = daemon.api("GET", f"/v1.51/exec/{made['Id']}/json")[1]["Pid"]
    daemon.kill()
    Path(f"/proc/{pid}/root/go").touch()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "it ends")
    daemon.start()
    assert daemon.api("GET", f"/v1.51/exec/{made['Id']}/json")[1]["ExitCode"] == 45
