"""Namespaces through the real docker program: each mode set, and its effect observed inside, or in /proc."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from wherry.testing.daemon import Daemon, eventually

FIELDS = [
    ("NetworkMode", [], "net", False),
    ("NetworkMode", ["--network", "none"], "net", False),
    ("NetworkMode", ["--network", "host"], "net", True),
    ("IpcMode", [], "ipc", False),
    ("IpcMode", ["--ipc", "private"], "ipc", False),
    ("IpcMode", ["--ipc", "shareable"], "ipc", False),
    ("IpcMode", ["--ipc", "none"], "ipc", False),
    ("IpcMode", ["--ipc", "host"], "ipc", True),
    ("PidMode", [], "pid", False),
    ("PidMode", ["--pid", "host"], "pid", True),
    ("UTSMode", [], "uts", False),
    ("UTSMode", ["--uts", "host"], "uts", True),
    ("CgroupnsMode", [], "cgroup", False),
    ("CgroupnsMode", ["--cgroupns", "private"], "cgroup", False),
    ("CgroupnsMode", ["--cgroupns", "host"], "cgroup", True),
    ("CgroupnsMode", ["--privileged"], "cgroup", True),
    ("UsernsMode", [], "user", True),
    ("UsernsMode", ["--userns", "host"], "user", True),
]
"""(field, flags, kind of namespace, whether it is the host's). UsernsMode with a daemon that remaps: test_userns_remap."""


def namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def run(daemon: Daemon, *flags: str, command: tuple[str, ...] = ("sleep", "1000")) -> tuple[str, str]:
    """(id, host's pid of process 1) of a new container."""
    name = daemon.ok("run", "-d", *flags, "busybox", *command)
    return name, daemon.inspect(name, "{{.State.Pid}}")


def inside(daemon: Daemon, name: str, script: str) -> str:
    return daemon.ok("exec", name, "sh", "-c", script)


@pytest.mark.parametrize(
    ("field", "flags", "kind", "hosts"), FIELDS, ids=[f"{f[0]} {' '.join(f[1])}".strip() for f in FIELDS]
)
def test_field(daemon: Daemon, field: str, flags: list[str], kind: str, hosts: bool) -> None:
    """NetworkMode, IpcMode, PidMode, UTSMode, CgroupnsMode, UsernsMode: process 1 and an exec are in the namespace that
    the mode says."""
    name, pid = run(daemon, *flags)
    assert (namespace(pid, kind) == namespace(daemon.pid, kind)) == hosts
    assert inside(daemon, name, f"readlink /proc/self/ns/{kind}") == namespace(pid, kind)


@pytest.mark.parametrize("size", ["1m", "200m"])
def test_shm_size(daemon: Daemon, size: str) -> None:
    """ShmSize is the size of /dev/shm; 64 MB if nobody says."""
    script = "df -m /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"
    shown = daemon.ok("run", "--rm", "--shm-size", size, "busybox", "sh", "-c", script)
    assert shown == size.removesuffix("m")
    assert daemon.ok("run", "--rm", "busybox", "sh", "-c", script) == "64"


@pytest.mark.parametrize("field", ["IpcMode", "PidMode", "UTSMode", "CgroupnsMode", "UsernsMode"])
def test_modes_that_are_none(daemon: Daemon, field: str) -> None:
    """They are refused when the container is created, and named."""
    for mode in ("nonsense", "container:", "host:"):
        body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {field: mode}}
        status, answer = daemon.api("POST", "/v1.51/containers/create", body)
        assert status == 400, answer
        assert "invalid" in answer["message"]


# ---- /dev/shm, and who shares it ------------------------------------------------------------------------------------
def test_ipc_none_has_no_shm(daemon: Daemon) -> None:
    """A namespace of its own, and nothing on /dev/shm."""
    name, _ = run(daemon, "--ipc", "none")
    assert inside(daemon, name, "grep -c ' /dev/shm ' /proc/mounts || true") == "0"


