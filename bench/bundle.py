"""An OCI bundle for crun and runc that asks for what a default container of ours gets, from the same root file system."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from bench.enclosure import CGROUP
from wherry.linux import seccomp
from wherry.testing.images import busybox_tar

CAPABILITIES = """CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID CAP_SETUID CAP_SETFCAP
CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE""".split()
MASKED = """/proc/asound /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats
/proc/sched_debug /proc/scsi /sys/firmware""".split()
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()


def make(directory: Path, *, with_seccomp: bool = True) -> Path:
    """Write a bundle into `directory` and answer it. `with_seccomp`: Docker's default profile, as a default container has."""
    root = directory / "rootfs"
    root.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(busybox_tar())) as archive:
        archive.extractall(root, filter="tar")
    (directory / "config.json").write_text(json.dumps(_config(with_seccomp)))
    return directory


def _config(with_seccomp: bool) -> dict[str, Any]:
    linux: dict[str, Any] = {
        "cgroupsPath": f"/{CGROUP}/runtimes/one",
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
        "resources": {
            "devices": [
                {"allow": False, "access": "rwm"},
                *(
                    {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
                    for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1))
                ),
            ]
        },
    }
    if with_seccomp:
        linux["seccomp"] = _seccomp()
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "noNewPrivileges": False,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "bench",
        "mounts": [
            _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount(
                "/dev/pts",
                "devpts",
                "devpts",
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ),
            _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=67108864"),
        ],
        "linux": linux,
    }


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _seccomp() -> dict[str, Any]:
    """Docker's default profile as an OCI runtime takes it: the rules that hold for our capabilities on this machine."""
    profile = json.loads(seccomp.default_profile())
    go_name, machine = (
        ("amd64", "X86_64 X86 X32") if os.uname().machine == "x86_64" else ("arm64", "AARCH64 ARM")
    )
    rules = [
        {key: rule[key] for key in ("names", "action", "errnoRet", "args") if rule.get(key)}
        for rule in profile["syscalls"]
        if _holds(rule.get("includes") or {}, rule.get("excludes") or {}, go_name)
    ]
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": [f"SCMP_ARCH_{name}" for name in machine.split()],
        "syscalls": rules,
    }


def _holds(includes: dict[str, Any], excludes: dict[str, Any], architecture: str) -> bool:
    held = set(CAPABILITIES)
    return (
        held.issuperset(includes.get("caps") or ())
        and held.isdisjoint(excludes.get("caps") or ())
        and architecture in (includes.get("arches") or [architecture])
        and architecture not in (excludes.get("arches") or ())
    )
