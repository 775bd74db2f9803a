"""Resource limits: their names and numbers, getrlimit(2), and what a process has."""

from __future__ import annotations

import resource
from typing import Final

NUMBERS: Final = {
    "as": resource.RLIMIT_AS,
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "locks": 10,
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}
"""Docker's words for setrlimit(2): every limit that the kernel has."""

NAMES: Final = {number: name for name, number in NUMBERS.items()}


def hard(name: str) -> int:
    """This process's hard limit; -1 is unlimited."""
    return resource.getrlimit(NUMBERS[name])[1]
