"""Noticing that somebody took our rules away: a firewall service that reloads flushes everything, and knows no us.

The kernel tells of every change of nft's tables; when something was deleted, and it has become quiet, we are asked to
look. Legacy tables tell nobody, so they are looked at from time to time.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Final

from wherry.linux.netlink import NETFILTER

_GROUP_NFTABLES: Final = 7
_DELETED: Final = frozenset((10 << 8) | kind for kind in (2, 5, 8, 11))  # a table, a chain, a rule, a set
_QUIET: Final = 0.05
_AT_MOST: Final = 1.0
_FROM_TIME_TO_TIME: Final = 10.0


class Watch:
    """A thread that calls `look` when rules may be gone; `look` says what is to be done about it, and must not raise."""

    def __init__(self, look: Callable[[], object], *, told: bool) -> None:
        """`told`: the kernel tells (nft); otherwise `look` is called every 10 seconds."""
        self._look = look
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._socket: socket.socket | None = None
        if told:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)
            self._socket.setblocking(False)
            self._socket.bind((0, 1 << (_GROUP_NFTABLES - 1)))
        self._thread = threading.Thread(target=self._run, name="firewall watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        if self._socket is not None:
            poll.register(self._socket, select.POLLIN)
        pause = None if self._socket is not None else _FROM_TIME_TO_TIME * 1000
        since: float | None = None  # something was deleted at this moment
        while True:
            ready = dict(poll.poll(_QUIET * 1000 if since is not None else pause))
            if self._stop in ready:
                return
            if self._socket is not None and ready:
                if self._deleted():
                    since = time.monotonic() if since is None else since
                if since is None or time.monotonic() - since < _AT_MOST:
                    continue
            since = None
            self._look()

    def _deleted(self) -> bool:
        """Read what the kernel told; whether it told of a deletion. What was too much to be told counts as one."""
        assert self._socket is not None
        found = False
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS: some were dropped
                found = True
                continue
            at = 0
            while at + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                found = found or kind in _DELETED
                at += max((length + 3) & ~3, 16)
