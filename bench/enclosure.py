"""A program in a network, mount and pid namespace of its own: what it leaves behind ends with it.

    bench ─▶ setpriv (dies with bench) ─▶ unshare (its child dies with it) ─▶ sh, pid 1 of the namespace ─▶ the program

/run is a tmpfs there, so that sockets and mounts of a daemon are nobody else's; directories on the disk are the host's.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

CGROUP: Final = "wherry-bench"
"""Every cgroup that a measured program makes is below this name."""

_PREPARE: Final = """
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
{extra}
exec 3<&0
"$@" <&3 3<&- &
wait $!
"""  # a shell that stays, because pid 1 has to reap


@dataclass(kw_only=True)
class Enclosure:
    """A running program and the namespaces it lives in."""

    process: subprocess.Popen[str]

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        extra: str = "",
        environment: Mapping[str, str] | None = None,
        output: IO[Any] | int | None = None,
        **keywords: Any,
    ) -> Enclosure:
        """Start `argv` inside, after the shell commands `extra`."""
        process = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL", "--",
                "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
                "sh", "-ec", _PREPARE.format(extra=extra), "sh", *argv,
            ],
            env={**os.environ, **(environment or {})},
            stdout=keywords.pop("stdout", output),
            stderr=output,
            stdin=keywords.pop("stdin", subprocess.DEVNULL),
            start_new_session=True,
            text=True,
            **keywords,
        )  # fmt: skip
        return cls(process=process)

    def pids(self) -> list[int]:
        """Its processes, as the host numbers them; not those in pid namespaces below: containers."""
        first = self._first()
        if first is None:
            return []
        ours = os.readlink(f"/proc/{first}/ns/pid")
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.readlink(entry / "ns/pid") == ours:
                        found.append(int(entry.name))
        return found

    def _first(self) -> int | None:
        with contextlib.suppress(OSError, IndexError):
            parent = self.process.pid  # setpriv and unshare execute each other: one process
            return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
        return None

    def close(self) -> None:
        """End it all, now: unshare's child dies with unshare, and with it, the first of its pid namespace, all others."""
        first = self._first()
        watch = None
        with contextlib.suppress(OSError):
            watch = os.pidfd_open(first) if first is not None else None
        self.process.kill()
        self.process.wait()
        if watch is not None:
            select.select([watch], [], [], 30)
            os.close(watch)


def remove_cgroups() -> None:
    """Remove the cgroups below our name in every hierarchy; what is in them has ended."""
    tops = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    for top in tops:
        mine = top / CGROUP
        if not mine.is_dir():
            continue
        for directory, _, _ in os.walk(mine, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
