"""`--ulimit`: every resource limit of a container, decided here. Nothing is inherited from the engine.

An engine's own limits are what a unit file says, often 2^30 open files: programs that close all descriptors before they
execute another then take minutes, and some allocate a table for as many. So a container has the table below, over it
what the daemon has by default, and over that its own. What is more than the engine can give is cut, and said.

Source: reference `populateCommand`; getrlimit(2); include/asm-generic/resource.h for what the kernel's first process has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from wherry.errors import InvalidRequest
from wherry.lifecycle import reach
from wherry.linux import limits
from wherry.spec.command import Rlimit
from wherry.spec.container import Ulimit

NAMES: Final = frozenset(limits.NUMBERS) - {"as"}
"""What Docker lets be named."""

_MIB: Final = 1 << 20
_FIXED: Final = (
    # Enough for select(2), which programs that know better raise to the hard limit.
    Rlimit(name="nofile", soft=1024, hard=524_288),
    # No dumps of what a container had in memory unless it asks for them.
    Rlimit(name="core", soft=0, hard=-1),
    # The pids cgroup counts a container's processes; this would count those of a user over all containers.
    Rlimit(name="nproc", soft=-1, hard=-1),
    # As the kernel has them for its first process.
    Rlimit(name="as", soft=-1, hard=-1),
    Rlimit(name="cpu", soft=-1, hard=-1),
    Rlimit(name="data", soft=-1, hard=-1),
    Rlimit(name="fsize", soft=-1, hard=-1),
    Rlimit(name="locks", soft=-1, hard=-1),
    Rlimit(name="memlock", soft=8 * _MIB, hard=8 * _MIB),
    Rlimit(name="msgqueue", soft=819_200, hard=819_200),
    Rlimit(name="nice", soft=0, hard=0),
    Rlimit(name="rss", soft=-1, hard=-1),
    Rlimit(name="rtprio", soft=0, hard=0),
    Rlimit(name="rttime", soft=-1, hard=-1),
    Rlimit(name="stack", soft=8 * _MIB, hard=-1),
)


@lru_cache(maxsize=1)
def usual() -> tuple[Rlimit, ...]:
    """What a container has where nobody says otherwise."""
    # Signals that wait are counted per user: half of the threads that fit into memory, as for the first process.
    pending = int(Path("/proc/sys/kernel/threads-max").read_text("ascii")) // 2
    return (*_FIXED, Rlimit(name="sigpending", soft=pending, hard=pending))


def settle(own: Sequence[Ulimit] | None, daemon: Sequence[Rlimit]) -> tuple[Rlimit, ...]:
    """Every limit: the usual ones, the daemon's over them, and the container's own over both, all within reach."""
    asked = tuple(Rlimit(name=limit.name, soft=limit.soft, hard=limit.hard) for limit in own or ())
    return _settled((*daemon, *asked))


@lru_cache(maxsize=64)
def _settled(over: tuple[Rlimit, ...]) -> tuple[Rlimit, ...]:
    found = {limit.name: limit for limit in (*usual(), *over)}
    return tuple(_within_reach(limit) for limit in found.values())


def check(own: Sequence[Ulimit] | None) -> list[str]:
    """Warnings for limits that cannot be as high as asked. InvalidRequest: there is no such limit."""
    warnings = []
    for each in own or ():
        if each.name not in NAMES:
            raise InvalidRequest(f"invalid ulimit type: {each.name}")
        if min(each.soft, each.hard) < -1:
            raise InvalidRequest(f"ulimit {each.name}: -1 is unlimited, and nothing is less")
        if each.hard != -1 and (each.soft == -1 or each.soft > each.hard):
            raise InvalidRequest(
                f"ulimit {each.name}: soft limit {each.soft} must be less than or equal to hard limit {each.hard}"
            )
        wanted = Rlimit(name=each.name, soft=each.soft, hard=each.hard)
        given = _within_reach(wanted)
        if given != wanted:
            warnings.append(
                f"ulimit {each.name}: {_number(each.hard)} is more than this engine can give; "
                f"the container has {_number(given.soft)}:{_number(given.hard)}"
            )
    return warnings


def _within_reach(limit: Rlimit) -> Rlimit:
    most = reach.hard_limit(limit.name)
    hard, soft = _least(limit.hard, most), _least(limit.soft, most)
    return (
        limit if (hard, soft) == (limit.hard, limit.soft) else Rlimit(name=limit.name, soft=soft, hard=hard)
    )


def _least(one: int, other: int) -> int:
    return max(one, other) if -1 in (one, other) else min(one, other)


def _number(value: int) -> str:
    return "unlimited" if value == -1 else str(value)
