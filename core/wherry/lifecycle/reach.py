"""What this engine has itself: more it cannot give to a container. In a container of its own that may be little."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from wherry.linux import capabilities, limits

_NR_OPEN: Final = Path("/proc/sys/fs/nr_open")


@lru_cache(maxsize=1)
def available() -> tuple[str, ...]:
    """Names of the capabilities that a container can have, by bit: those that the kernel knows and this process holds."""
    held = capabilities.of("self", "Prm") & capabilities.of("self", "Bnd")
    return capabilities.names(held & ((1 << capabilities.last() + 1) - 1))


def may_raise() -> bool:
    """Whether hard limits can be raised, and oom scores lowered."""
    return "CAP_SYS_RESOURCE" in available()


@lru_cache(maxsize=32)
def hard_limit(name: str) -> int:
    """The highest hard limit of that name; -1 is unlimited. The number of open files ends at fs.nr_open for everyone."""
    own = -1 if may_raise() else limits.hard(name)
    if name != "nofile":
        return own
    most = int(_NR_OPEN.read_text("ascii"))
    return most if own == -1 else min(own, most)


@lru_cache(maxsize=1)
def oom_score_adj() -> int:
    """The lowest oom_score_adj that a container can have: proc_pid_oom_score_adj(5)."""
    return -1000 if may_raise() else int(Path("/proc/self/oom_score_adj").read_text("ascii"))
