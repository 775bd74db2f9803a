"""Each limit of the API's HostConfig, set by the real `docker` program and read in the kernel's files, or seen to hold.

The same tests are for cgroups of version 1 and of version 2: a row says what to expect under each.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from wherry.linux import cgroups
from wherry.spec.container import HostConfig
from wherry.testing.cgroups import VERSION, file_of, value_of
from wherry.testing.daemon import Daemon, eventually

MIB: Final = 1 << 20
UNLIMITED: Final = "9223372036854771712"
"""How version 1 says that memory is not limited: the largest number of whole pages."""

UNSEEN: Final = {
    "Cgroup": "Docker defines no value for it that Linux acts on",
    "KernelMemoryTCP": "obsolete: no kernel of today honours it; it is dropped with a warning",
    "CpuCount": "of Windows",
    "CpuPercent": "of Windows; it is dropped with a warning",
    "IOMaximumIOps": "of Windows; refused",
    "IOMaximumBandwidth": "of Windows; refused",
}
"""Fields about resources that no kernel shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to set a field: `flags` for `docker run`, and per version the file with what it says, or the warning."""

    field: str
    flags: tuple[str, ...]
    v1: tuple[str, str] | str
    v2: tuple[str, str] | str

    @property
    def expected(self) -> tuple[str, str] | str:
        return self.v1 if VERSION == 1 else self.v2


def row(field: str, flags: str, v1: tuple[str, str] | str, v2: tuple[str, str] | str) -> Row:
    return Row(field=field, flags=tuple(flags.split()), v1=v1, v2=v2)


ROWS: Final = (
    row("Memory", "-m 64m", ("memory.limit_in_bytes", str(64 * MIB)), ("memory.max", str(64 * MIB))),
    row(
        "MemorySwap", "-m 64m --memory-swap 96m",
        ("memory.memsw.limit_in_bytes", str(96 * MIB)), ("memory.swap.max", str(32 * MIB)),
    ),
    row("MemorySwap", "-m 64m", ("memory.memsw.limit_in_bytes", str(128 * MIB)), ("memory.swap.max", str(64 * MIB))),
    row("MemorySwap", "-m 64m --memory-swap 64m", ("memory.memsw.limit_in_bytes", str(64 * MIB)), ("memory.swap.max", "0")),
    row("MemorySwap", "-m 64m --memory-swap -1", ("memory.memsw.limit_in_bytes", UNLIMITED), ("memory.swap.max", "max")),
    row(
        "MemoryReservation", "--memory-reservation 32m",
        ("memory.soft_limit_in_bytes", str(32 * MIB)), ("memory.low", str(32 * MIB)),
    ),
    row(
        "MemorySwappiness", "--memory-swappiness 10",
        ("memory.swappiness", "10"), "does not support memory swappiness capabilities",
    ),
    row(
        "OomKillDisable", "-m 64m --oom-kill-disable",
        ("memory.oom_control", r"oom_kill_disable 1\n.*"), "does not support OomKillDisable",
    ),
    row("CpuShares", "--cpu-shares 512", ("cpu.shares", "512"), ("cpu.weight", "59")),
    row("CpuShares", "--cpu-shares 1024", ("cpu.shares", "1024"), ("cpu.weight", "100")),
    row("CpuPeriod", "--cpu-period 50000", ("cpu.cfs_period_us", "50000"), ("cpu.max", "max 50000")),
    row("CpuQuota", "--cpu-quota 30000", ("cpu.cfs_quota_us", "30000"), ("cpu.max", "30000 100000")),
    row("CpuQuota", "--cpu-quota 5000 --cpu-period 10000", ("cpu.cfs_quota_us", "5000"), ("cpu.max", "5000 10000")),
    row("NanoCpus", "--cpus 0.25", ("cpu.cfs_quota_us", "25000"), ("cpu.max", "25000 100000")),
    row("CpusetCpus", "--cpuset-cpus 0", ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
    row("CpusetMems", "--cpuset-mems 0", ("cpuset.mems", "0"), ("cpuset.mems", "0")),
    row("PidsLimit", "--pids-limit 33", ("pids.max", "33"), ("pids.max", "33")),
    row("PidsLimit", "--pids-limit -1", ("pids.max", "max"), ("pids.max", "max")),
)  # fmt: skip


def running(daemon: Daemon, *flags: str, command: Sequence[str] = ("sleep", "1000")) -> tuple[str, str]:
    """(pid of process 1, what the client said on stderr) of a new container."""
    answer = daemon.docker("run", "-d", *flags, "busybox", *command)
    assert answer.returncode == 0, answer.stderr
    return daemon.inspect(answer.stdout.strip(), "{{.State.Pid}}"), answer.stderr


def shows(pid: str, file: str, expected: str) -> bool:
    """Whether a file says it; `expected` is a regular expression where it is more than one word."""
    value = value_of(pid, file)
    return value == expected or re.fullmatch(expected, value, re.DOTALL) is not None


@pytest.mark.parametrize("each", ROWS, ids=lambda each: " ".join(each.flags))
def test_limit(daemon: Daemon, each: Row) -> None:
    """It is in the kernel's file of the container's cgroup; or the kernel has none, and the user is told."""
    pid, said = running(daemon, *each.flags)
    if isinstance(each.expected, str):
        assert each.expected in said
        return
    file, expected = each.expected
    assert shows(pid, file, expected), f"{file}: {value_of(pid, file)}"
    assert "WARNING" not in said


def test_every_field_is_in_the_table() -> None:
    """Whatever the API defines about resources is tested here, or listed with the reason why no kernel shows it."""
    shown = {each.field for each in ROWS} | set(UNSEEN) | TESTED_ALONE
    resources = {
        name for name in HostConfig.__struct_encode_fields__
        if name.startswith(("Memory", "Cpu", "Kernel", "Oom", "Blkio", "Pids", "Nano", "IO"))
        or name in ("Cgroup", "CgroupParent", "DeviceCgroupRules")
    }  # fmt: skip
    assert resources - {"OomScoreAdj"} == shown


TESTED_ALONE: Final = {
    "KernelMemory", "CpuRealtimePeriod", "CpuRealtimeRuntime", "BlkioWeight", "BlkioWeightDevice", "CgroupParent",
    "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "DeviceCgroupRules",
}  # fmt: skip


# ---- Devices -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A block device for the test alone."""

    path: str

    @property
    def number(self) -> str:
        found = os.stat(self.path).st_rdev
        return f"{os.major(found)}:{os.minor(found)}"

    @property
    def scheduler(self) -> Path:
        return Path("/sys/block", Path(self.path).name, "queue/scheduler")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    image = tmp_path / "image"
    image.write_bytes(bytes(4 * MIB))
    subprocess.run(["modprobe", "-q", "loop"], check=False)
    path = subprocess.run(
        ["losetup", "-f", "--show", image], check=True, capture_output=True, text=True
    ).stdout.strip()
    yield Disk(path=path)
    subprocess.run(["losetup", "-d", path], check=True)


