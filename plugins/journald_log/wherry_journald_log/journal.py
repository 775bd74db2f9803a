"""The journal's socket: one datagram per entry; one that is too long for that goes as a sealed memory file.

Source: systemd "Native Journal Protocol".
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
from collections import deque
from typing import Final

_SENDING: Final = 10.0
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class Journal:
    """A `wherry.spec.logdelivery.Wire` to the journal at a socket."""

    def __init__(self, path: str) -> None:
        self._path: Final = path
        self._socket: socket.socket | None = None
        self.timeout = _SENDING

    def send(self, messages: deque[bytes]) -> None:
        if self._socket is None:
            self._socket = self._connect()
        while messages:
            try:
                self._socket.send(messages[0])
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                _send_file(self._socket, messages[0])
            messages.popleft()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            connected.settimeout(self.timeout)
            connected.connect(self._path)
        except OSError as error:
            connected.close()
            raise OSError(error.errno, f"{error.strerror}: {self._path}") from error
        return connected


def _send_file(to: socket.socket, message: bytes) -> None:
    descriptor = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(message)
        while view:
            view = view[os.write(descriptor, view) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        to.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
    finally:
        os.close(descriptor)
