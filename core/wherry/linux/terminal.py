"""Terminals: a pair from a given devpts, its size. pts(4), ioctl_tty(2)."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import Final

_TIOCSPTLCK: Final = 0x40045431
_TIOCGPTPEER: Final = 0x5441


def open_pair(devpts: int) -> tuple[int, int]:
    """A new terminal of the devpts whose root directory is `devpts`: (master, slave), both the caller's to close.

    The slave is opened by way of its master, not by name: nothing in the file system is trusted.
    """
    master = os.open("ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=devpts)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    return master, slave


def set_size(fd: int, rows: int, columns: int) -> None:
    """Set the window size of a terminal, either side; its foreground processes get SIGWINCH. OSError ENOTTY: none."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def size(fd: int) -> tuple[int, int]:
    """(rows, columns) of a terminal."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    return rows, columns