@pytest.fixture
def weighed(disk: Disk) -> Iterator[Disk]:
    """A disk whose scheduler knows weights."""
    subprocess.run(["modprobe", "-q", "bfq"], check=False)
    if "bfq" not in disk.scheduler.read_text():
        pytest.skip("this kernel has no BFQ, and so no weights of block I/O")
    disk.scheduler.write_text("bfq")
    yield disk
    disk.scheduler.write_text("none")


@pytest.mark.parametrize(
    ("field", "flag", "rate", "v1", "v2"),
    [
        ("BlkioDeviceReadBps", "--device-read-bps", 1048576, "read_bps", "rbps"),
        ("BlkioDeviceWriteBps", "--device-write-bps", 2097152, "write_bps", "wbps"),
        ("BlkioDeviceReadIOps", "--device-read-iops", 11, "read_iops", "riops"),
        ("BlkioDeviceWriteIOps", "--device-write-iops", 12, "write_iops", "wiops"),
    ],
)
def test_throttle(daemon: Daemon, disk: Disk, field: str, flag: str, rate: int, v1: str, v2: str) -> None:
    """Bytes and operations per second of one device."""
    pid, _ = running(daemon, flag, f"{disk.path}:{rate}", "--name", "throttled")
    file, line = (
        (f"blkio.throttle.{v1}_device", f"{disk.number} {rate}")
        if VERSION == 1
        else ("io.max", rf"{disk.number} .*\b{v2}={rate}\b.*")
    )
    assert shows(pid, file, line), value_of(pid, file)
    shown = json.loads(daemon.ok("inspect", "throttled"))[0]["HostConfig"][field]
    assert shown == [{"Path": disk.path, "Rate": rate}]


