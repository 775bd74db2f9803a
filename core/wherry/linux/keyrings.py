"""Session keyrings: keyctl(2), keyrings(7)."""

from __future__ import annotations

from ctypes import c_char_p, c_int
from typing import Final

from wherry.linux import numbers
from wherry.linux.calls import last_error, syscall

_JOIN_SESSION: Final = 1


def new_session() -> None:
    """Have a new, empty session keyring instead of the one that was inherited; its last user takes it with him.

    OSError: ENOSYS, the kernel has no keys; EDQUOT, the user has too many; EPERM, a filter denies it.
    """
    if syscall(numbers.KEYCTL, c_int(_JOIN_SESSION), c_char_p(None)) == -1:
        raise last_error()