def test_the_hosts_shm(daemon: Daemon) -> None:
    """`--ipc host`: /dev/shm is the host's too."""
    name, _ = run(daemon, "--ipc", "host")
    assert inside(daemon, name, "stat -f -c %i /dev/shm; stat -c '%d %i' /dev/shm").splitlines()[
        1
    ] == " ".join(map(str, (os.stat("/dev/shm").st_dev, os.stat("/dev/shm").st_ino)))


@pytest.fixture
def donor(daemon: Daemon) -> Iterator[str]:
    name, _ = run(daemon, "--ipc", "shareable", "--shm-size", "3m", "--name", "donor")
    inside(daemon, name, "echo shared > /dev/shm/file")
    yield name


def test_a_shared_shm(daemon: Daemon, donor: str) -> None:
    """Whoever joins sees what is there, in the same namespace; what either writes, both read."""
    name, pid = run(daemon, "--ipc", "container:donor")
    assert namespace(pid, "ipc") == namespace(daemon.inspect(donor, "{{.State.Pid}}"), "ipc")
    assert inside(daemon, name, "cat /dev/shm/file; echo back > /dev/shm/reply") == "shared"
    assert inside(daemon, donor, "cat /dev/shm/reply") == "back"
    assert inside(daemon, name, "grep ' /dev/shm ' /proc/mounts").count("nosuid,nodev,noexec") == 1
    assert daemon.inspect(name, "{{.HostConfig.IpcMode}}") == f"container:{donor}"


def test_it_outlives_the_donor_and_is_taken_back(daemon: Daemon, donor: str) -> None:
    """When X ends, what it put into /dev/shm is still there for who shares it; when X starts again, it has it back."""
    name, pid = run(daemon, "--ipc", "container:donor")
    before = namespace(pid, "ipc")
    daemon.ok("kill", donor)
    eventually(lambda: daemon.inspect(donor, "{{.State.Running}}") == "false")
    assert inside(daemon, name, "cat /dev/shm/file") == "shared"
    daemon.ok("start", donor)
    assert namespace(daemon.inspect(donor, "{{.State.Pid}}"), "ipc") == before
    assert inside(daemon, donor, "cat /dev/shm/file") == "shared"
    daemon.ok("rm", "-f", name)
    assert inside(daemon, donor, "cat /dev/shm/file") == "shared"
    daemon.ok("restart", "-t", "0", donor)
    assert inside(daemon, donor, "ls /dev/shm") == ""


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--ipc", "private"], "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"),
        ([], "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"),
        (["--ipc", "none"], "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"),
    ],
)
def test_a_private_one_cannot_be_joined(daemon: Daemon, flags: list[str], why: str) -> None:
    """In Docker's words; nothing of the refused container is left."""
    name, _ = run(daemon, *flags)
    answer = daemon.docker("run", "--rm", "--ipc", f"container:{name}", "busybox", "true")
    assert answer.returncode == 125 and why in answer.stderr
    assert daemon.ok("ps", "-aq").split() == [name[:12]]


def test_who_shares_what_shares_what(daemon: Daemon, donor: str) -> None:
    """A sharer's /dev/shm can be shared in turn."""
    run(daemon, "--ipc", "container:donor", "--name", "middle")
    name, _ = run(daemon, "--ipc", "container:middle")
    assert inside(daemon, name, "cat /dev/shm/file") == "shared"


def test_a_volume_on_shm_wins(daemon: Daemon, donor: str) -> None:
    """What a user mounts there is there, whatever the mode."""
    name, _ = run(daemon, "--ipc", "container:donor", "--tmpfs", "/dev/shm:size=7m")
    assert inside(daemon, name, "ls /dev/shm") == ""


