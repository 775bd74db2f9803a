"""Capabilities: names and bits, capabilities(7), and which of them this process has."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

NAMES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""By bit, from bit 0: <linux/capability.h>."""

BITS: Final = {name: bit for bit, name in enumerate(NAMES)}

DEFAULT: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
"""What a container has where nobody asks for more or less. Source: moby `oci/caps/defaults.go`."""


def mask(names: Iterable[str]) -> int:
    """Names as a bit mask. ValueError names an unknown one."""
    bits = 0
    for name in names:
        if name not in BITS:
            raise ValueError(f'unknown capability "{name}"')
        bits |= 1 << BITS[name]
    return bits


def names(mask: int) -> tuple[str, ...]:
    """A bit mask as names, by bit; bits without a name are left out."""
    return tuple(name for name, bit in BITS.items() if mask >> bit & 1)


@lru_cache(maxsize=1)
def last() -> int:
    """The highest capability that this kernel knows: /proc/sys/kernel/cap_last_cap."""
    try:
        return int(Path("/proc/sys/kernel/cap_last_cap").read_text("ascii"))
    except OSError:
        return len(NAMES) - 1


def of(pid: int | str = "self", kind: str = "Prm") -> int:
    """A set of a process as a mask: kind is Inh, Prm, Eff, Bnd or Amb, proc(5)."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
        if line.startswith(f"Cap{kind}:"):
            return int(line.partition(":")[2], 16)
    return 0