def test_a_throttled_disk_is_slow(daemon: Daemon, disk: Disk) -> None:
    """A quarter of a megabyte at 128 KiB a second takes its two seconds."""
    flags = ("--rm", "--device", disk.path, "--device-read-bps", f"{disk.path}:131072")
    started = time.monotonic()
    daemon.ok(
        "run", *flags, "busybox", "dd", f"if={disk.path}", "of=/dev/null", "bs=64k", "count=4", "iflag=direct"
    )
    assert time.monotonic() - started > 1.5


def test_weights(daemon: Daemon, weighed: Disk) -> None:
    """The share of block I/O, of all devices and of one."""
    pid, said = running(daemon, "--blkio-weight", "300", "--blkio-weight-device", f"{weighed.path}:400")
    assert "WARNING" not in said
    if VERSION == 1:
        assert value_of(pid, "blkio.bfq.weight") == "300"
        assert f"{weighed.number} 400" in value_of(pid, "blkio.bfq.weight_device").splitlines()
    else:
        assert value_of(pid, "io.bfq.weight").splitlines() == ["default 300", f"{weighed.number} 400"]


def test_no_weights(daemon: Daemon) -> None:
    """Where no disk's scheduler knows weights they are dropped, as dockerd drops them, and shown as dropped."""
    if VERSION == 2 or any("[bfq]" in p.read_text() for p in Path("/sys/block").glob("*/queue/scheduler")):
        pytest.skip("a scheduler here knows weights")
    answer = daemon.docker(
        "create", "--name", "light", "--blkio-weight", "500", "--blkio-weight-device", "/dev/x:100", "busybox"
    )
    assert "Block I/O weight or the cgroup is not mounted. Weight discarded." in answer.stderr
    assert "Block I/O weight_device or the cgroup is not mounted. Weight-device discarded." in answer.stderr
    assert daemon.inspect("light", "{{.HostConfig.BlkioWeight}} {{.HostConfig.BlkioWeightDevice}}") == "0 []"


@pytest.mark.parametrize("path", ["/dev/null", "/dev/no-such-disk"])
def test_only_block_devices_are_throttled(daemon: Daemon, path: str) -> None:
    """What is none is named, and no container is made."""
    answer = daemon.docker("create", "--device-read-bps", f"{path}:1mb", "busybox")
    assert answer.returncode == 1
    assert path in answer.stderr and "block device" in answer.stderr
    assert daemon.ok("ps", "-aq") == ""


def test_device_rules(daemon: Daemon) -> None:
    """A node that a container makes can be opened only if a rule says so. (What opening does then is the driver's.)"""
    script = "mknod /d c 10 200; cat /d"
    denied = daemon.docker("run", "--rm", "busybox", "sh", "-c", script)
    allowed = daemon.docker(
        "run", "--rm", "--device-cgroup-rule", "c 10:200 r", "busybox", "sh", "-c", script
    )
    half = daemon.docker("run", "--rm", "--device-cgroup-rule", "c 10:200 w", "busybox", "sh", "-c", script)
    assert "Operation not permitted" in denied.stderr
    assert "Operation not permitted" not in allowed.stderr
    assert "Operation not permitted" in half.stderr


def test_an_update_leaves_the_devices(daemon: Daemon) -> None:
    """`update` changes limits and nothing else: a device that was given stays given, one that was not stays denied."""
    daemon.ok(
        "run", "-d", "--name", "kept", "--device-cgroup-rule", "c 10:200 rwm", "busybox", "sleep", "1000"
    )
    before = daemon.docker("exec", "kept", "sh", "-c", "mknod /d c 10 200; cat /d")
    daemon.ok("update", "-m", "64m", "--cpus", "0.5", "--pids-limit", "99", "kept")
    after = daemon.docker("exec", "kept", "cat", "/d")
    assert "not permitted" not in before.stderr + after.stderr
    assert before.stderr == after.stderr
    other = daemon.docker("exec", "kept", "sh", "-c", "mknod /e c 10 201; cat /e")
    assert "Operation not permitted" in other.stderr


