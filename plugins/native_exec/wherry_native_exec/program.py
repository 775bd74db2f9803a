"""wherry-init as a sealed memory file, so that nothing in a container can ever change what the host executes."""

from __future__ import annotations

import errno
import fcntl
import os
from functools import lru_cache
from pathlib import Path
from typing import Final

from wherry.errors import Unavailable

PATH: Final = Path(__file__).with_name("wherry-init")
_MFD_EXEC: Final = 0x10
"""Executable whatever vm.memfd_noexec says; Linux before 6.3 refuses the flag and needs none."""
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@lru_cache(maxsize=1)
def content() -> bytes:
    """The program. Read once, in the launcher: a keeper runs the version that it was made with."""
    try:
        return PATH.read_bytes()
    except FileNotFoundError:
        raise Unavailable(f"{PATH} is missing; build it: make setup") from None


def sealed() -> int:
    """A new sealed, executable, close-on-exec memory file with the program in it; the caller's to close."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("wherry-init", flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create("wherry-init", flags)
    try:
        os.write(fd, content())
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def candidates(name: str, environment: tuple[str, ...]) -> tuple[list[str], bool]:
    """(paths to try in order, whether they come from PATH) for a program's name in a container with this environment."""
    if "/" in name:
        return [name], False
    path = ""
    for entry in environment:
        if entry.startswith("PATH="):
            path = entry[5:]
    # A relative or empty word of PATH would mean wherever the program happens to start.
    return [f"{word.rstrip('/')}/{name}" for word in path.split(":") if word.startswith("/")], True
