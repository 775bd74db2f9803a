"""What holds a process back: filters by raw numbers, no-new-privileges, devices, keyrings. Seen by trying."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from wherry.testing.daemon import Daemon, eventually

STARTS = 5000
X86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="asks by numbers of x86-64")


# ---- Filters -----------------------------------------------------------------------------------------------------
def asked(daemon: Daemon, attacks: Path, calls: str, *flags: str) -> list[str]:
    shown = daemon.ok(
        "run", "--rm", "-v", f"{attacks}:/attacks:ro", *flags, "busybox", "/attacks/syscalls", *calls.split()
    )
    return [line.partition(" ")[2] for line in shown.splitlines()]


@X86_64
def test_calls_by_number(daemon: Daemon, attacks: Path) -> None:
    """What is newer than the profile does not exist; clone3 does not, without SYS_ADMIN; in every architecture."""
    calls = "x86_64:435 x86_64:600 x86_64:165 x86_64:272:268435456 x86_64:250 x32:600 i386:435 i386:600 i386:21 i386:288"
    enosys, eperm = "-38", "-1"
    assert asked(daemon, attacks, calls) == [
        enosys, enosys, eperm, eperm, eperm, enosys, enosys, enosys, eperm, eperm
    ]  # fmt: skip
    # With the capability, and without a filter, the kernel itself says what is wrong with such calls.
    assert asked(daemon, attacks, "x86_64:435 i386:435 x86_64:600", "--cap-add", "SYS_ADMIN") == [
        "-22",
        "-22",
        enosys,
    ]
    unfiltered = asked(daemon, attacks, "x86_64:435 x86_64:165", "--security-opt", "seccomp=unconfined")
    assert unfiltered == ["-22", "-14"]


@X86_64
def test_a_profile_of_ones_own(daemon: Daemon, attacks: Path, tmp_path: Path) -> None:
    """Arguments, errnos, conditions, architectures, and a call that is newer than this machine's libseccomp."""
    rule = dict[str, Any]
    rules: list[rule] = [
        {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
         "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
        {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6, "excludes": {"caps": ["CAP_NET_ADMIN"]}},
        {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "includes": {"arches": ["arm64"]}},
        {"names": ["getpgrp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 9, "includes": {"minKernel": "3.0"}},
        {"names": ["file_setattr"], "action": "SCMP_ACT_ERRNO", "errnoRet": 10},
        {"name": "sync", "action": "SCMP_ACT_KILL_PROCESS"},
    ]  # fmt: skip
    (tmp_path / "profile.json").write_text(
        json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": rules})
    )
    calls = "x86_64:135:8 x86_64:135:0 x86_64:39 i386:20 x86_64:110 x86_64:111 x86_64:469 i386:469 x86_64:162"
    option = ("--security-opt", f"seccomp={tmp_path}/profile.json")
    shown = asked(daemon, attacks, calls, *option)
    assert [shown[i] for i in (0, 1, 2, 3, 5, 6, 7, 8)] == [
        "-5",
        "0",
        "-6",
        "-6",
        "-9",
        "-10",
        "-10",
        "signal 31",
    ]
    assert int(shown[4]) > 0
    assert int(asked(daemon, attacks, "x86_64:39", *option, "--cap-add", "NET_ADMIN")[0]) > 0
    # Privileged is without a filter, unless one is asked for.
    assert asked(daemon, attacks, "x86_64:469", *option, "--privileged") == ["-10"]


@pytest.mark.parametrize(
    ("action", "calls", "flags"),
    [
        ("SCMP_ACT_ERRNO", "", ()),
        ("SCMP_ACT_KILL", "", ()),
        ("SCMP_ACT_TRAP", "", ()),
        ("SCMP_ACT_TRACE", "", ()),
        ("SCMP_ACT_ALLOW", "execve", ()),
        ("SCMP_ACT_ALLOW", "read write exit_group", ()),
        ("SCMP_ACT_ALLOW", "rt_sigtimedwait", ("--init",)),
        ("SCMP_ACT_ALLOW", "wait4", ("--init",)),
    ],
)
def test_a_profile_under_which_nothing_runs(
    daemon: Daemon, tmp_path: Path, action: str, calls: str, flags: tuple[str, ...]
) -> None:
    """Whatever a profile forbids, a start ends with an error, at once: nobody hangs or spins."""
    profile = {
        "defaultAction": action,
        "syscalls": [{"names": calls.split(), "action": "SCMP_ACT_ERRNO"}] if calls else [],
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    option = f"seccomp={tmp_path}/profile.json"
    answer = daemon.docker("run", "--rm", "--security-opt", option, *flags, "busybox", "true", timeout=30)
    assert answer.returncode in (1, 125, 126), answer.stderr
    eventually(lambda: daemon.ok("ps", "-aq") == "", "nothing is left")


@X86_64
@pytest.mark.parametrize(
    ("option", "user"), [("no-new-privileges=false", "0"), ("no-new-privileges", "1000")]
)
def test_no_new_privileges_holds(daemon: Daemon, attacks: Path, option: str, user: str) -> None:
    """A program that would become root does not, where nothing gains privileges."""
    script = "cp /attacks/syscalls /s; chmod 4755 /s; su user -s /bin/sh -c '/s x86_64:107'"  # geteuid
    shown = daemon.ok(
        "run", "--rm", "--security-opt", option, "-v", f"{attacks}:/attacks:ro", "busybox", "sh", "-c", script
    )
    assert shown == f"x86_64:107 {user}"


# ---- Devices -----------------------------------------------------------------------------------------------------
@pytest.fixture
def devices(tmp_path: Path) -> Iterator[Path]:
    """A directory of device nodes, and a link to it."""
    top = tmp_path / "devices"
    (top / "deep").mkdir(parents=True)
    os.mknod(top / "zero", stat.S_IFCHR | 0o640, os.makedev(1, 5))
    os.mknod(top / "deep" / "full", stat.S_IFCHR | 0o600, os.makedev(1, 7))
    os.chown(top / "zero", 3, 4)
    (top / "file").write_text("no device")
    (tmp_path / "link").symlink_to("devices")
    yield tmp_path / "link"


def test_a_directory_of_devices(daemon: Daemon, devices: Path) -> None:
    """All nodes in it, in depth, by the link as well; with their modes and owners, and what is no device is left out."""
    script = (
        "cd /dev/given; find . | sort; stat -c '%n %a %u:%g %t:%T' zero deep/full; head -c 4 zero | wc -c"
    )
    shown = daemon.ok("run", "--rm", "--device", f"{devices}:/dev/given", "busybox", "sh", "-c", script)
    assert shown.splitlines() == [
        ".", "./deep", "./deep/full", "./zero", "zero 640 3:4 1:5", "deep/full 600 0:0 1:7", "4"
    ]  # fmt: skip


def test_permissions_of_a_device(daemon: Daemon) -> None:
    """Read only is read only, for root too: the cgroup says so, not the node."""
    device = subprocess.run(["losetup", "-f"], check=True, capture_output=True, text=True).stdout.strip()
    script = f"head -c 0 {device} && echo read; (: > {device}) 2>&1"
    shown = daemon.docker("run", "--rm", "--device", f"{device}:{device}:r", "busybox", "sh", "-c", script)
    assert shown.stdout.splitlines() == ["read", f"sh: can't create {device}: Operation not permitted"]


def test_devices_of_privileged(daemon: Daemon) -> None:
    """Every node of the host's /dev, no more and no less, but for those that a container has of its own."""
    script = "find /dev -type c -o -type b | grep -v '^/dev/\\(pts\\|shm\\|mqueue\\|console\\|ptmx\\)' | sort"
    inside = daemon.ok(
        "run", "--rm", "--privileged", "--device", "/dev/null:/dev/mine", "busybox", "sh", "-c", script
    )
    outside = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout
    usual = [f"/dev/{name}" for name in ("full", "mine", "null", "random", "tty", "urandom", "zero")]
    assert sorted(inside.split()) == sorted({*outside.split(), *usual})


def test_an_exec_has_its_containers_devices(daemon: Daemon) -> None:
    """Also one with --privileged: what the cgroup denies stays denied, as in Docker."""
    daemon.ok("run", "-d", "--name", "plain", "busybox", "sleep", "1000")
    script = "mknod /d c 10 200; cat /d"
    for flags in ((), ("--privileged",)):
        answer = daemon.docker("exec", *flags, "plain", "sh", "-c", script)
        assert "Operation not permitted" in answer.stderr


# ---- Keyrings ----------------------------------------------------------------------------------------------------
SESSION = "x86_64:250:0:-3"
"""KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING: which session keyring a process has, keyctl(2)."""


def keyrings(shown: str) -> set[int]:
    return {int(line.split()[1]) for line in shown.splitlines() if line.startswith("x86_64:250 ")}


def known_keys() -> set[int]:
    """Serial numbers in /proc/keys: proc(5)."""
    return {int(line.split()[0], 16) for line in Path("/proc/keys").read_text().splitlines()}


@X86_64
def test_session_keyrings(daemon: Daemon, attacks: Path) -> None:
    """Each container, and each exec, has a session keyring that is no other's, nor the host's, and that goes with it."""
    host = keyrings(subprocess.run([attacks / "syscalls", SESSION], capture_output=True, text=True).stdout)
    flags = ("--security-opt", "seccomp=unconfined", "-v", f"{attacks}:/attacks:ro", "busybox")
    seen = [keyrings(daemon.ok("run", "--rm", *flags, "/attacks/syscalls", SESSION)) for _ in range(10)]
    script = f"/attacks/syscalls {SESSION}; sleep 1000"
    daemon.ok("run", "-d", "--name", "keeps", *flags, "sh", "-c", script)
    kept = eventually(lambda: keyrings(daemon.ok("logs", "keeps")), "it says what it has")
    seen += [keyrings(daemon.ok("exec", "keeps", "/attacks/syscalls", SESSION)) for _ in range(5)]
    whole = [*host, *kept, *(serial for each in seen for serial in each)]
    assert len(set(whole)) == len(whole) == 16 + len(host)
    assert all(serial > 0 for serial in whole)
    assert kept <= known_keys()
    daemon.ok("rm", "-f", "keeps")
    eventually(lambda: not known_keys() & (set(whole) - host), "the keyrings go")


@X86_64
def test_one_keyring_for_all(make_daemon: Callable[..., Daemon], attacks: Path, tmp_path: Path) -> None:
    """Where the configuration says so, no keyring is made; the one that is shared is empty, and is not the host's."""
    file = tmp_path / "wherry.toml"
    file.write_text("[exec.native]\nsession-keyring = false\n")
    daemon = make_daemon("--config-file", str(file)).start()
    daemon.image()
    host = keyrings(subprocess.run([attacks / "syscalls", SESSION], capture_output=True, text=True).stdout)
    flags = ("--security-opt", "seccomp=unconfined", "-v", f"{attacks}:/attacks:ro", "busybox")
    seen = [keyrings(daemon.ok("run", "--rm", *flags, "/attacks/syscalls", SESSION)) for _ in range(2)]
    assert seen[0] == seen[1] != host
    assert ": empty" in next(
        line for line in Path("/proc/keys").read_text().splitlines() if int(line.split()[0], 16) in seen[0]
    )


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_five_thousand_starts_leave_no_key_and_no_cgroup(daemon: Daemon) -> None:
    """What the kernel counts of keys and of cgroups is after 5,000 starts what it was before."""

    def counts() -> tuple[int, int]:
        lines = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()]
        return len(known_keys()), sum(int(words[2]) for words in lines[1:])

    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"AutoRemove": True, "NetworkMode": "none"}}

    def run(number: int) -> None:
        status, answer = daemon.api("POST", "/v1.51/containers/create", body)
        assert status == 201, answer
        with ThreadPoolExecutor(1) as waiting:
            gone = waiting.submit(
                daemon.api, "POST", f"/v1.51/containers/{answer['Id']}/wait?condition=removed", None
            )
            assert daemon.api("POST", f"/v1.51/containers/{answer['Id']}/start", None)[0] == 204
            assert gone.result()[1]["StatusCode"] == 0

    run(0)
    keys, groups = counts()
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(run, range(STARTS)))) == STARTS
    eventually(
        lambda: counts()[0] <= keys + 10 and counts()[1] <= groups + 10, f"{counts()} of {keys, groups}"
    )