# ---- Where -------------------------------------------------------------------------------------------------------
PIDS: Final = "pids.max"


@pytest.mark.parametrize("parent", ["/wherry-test-parent/below", "wherry-test-parent/relative"])
def test_cgroup_parent(daemon: Daemon, parent: str) -> None:
    """The cgroup is below the parent that was named, and is gone with the container."""
    pid, _ = running(daemon, "--name", "placed", "--cgroup-parent", parent)
    container = daemon.inspect("placed", "{{.Id}}")
    place = file_of(pid, PIDS).parent
    assert str(place).endswith(f"/{parent.strip('/')}/{container}")
    daemon.ok("rm", "-f", "placed")
    eventually(lambda: not place.exists(), "the cgroup is removed")
    cgroups.remove_empty(parent)
    cgroups.remove_empty("wherry-test-parent")


@pytest.mark.parametrize(
    ("parent", "why"),
    [
        ("machine.slice", "slice of systemd"),
        ("../up", "no path below"),
        ("/a/../../b", "no path below"),
        ("/" + "x" * 256, "no path below"),
    ],
)
def test_cgroup_parents_that_are_none(daemon: Daemon, parent: str, why: str) -> None:
    """A slice of systemd's, or a way out of the hierarchy, is refused before anything is made."""
    answer = daemon.docker("create", "--cgroup-parent", parent, "busybox")
    assert answer.returncode == 1
    assert why in answer.stderr
    assert daemon.ok("ps", "-aq") == ""


def test_realtime(daemon: Daemon) -> None:
    """A share of real time, where the kernel divides it; refused where it does not."""
    flags = ("--cpu-rt-runtime", "20000", "--cpu-rt-period", "500000")
    if VERSION == 1 and Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists():
        for _ in range(3):
            pid, _ = running(daemon, *flags)
            assert (value_of(pid, "cpu.rt_runtime_us"), value_of(pid, "cpu.rt_period_us")) == (
                "20000",
                "500000",
            )
        assert "chrt" not in daemon.docker("run", "--rm", *flags, "busybox", "true").stderr
    else:
        answer = daemon.docker("create", *flags, "busybox")
        assert "kernel does not support CPU real-time scheduler" in answer.stderr


# ---- What the API takes and docker no longer sends ---------------------------------------------------------------
def create(daemon: Daemon, host_config: dict[str, Any], version: str = "1.51") -> tuple[int, Any]:
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host_config}
    return daemon.api("POST", f"/v{version}/containers/create", body)


def test_kernel_memory_is_obsolete(daemon: Daemon) -> None:
    """Since API 1.42 it is not read; before, a warning says that it is dropped."""
    status, answer = create(daemon, {"KernelMemory": 64 * MIB})
    assert (status, answer["Warnings"]) == (201, [])
    status, answer = create(daemon, {"KernelMemory": 64 * MIB}, "1.41")
    assert status == 201
    assert "does not support kernel memory limit capabilities" in answer["Warnings"][0]
    status, answer = create(daemon, {"KernelMemoryTCP": 64 * MIB})
    assert "does not support kernel TCP memory limit" in answer["Warnings"][0]
    assert daemon.inspect(answer["Id"], "{{json .HostConfig}}").find("Kernel") == -1


def test_oom_kill_disable_without_a_limit(daemon: Daemon) -> None:
    """It is said what that can come to; and that this kernel has it, or not, is shown as dockerd shows it."""
    status, answer = create(daemon, {"OomKillDisable": True})
    assert status == 201
    shown = json.loads(daemon.inspect(answer["Id"], "{{json .HostConfig.OomKillDisable}}"))
    if VERSION == 1:
        assert "no memory limit is set" in answer["Warnings"][0]
        assert shown is True
    else:
        assert answer["Warnings"] == [
            "Your kernel does not support OomKillDisable. OomKillDisable discarded."
        ]
        assert shown is None


