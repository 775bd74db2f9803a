"""Kernel parameters below /proc/sys: sysctl(8). What is read or written is that of the namespaces of who looks."""

from __future__ import annotations

import os
import re
from typing import Final

_SWAP: Final = str.maketrans("./", "/.")


def path(name: str) -> str:
    """Where `net.ipv4.ip_forward` lies below /proc/sys. ValueError: the name is none, or leads out.

    The first of `.` and `/` that occurs separates; the other then stands for a dot: `net/ipv4/conf/eth0.5/forwarding`
    is `net.ipv4.conf.eth0/5.forwarding`, sysctl.d(5).
    """
    first = re.search("[./]", name)
    found = name if first is not None and first[0] == "/" else name.translate(_SWAP)
    if "\0" in found or any(part in ("", ".", "..") for part in found.split("/")):
        raise ValueError(f'"{name}" is no sysctl')
    return found


def dotted(name: str) -> str:
    """The name in its usual form. ValueError: it is none."""
    return path(name).translate(_SWAP)


def write(name: str, value: str) -> None:
    """Set a parameter. OSError: there is none, or it does not take this value; ValueError: the name is none."""
    fd = os.open(f"/proc/sys/{path(name)}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