def test_the_daemons_default(make_daemon: Callable[..., Daemon]) -> None:
    """`--default-ipc-mode shareable`: a container that says nothing can be joined."""
    daemon = make_daemon("--default-ipc-mode", "shareable", "--default-cgroupns-mode", "host").start()
    daemon.image()
    name, pid = run(daemon)
    assert daemon.inspect(name, "{{.HostConfig.IpcMode}} {{.HostConfig.CgroupnsMode}}") == "shareable host"
    assert namespace(pid, "cgroup") == namespace(daemon.pid, "cgroup")
    other, joined = run(daemon, "--ipc", f"container:{name}")
    assert namespace(joined, "ipc") == namespace(pid, "ipc")
    daemon.ok("rm", "-f", name, other)


# ---- pid, and all at once -------------------------------------------------------------------------------------------
def test_a_shared_pid_namespace(daemon: Daemon) -> None:
    """`--pid container:X` sees X's processes, cannot start without X, and ends with it."""
    first, pid = run(daemon, "--name", "first")
    name, joined = run(daemon, "--pid", "container:first")
    assert namespace(joined, "pid") == namespace(pid, "pid")
    assert inside(daemon, name, "cat /proc/1/cmdline | tr '\\0' ' '") == "sleep 1000"
    daemon.ok("kill", first)
    eventually(lambda: daemon.inspect(name, "{{.State.Running}}") == "false", "it ends with the other")
    answer = daemon.docker("start", name)
    assert answer.returncode == 1
    assert f"{first} is not running" in answer.stderr
    daemon.ok("start", first)
    daemon.ok("start", name)


def test_everything_of_another(daemon: Daemon) -> None:
    """Network, ipc and pid namespace of one container, joined at once, by process 1 and by an exec."""
    _, pid = run(daemon, "--ipc", "shareable", "--name", "all")
    name, joined = run(
        daemon, "--ipc", "container:all", "--pid", "container:all", "--network", "container:all"
    )
    for kind in ("net", "ipc", "pid"):
        assert namespace(joined, kind) == namespace(pid, kind)
        assert inside(daemon, name, f"readlink /proc/self/ns/{kind}") == namespace(pid, kind)
    assert namespace(joined, "mnt") != namespace(pid, "mnt")


def test_a_peer_that_is_not_there(daemon: Daemon) -> None:
    """It is named in the error, for each kind."""
    for flag in ("--ipc", "--pid", "--network"):
        answer = daemon.docker("run", "--rm", flag, "container:nobody", "busybox", "true")
        assert answer.returncode == 125 and "nobody" in answer.stderr


def test_a_mount_below_shared_memory(daemon: Daemon, donor: str) -> None:
    """It lies on what is shared, and not under it."""
    name, _ = run(daemon, "--ipc", "container:donor", "--tmpfs", "/dev/shm/below:size=1m")
    assert inside(daemon, name, "ls /dev/shm; grep -c ' /dev/shm/below ' /proc/mounts").split() == [
        "below",
        "file",
        "1",
    ]
    assert inside(daemon, name, "touch /dev/shm/below/x; df -m /dev/shm/below | tail -1").split()[1] == "1"
    assert inside(daemon, donor, "ls /dev/shm/below") == ""


def test_owners_are_started_first(make_daemon: Callable[..., Daemon]) -> None:
    """All had ended with the daemon: who joins another's namespaces is started after it, whatever their names."""
    daemon = make_daemon().start()
    daemon.image()
    _, first = run(daemon, "--name", "zz", "--ipc", "shareable", "--restart", "always")
    joined = [f"--{kind}=container:zz" for kind in ("network", "ipc", "pid")]
    _, second = run(daemon, "--name", "aa", *joined, "--restart", "always")
    daemon.kill()
    os.kill(int(first), 9)
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in (first, second)), "their end")
    daemon.start()

    def together() -> bool:
        """What has just ended may for a moment still be said to run."""
        pids = [daemon.inspect(name, "{{.State.Pid}}") for name in ("zz", "aa")]
        try:
            return all(namespace(pids[0], kind) == namespace(pids[1], kind) for kind in ("net", "ipc", "pid"))
        except FileNotFoundError:
            return False

    eventually(together, "both run, in the same namespaces", 60)
