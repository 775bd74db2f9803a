"""`docker update`: what changes, at once and for good; and that all of it changes, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from wherry.testing.cgroups import VERSION, value_of
from wherry.testing.daemon import Daemon, eventually

MIB: Final = 1 << 20
MEMORY, SWAP, SHARES, QUOTA = (
    ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.shares", "cpu.cfs_quota_us")
    if VERSION == 1
    else ("memory.max", "memory.swap.max", "cpu.weight", "cpu.max")
)
UNLIMITED: Final = "9223372036854771712" if VERSION == 1 else "max"


def both(memory: int, swap: int) -> str:
    """What the file of swap says of `swap` MiB of memory and swap together."""
    return str(swap * MIB if VERSION == 1 else (swap - memory) * MIB)


def kept(daemon: Daemon, name: str) -> dict[str, Any]:
    found = json.loads(daemon.ok("inspect", name))[0]["HostConfig"]
    assert isinstance(found, dict)
    return found


def test_a_running_container(make_daemon: Callable[..., Daemon]) -> None:
    """Each change is in the kernel at once, in `inspect`, and still there after a restart of daemon and container."""
    daemon = make_daemon().start()
    daemon.image()
    daemon.ok("run", "-d", "--name", "changed", "busybox", "sleep", "1000")
    pid = daemon.inspect("changed", "{{.State.Pid}}")
    daemon.ok("update", "-m", "64m", "changed")
    assert (value_of(pid, MEMORY), value_of(pid, SWAP)) == (str(64 * MIB), both(64, 128))
    daemon.ok("update", "-m", "96m", "--memory-swap", "120m", "changed")
    assert (value_of(pid, MEMORY), value_of(pid, SWAP)) == (str(96 * MIB), both(96, 120))
    daemon.ok("update", "-m", "48m", "changed")
    assert (value_of(pid, MEMORY), value_of(pid, SWAP)) == (str(48 * MIB), both(48, 120))
    daemon.ok("update", "--memory-swap", "-1", "changed")
    assert value_of(pid, SWAP) == UNLIMITED
    daemon.ok("update", "--cpu-shares", "512", "--cpuset-cpus", "0", "--pids-limit", "40", "changed")
    assert value_of(pid, SHARES) == ("512" if VERSION == 1 else "59")
    assert (value_of(pid, "cpuset.cpus"), value_of(pid, "pids.max")) == ("0", "40")
    daemon.ok("update", "--cpus", "0.5", "--memory-reservation", "32m", "changed")
    assert value_of(pid, QUOTA).split()[0] == "50000"
    daemon.ok("update", "--pids-limit", "-1", "--restart", "unless-stopped", "changed")
    assert value_of(pid, "pids.max") == "max"
    assert value_of(pid, MEMORY) == str(48 * MIB)
    before = kept(daemon, "changed")
    assert (before["Memory"], before["MemorySwap"], before["PidsLimit"]) == (48 * MIB, -1, 0)
    assert (before["NanoCpus"], before["CpuShares"], before["RestartPolicy"]["Name"]) == (
        500_000_000,
        512,
        "unless-stopped",
    )
    daemon.kill()
    daemon.start()
    assert kept(daemon, "changed") == before
    daemon.ok("restart", "-t", "0", "changed")
    pid = daemon.inspect("changed", "{{.State.Pid}}")
    assert (value_of(pid, MEMORY), value_of(pid, SHARES), value_of(pid, "pids.max")) == (
        str(48 * MIB), "512" if VERSION == 1 else "59", "max",
    )  # fmt: skip


def test_a_container_that_does_not_run(daemon: Daemon) -> None:
    """It starts with what it was given."""
    daemon.ok("create", "--name", "still", "busybox", "sleep", "1000")
    daemon.ok("update", "-m", "64m", "--memory-swap", "-1", "--cpu-quota", "20000", "still")
    daemon.ok("start", "still")
    pid = daemon.inspect("still", "{{.State.Pid}}")
    assert (value_of(pid, MEMORY), value_of(pid, SWAP)) == (str(64 * MIB), UNLIMITED)
    assert value_of(pid, QUOTA).split()[0] == "20000"


REFUSED: Final = [
    (("-m", "4m"), "Minimum memory limit allowed is 6MB"),
    (("-m", "256m"), "Memory limit should be smaller than already set memoryswap limit"),
    (("--memory-swap", "32m"), "Minimum memoryswap limit should be larger than memory limit"),
    (("--cpu-quota", "5000"), "CPU Quota cannot be updated as NanoCPUs has already been set"),
    (("--cpu-period", "5000"), "CPU Period cannot be updated as NanoCPUs has already been set"),
    (("--cpuset-cpus", "0-4000"), "Requested CPUs are not available"),
    (("--cpu-shares", "1"), "the minimum allowed cpu-shares is 2"),
    (("--restart", "on-failure:-1"), "maximum retry count cannot be negative"),
    (("--pids-limit", "7", "--cpuset-cpus", "0-4000"), "Requested CPUs are not available"),
]


def test_refused(daemon: Daemon) -> None:
    """In Docker's words; and everything is as it was, here and in the kernel."""
    limits = ("-m", "64m", "--memory-swap", "96m", "--cpus", "0.5", "--pids-limit", "50")
    daemon.ok("run", "-d", "--name", "firm", *limits, "busybox", "sleep", "1000")
    pid = daemon.inspect("firm", "{{.State.Pid}}")
    files = (MEMORY, SWAP, SHARES, QUOTA, "pids.max", "cpuset.cpus")
    before = kept(daemon, "firm"), [value_of(pid, file) for file in files]
    for flags, why in REFUSED:
        answer = daemon.docker("update", *flags, "firm")
        assert answer.returncode == 1, flags
        assert why in answer.stderr
        assert (kept(daemon, "firm"), [value_of(pid, file) for file in files]) == before