REFUSED: Final = [
    ({"Memory": 4 * MIB}, "Minimum memory limit allowed is 6MB"),
    ({"Memory": -1}, "Minimum memory limit allowed is 6MB"),
    ({"MemorySwap": 64 * MIB}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
    ({"Memory": 64 * MIB, "MemorySwap": 32 * MIB}, "Minimum memoryswap limit should be larger than memory limit"),
    ({"MemoryReservation": 5}, "Minimum memory reservation allowed is 6MB"),
    ({"Memory": 64 * MIB, "MemoryReservation": 65 * MIB}, "can not be less than memory reservation limit"),
    ({"CpuShares": -1}, "shares: invalid argument"),
    ({"CpuShares": 1}, "the minimum allowed cpu-shares is 2"),
    ({"CpuShares": 262145}, "the maximum allowed cpu-shares is 262144"),
    ({"CpuPeriod": 999}, "CPU cfs period can not be less than 1ms"),
    ({"CpuPeriod": 1000001}, "or larger than 1s (i.e. 1000000)"),
    ({"CpuQuota": 999}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    ({"NanoCpus": 10**15}, "Range of CPUs is from 0.01 to"),
    ({"NanoCpus": -1}, "Range of CPUs is from 0.01 to"),
    ({"NanoCpus": 10**9, "CpuQuota": 5000}, "Nano CPUs and CPU Quota cannot both be set"),
    ({"NanoCpus": 10**9, "CpuPeriod": 5000}, "Nano CPUs and CPU Period cannot both be set"),
    ({"CpusetCpus": "0-8000"}, "Requested CPUs are not available - requested 0-8000, available: 0"),
    ({"CpusetCpus": "1-0"}, "Invalid value 1-0 for cpuset cpus: invalid format: 1-0"),
    ({"CpusetCpus": "٣"}, "invalid format"),
    ({"CpusetCpus": "0-999999999"}, "value of out range, maximum is 8192"),
    ({"CpusetMems": "63"}, "Requested memory nodes are not available - requested 63, available: 0"),
    ({"CpusetMems": "all"}, "Invalid value all for cpuset mems: invalid format: all"),
    ({"IOMaximumIOps": 5}, "linux does not support Maximum IO Bandwidth or Maximum IO IOps"),
    ({"IOMaximumBandwidth": 5}, "linux does not support Maximum IO Bandwidth or Maximum IO IOps"),
    ({"DeviceCgroupRules": ["c 1:3"]}, "invalid device cgroup rule format: 'c 1:3'"),
    ({"BlkioDeviceReadBps": [{"Path": "/etc/passwd", "Rate": 5}]}, "/etc/passwd is not a block device"),
    ({"ShmSize": -1}, "SHM size can not be less than 0"),
]  # fmt: skip


@pytest.mark.parametrize(("host_config", "why"), REFUSED, ids=[json.dumps(config) for config, _ in REFUSED])
def test_refused(daemon: Daemon, host_config: dict[str, Any], why: str) -> None:
    """In Docker's words, as the client's fault, when the container is created: nothing is half-done."""
    status, answer = create(daemon, host_config)
    assert status == 400, answer
    assert why in answer["message"]
    assert daemon.ok("ps", "-aq") == ""


# ---- What limits do ----------------------------------------------------------------------------------------------
def test_the_pids_limit_is_reached(daemon: Daemon) -> None:
    """The fork that would be one too many fails, and the container lives on."""
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done"
    answer = daemon.docker("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script)
    assert "can't fork" in answer.stderr


def test_a_processor_is_throttled(daemon: Daemon) -> None:
    """A busy loop on a tenth of a processor is held up, and `stats` counts that."""
    _, _ = running(daemon, "--name", "slow", "--cpus", "0.1", command=("sh", "-c", "while :; do :; done"))

    def throttled() -> bool:
        _, sample = daemon.api("GET", "/v1.51/containers/slow/stats?stream=false&one-shot=true")
        data = sample["cpu_stats"]["throttling_data"]
        return bool(data["throttled_periods"] > 2 and data["throttled_time"] > 0)

    eventually(throttled)


def test_a_cpuset_is_where_it_runs(daemon: Daemon) -> None:
    shown = daemon.ok(
        "run", "--rm", "--cpuset-cpus", "0", "busybox", "grep", "Cpus_allowed_list", "/proc/self/status"
    )
    assert shown.split()[-1] == "0"
