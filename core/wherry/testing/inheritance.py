"""A process as odd as an engine's may be, to see that nothing of it reaches a container.

with odd_process():
    result = keeper.run("sh", "-c", SHOW)
assert parse(result.stdout) == PLAIN
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from ctypes import c_int, c_ulong
from pathlib import Path
from typing import Final

from wherry.linux.calls import declare, syscall

_PR_SET_SECUREBITS: Final = 28
_PR_SET_TIMERSLACK: Final = 29
_PR_SET_THP_DISABLE: Final = 41
_NO_SETUID_FIXUP: Final = 4
_NO_RANDOMIZE: Final = 0x0040000
_IDLE: Final = 3
_ONLY_CPU_0: Final = frozenset({0})

_prctl = declare("prctl", c_int, c_ulong, c_ulong, c_ulong, c_ulong)
_personality = declare("personality", c_ulong)
_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}[os.uname().machine]

SHOW: Final = """
set -- $(sed 's/.*) //' /proc/self/stat); shift 16; echo nice=$1; shift 22; echo policy=$1
grep -E '^(Umask|Cpus_allowed_list|SigIgn|SigBlk|THP_enabled)' /proc/self/status | sed 's/:[[:space:]]*/=/'
for file in timerslack_ns personality coredump_filter oom_score_adj; do echo $file=$(cat /proc/self/$file); done
echo ioprio=$(ionice)
echo nofile=$(ulimit -Sn):$(ulimit -Hn)"""
"""A script for busybox that says what a process inherits."""


def plain() -> dict[str, str]:
    """What `SHOW` says of a process that inherited nothing; `nofile` is the caller's to add."""
    online = Path("/sys/devices/system/cpu/possible").read_text("ascii").strip()
    return {
        "nice": "0",
        "policy": "0",
        "Umask": "0022",
        "Cpus_allowed_list": online,
        "SigIgn": "0" * 16,
        "SigBlk": "0" * 16,
        "THP_enabled": "1",
        "timerslack_ns": "50000",
        "personality": "00000000",
        "coredump_filter": "00000033",
        "oom_score_adj": "0",
        "ioprio": "none: prio 0",
    }


@contextlib.contextmanager
def odd_process() -> Iterator[None]:
    """This process with everything odd that a child inherits and root can take back. Not for threads."""
    mask, affinity = os.umask(0o007), os.sched_getaffinity(0)
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGUSR1, signal.SIGWINCH)}
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    score = Path("/proc/self/oom_score_adj").read_text("ascii")
    _make_odd()
    try:
        yield
    finally:
        os.umask(mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        os.sched_setaffinity(0, affinity)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        Path("/proc/self/oom_score_adj").write_text(score)
        Path("/proc/self/coredump_filter").write_text("0x33")
        _set_io_priority(0)
        _personality(0)
        for option, value in (
            (_PR_SET_TIMERSLACK, 50_000),
            (_PR_SET_THP_DISABLE, 0),
            (_PR_SET_SECUREBITS, 0),
        ):
            _prctl(option, value, 0, 0, 0)


def _make_odd() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 7)
    os.sched_setaffinity(0, _ONLY_CPU_0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (777, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    Path("/proc/self/oom_score_adj").write_text("300")
    Path("/proc/self/coredump_filter").write_text("0x1")
    _set_io_priority(_IDLE << 13)
    _personality(_NO_RANDOMIZE)
    odd = ((_PR_SET_TIMERSLACK, 1_000_000), (_PR_SET_THP_DISABLE, 1), (_PR_SET_SECUREBITS, _NO_SETUID_FIXUP))
    for option, value in odd:
        _prctl(option, value, 0, 0, 0)


def _set_io_priority(value: int) -> None:
    syscall(_IOPRIO_SET, c_int(1), c_int(0), c_int(value))


def parse(output: bytes) -> dict[str, str]:
    """What `SHOW` printed, as pairs."""
    lines = output.decode("utf-8", "replace").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
