"""Which seccomp filter a process gets, compiled once: in memory, and as a file for keepers forked before it was."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Final

from wherry.errors import InvalidRequest, StartFailed
from wherry.linux import bpf, seccomp
from wherry.spec.command import Process

_CLONE: Final = {"x86_64": 56, "aarch64": 220}.get(os.uname().machine, -1)
_CLONE_PARENT: Final = 0x8000 | 17


class Filters:
    """`directory` holds compiled filters by hash; it is made when the first is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def warm(self) -> None:
        """Have the default filter ready, for the launcher and all that it forks."""
        seccomp.warm()

    def of(self, process: Process) -> bytes:
        """The BPF program for a process; empty for none. InvalidRequest: its profile makes no sense."""
        wanted = process.seccomp
        if wanted.mode == "unconfined":
            return b""
        held = process.capabilities.bounding if wanted.capabilities is None else wanted.capabilities
        document = seccomp.default_profile() if wanted.mode == "default" else wanted.document
        try:
            return seccomp.compile_profile(document, held, self._directory)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        except OSError as error:
            raise StartFailed(f"cannot compile the seccomp profile: {error}") from error


@lru_cache(maxsize=64)
def allows_clone(filter: bytes) -> bool:
    """Whether a process under this filter can make another, as wherry-init does last."""
    if not filter:
        return True
    return bpf.run(filter, _CLONE, [_CLONE_PARENT]) in (seccomp.ALLOW, seccomp.LOG)