def test_restart_policy_of_one_that_is_to_be_removed(daemon: Daemon) -> None:
    daemon.ok("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "1000")
    answer = daemon.docker("update", "--restart", "always", "brief")
    assert "Restart policy cannot be updated because AutoRemove is enabled for the container" in answer.stderr


def test_below_what_is_in_use(daemon: Daemon) -> None:
    """A limit that could only be met by killing is refused, and the old one stays; page cache gives way."""
    fill = "dd if=/dev/zero of=/dev/shm/f bs=1M count=40 2>/dev/null; echo full; sleep 1000"
    daemon.ok("run", "-d", "--name", "full", "-m", "64m", "--memory-swap", "64m", "busybox", "sh", "-c", fill)
    eventually(lambda: daemon.ok("logs", "full") == "full")
    answer = daemon.docker("update", "-m", "16m", "--memory-swap", "16m", "full")
    assert answer.returncode == 1
    assert "unable to set memory limit to 16777216 (current usage: " in answer.stderr
    pid = daemon.inspect("full", "{{.State.Pid}}")
    assert value_of(pid, MEMORY) == str(64 * MIB)
    assert kept(daemon, "full")["Memory"] == 64 * MIB
    cache = "dd if=/dev/zero of=/f bs=1M count=40 2>/dev/null; sync; echo full; sleep 1000"
    daemon.ok("run", "-d", "--name", "cached", "-m", "64m", "busybox", "sh", "-c", cache)
    eventually(lambda: daemon.ok("logs", "cached") == "full")
    daemon.ok("update", "-m", "16m", "cached")
    assert value_of(daemon.inspect("cached", "{{.State.Pid}}"), MEMORY) == str(16 * MIB)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Devices", [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x"}]),
        ("Ulimits", [{"Name": "nofile", "Soft": 5, "Hard": 5}]),
    ],
)
def test_what_cannot_be_changed(daemon: Daemon, field: str, value: list[dict[str, Any]]) -> None:
    """It is said, and the container's own stays."""
    flags = ("--device", "/dev/fuse", "--ulimit", "nofile=99")
    daemon.ok("run", "-d", "--name", "own", *flags, "busybox", "sleep", "1000")
    before = kept(daemon, "own")
    status, answer = daemon.api("POST", "/v1.51/containers/own/update", {field: value})
    assert (status, answer["Warnings"]) == (200, [f"{field} cannot be updated. {field} discarded."])
    assert kept(daemon, "own") == before
