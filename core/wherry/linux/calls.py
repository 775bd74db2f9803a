"""Where Python meets the C library: how a system call is declared, and how its failure becomes an `OSError`."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)


def declare(name: str, *arguments: Any, result: Any = ctypes.c_int) -> Any:
    """A function of the C library with its argument types fixed, errno kept per thread."""
    function = getattr(_libc, name)
    function.argtypes = arguments
    function.restype = result
    return function


_syscall = declare("syscall", ctypes.c_long, result=ctypes.c_long)
_syscall.argtypes = None


def syscall(number: int, *arguments: Any) -> int:
    """A system call by number, for those without a wrapper: syscall(2). -1 is turned into an OSError by the caller.

    Each argument must already be a ctypes value as wide as the kernel expects, or bytes, or a pointer.
    """
    return int(_syscall(ctypes.c_long(number), *arguments))


def last_error(path: str | bytes | os.PathLike[str] | None = None) -> OSError:
    """The failure of the call just made by this thread, with the path it was about."""
    number = ctypes.get_errno()
    text = os.strerror(number)
    return OSError(number, text) if path is None else OSError(number, text, os.fsdecode(path))
