"""What may be mounted on /proc and below it: little, for programs of the container and of the host trust what they read there.

Source: runc `checkProcMount`; lxcfs for the files that are its to show.
"""

from __future__ import annotations

from typing import Final

from wherry.errors import StartFailed
from wherry.linux import mountinfo
from wherry.spec.command import Mount

_FILES: Final = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime", "sys/crypto/fips_enabled",
        "sys/kernel/ns_last_pid",
    )
)  # fmt: skip


def check(wanted: Mount, target: str) -> None:
    """Refuse a mount whose target, as it was asked for or as links in the container made it, is in /proc: StartFailed."""
    if target == "/proc":
        if wanted.kind == "proc" or _is_procfs(wanted):
            return
        reason = "cannot be mounted because it is not of type proc"
    elif target.startswith("/proc/"):
        if target in _FILES and wanted.kind == "bind":
            return
        reason = "cannot be mounted because it is inside /proc"
    else:
        return
    what = f'"{wanted.source}"' if wanted.source else wanted.kind
    raise StartFailed(f'error mounting {what} to rootfs at "{wanted.target}": "{target}" {reason}')


def _is_procfs(wanted: Mount) -> bool:
    return (
        wanted.descriptor is not None
        and mountinfo.file_system_of(wanted.descriptor) == mountinfo.PROC_SUPER_MAGIC
    )
