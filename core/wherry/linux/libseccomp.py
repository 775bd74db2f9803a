"""libseccomp, as thin typed functions: from rules to the BPF program that the kernel runs. seccomp_init(3) and its kin.

with filter(default_action) as context:
    add_architecture(context, token)
    add_rule(context, action, number, comparisons)
    program = export(context)
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from functools import lru_cache
from typing import Any, Final

UNKNOWN: Final = -1
"""No system call of that name: newer than this libseccomp, or none."""
_OPTIMIZE: Final = 8
"""SCMP_FLTATR_CTL_OPTIMIZE; libseccomp before 2.5 refuses it, and makes a list."""


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = [("argument", ctypes.c_uint), ("operator", c_int), ("a", c_uint64), ("b", c_uint64)]


@contextlib.contextmanager
def filter(default: int) -> Iterator[int]:
    """A new filter with this action for what no rule is about. ValueError: libseccomp does not take the action."""
    library = _library()
    context = library.seccomp_init(default)
    if not context:
        raise ValueError(f"libseccomp refuses the default action {default:#x}")
    try:
        # Ordered as a tree: the kernel asks the filter about each system call when it is set, 0.8 ms for a list.
        library.seccomp_attr_set(context, _OPTIMIZE, 2)
        yield context
    finally:
        library.seccomp_release(context)


def add_architecture(context: int, token: int) -> None:
    """Filter the calls of another architecture as well; that it is there is no error. ValueError: it cannot be."""
    _check(_library().seccomp_arch_add(context, token), f"architecture {token:#x}")


def number(name: str, token: int | None = None) -> int:
    """A system call's number, of this machine's architecture or of another. Negative ones are libseccomp's own."""
    encoded = name.encode("ascii", "replace")
    if token is None:
        return int(_library().seccomp_syscall_resolve_name(encoded))
    return int(_library().seccomp_syscall_resolve_name_arch(token, encoded))


def add_rule(context: int, action: int, called: int, comparisons: Sequence[Comparison], name: str) -> None:
    """A rule about a system call; one that is there already is no error. ValueError names the call."""
    array = (Comparison * len(comparisons))(*comparisons)
    done = _library().seccomp_rule_add_array(context, action, called, len(comparisons), array)
    _check(done, f"system call {name}")


def export(context: int) -> bytes:
    """The whole program. ValueError: it cannot be made."""
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(_library().seccomp_export_bpf(context, fd), "export")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


@lru_cache(maxsize=1)
def _library() -> Any:
    """libseccomp2. OSError where it is not installed."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = c_void_p
    library.seccomp_init.argtypes = [c_uint32]
    library.seccomp_release.argtypes = [c_void_p]
    library.seccomp_release.restype = None
    library.seccomp_attr_set.argtypes = [c_void_p, c_int, c_uint32]
    library.seccomp_arch_add.argtypes = [c_void_p, c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [c_char_p]
    library.seccomp_syscall_resolve_name_arch.argtypes = [c_uint32, c_char_p]
    library.seccomp_rule_add_array.argtypes = [c_void_p, c_uint32, c_int, ctypes.c_uint, POINTER(Comparison)]
    library.seccomp_export_bpf.argtypes = [c_void_p, c_int]
    return library


def _check(done: int, about: str) -> None:
    if done not in (0, -errno.EEXIST):
        raise ValueError(f"libseccomp refuses the profile ({about}): {os.strerror(-done)}")
