"""System call numbers of the calls that the C library has no function for: x86-64 and aarch64.

Calls since Linux 5.1 have one number on every architecture. Source: the kernel's `syscall_64.tbl` and
`asm-generic/unistd.h`.
"""

from __future__ import annotations

import os
from typing import Final

_MACHINE: Final = os.uname().machine

_OLD: Final = {
    "x86_64": {"pivot_root": 155, "bpf": 321, "keyctl": 250, "gettid": 186},
    "aarch64": {"pivot_root": 41, "bpf": 280, "keyctl": 219, "gettid": 178},
}


def _old(name: str) -> int:
    """A number that differs between machines; -1 (which every kernel answers with ENOSYS) on one unknown to us."""
    return _OLD.get(_MACHINE, {}).get(name, -1)


PIVOT_ROOT: Final = _old("pivot_root")
BPF: Final = _old("bpf")
KEYCTL: Final = _old("keyctl")
PIDFD_SEND_SIGNAL: Final = 424
OPEN_TREE: Final = 428
MOVE_MOUNT: Final = 429
FSOPEN: Final = 430
FSCONFIG: Final = 431
FSMOUNT: Final = 432
FSPICK: Final = 433
PIDFD_OPEN: Final = 434
CLOSE_RANGE: Final = 436
OPENAT2: Final = 437
MOUNT_SETATTR: Final = 442
