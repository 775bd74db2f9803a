"""A process's cgroup as the kernel's files show it, in either version."""

from __future__ import annotations

from pathlib import Path

from wherry.linux import cgroups

VERSION = cgroups.hierarchies().version
"""Of this host; a hybrid one is of version 1."""


def file_of(pid: int | str, file: str) -> Path:
    """A control file (`memory.max`, `cpu.shares`) of the cgroup in which a process is."""
    controller = file.partition(".")[0]
    found = cgroups.hierarchies()
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if VERSION == 2 and not names:
            return Path(found.unified + path, file)
        if VERSION == 1 and controller in names.split(","):
            return Path(found.v1[controller] + path, file)
    raise FileNotFoundError(f"process {pid} is in no cgroup that has {file}")


def value_of(pid: int | str, file: str) -> str:
    """What such a file says."""
    return file_of(pid, file).read_text().strip()
