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
_KEYED: Final = (2, 3)
"""Arguments of clone(2) that say nothing with these flags: where the kernel would write a pid, and thread data."""


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
def _allows_clone(filter: bytes) -> bool:
    """Whether a process under this filter can make another, as wherry-init does last."""
    return bpf.run(filter, _CLONE, [_CLONE_PARENT]) in (seccomp.ALLOW, seccomp.LOG)


def with_gate(filter: bytes) -> tuple[bytes, tuple[int, int]]:
    """A filter that lets wherry-init make its clone, whatever it lets others do, and the key to that.

    Under a filter that denies clone there is one all the same, for who passes two random numbers of 64 bits in arguments
    that have no meaning. They are forgotten at the execve.
    """
    if not filter or _allows_clone(filter):
        return filter, (0, 0)
    key = (int.from_bytes(os.urandom(8), "little"), int.from_bytes(os.urandom(8), "little"))
    return _gate(key) + filter, key


def _gate(key: tuple[int, int]) -> bytes:
    wanted = [(bpf.ARCHITECTURE, bpf.NATIVE), (bpf.NUMBER, _CLONE)]
    for index, value in ((0, _CLONE_PARENT), *zip(_KEYED, key, strict=True)):
        wanted += [(bpf.argument(index), value & 0xFFFFFFFF), (bpf.argument(index) + 4, value >> 32)]
    program = []
    for number, (offset, value) in enumerate(wanted):
        past = 2 * (len(wanted) - number) - 1
        program += [bpf.instruction(bpf.LOAD, offset), bpf.instruction(bpf.JUMP_EQUAL, value, 0, past)]
    return b"".join([*program, bpf.instruction(bpf.RETURN, seccomp.ALLOW)])
