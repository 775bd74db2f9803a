"""Who lives in a pid namespace that a container is to join, where it matters that nobody there may trace.

Before Linux 6.17 a procfs of a pid namespace is made by a process that is in it and may mount: wherry-init sends one in
for a system call or two. Whoever there has CAP_SYS_PTRACE could seize it, and would hold all that the engine may do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache

from wherry.errors import Unsupported
from wherry.linux import capabilities, mounts, namespaces


@lru_cache(maxsize=1)
def procfs_is_made_from_outside() -> bool:
    """Whether this kernel takes the pid namespace of a procfs as an option (Linux 6.17)."""
    own = namespaces.open_namespace("self", "pid")
    try:
        os.close(mounts.new("proc", [("source", "proc"), ("pidns", own)]))
    except OSError:
        return False
    finally:
        os.close(own)
    return True


def refuse_tracers(pid_namespace: int) -> None:
    """Unsupported: somebody in that namespace may trace, and this kernel has us send in somebody worth it."""
    if procfs_is_made_from_outside():
        return
    tracer = next(tracers(pid_namespace), None)
    if tracer is not None:
        raise Unsupported(
            f"process {tracer} of the pid namespace to join may have CAP_SYS_PTRACE, and could seize the process that "
            "mounts /proc for this container; before Linux 6.17 that cannot be had otherwise: give neither container "
            "that capability, or give it to the one that joins last"
        )


def tracers(pid_namespace: int) -> Iterator[int]:
    """Processes in exactly that pid namespace that have CAP_SYS_PTRACE or may come to have it."""
    wanted = namespaces.identity(pid_namespace)
    bit = capabilities.BITS["CAP_SYS_PTRACE"]
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if namespaces.identity_of(name, "pid") == wanted and capabilities.of(name, "Bnd") >> bit & 1:
                yield int(name)
        except OSError:
            continue  # it has just ended
