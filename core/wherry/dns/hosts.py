"""The host's own name servers, as its resolv.conf has them now."""

from __future__ import annotations

import ipaddress
import os
from typing import Final

_LARGEST: Final = 1 << 16


class Servers:
    """Read again when the file has changed. Not for two threads at once."""

    def __init__(self, path: str) -> None:
        self.path: Final = path
        self._seen: tuple[int, int, int] | None = None
        self._servers: list[str] = []

    def now(self) -> list[str]:
        """Addresses in their order; none where there is no file."""
        try:
            found = os.stat(self.path)
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                with open(self.path, "rb") as file:
                    self._servers = servers(file.read(_LARGEST).decode(errors="replace"))
                self._seen = seen
        except OSError:
            self._servers, self._seen = [], None
        return self._servers


def servers(text: str) -> list[str]:
    """The addresses of `nameserver` lines; what is no address is left out. Source: resolv.conf(5)."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(str(ipaddress.ip_address(words[1])))
            except ValueError:
                continue
    return found
