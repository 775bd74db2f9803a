"""Who is called what in a network: written by the daemon, read by keepers, one small file for each network.

    daemon ── names/<network id> (replaced whole, on the exec root's tmpfs) ──▶ every keeper with a container in it

A file, and no messages: a start tells one network, however many containers are in it, and keepers know what was last
so while there is no daemon. A keeper reads a file again when it is another than it read before.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from wherry.spec.network import Endpoint, Network
from wherry.spec.services import Log
from wherry.state import atomic


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A container in a network: its first name is the container's own."""

    container: str
    names: list[str]
    ipv4: str = ""
    ipv6: str = ""


class Listing(msgspec.Struct, frozen=True, array_like=True):
    """Everybody in a network."""

    network: str = ""
    entries: list[Entry] = []


_decode: Final = msgspec.json.Decoder(Listing)


class Directory:
    """The writing side. Safe to share; a name that cannot be written is reported, and fails no start."""

    def __init__(self, directory: Path, log: Log) -> None:
        self._directory = directory
        self._log = log
        self._networks: dict[str, tuple[str, dict[str, Entry]]] = {}
        self._lock = threading.Lock()

    def path(self, network_id: str) -> Path:
        """Where the names of a network are, or will be."""
        return self._directory / network_id

    def restore(self, places: Iterable[tuple[Network, Endpoint]]) -> None:
        """Make the files say this and nothing else."""
        with self._lock:
            self._networks = {}
            for network, endpoint in places:
                self._enter(network, endpoint)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            for name in os.listdir(self._directory):
                if name not in self._networks:
                    (self._directory / name).unlink(missing_ok=True)
            for network_id in self._networks:
                self._write(network_id)

    def put(self, network: Network, endpoint: Endpoint) -> None:
        """A container is in a network, or is called otherwise there now."""
        with self._lock:
            self._enter(network, endpoint)
            self._write(network.id)

    def drop(self, network: Network, endpoint: Endpoint) -> None:
        """It is not any more; it was not is success."""
        with self._lock:
            known = self._networks.get(network.id)
            if known is not None and known[1].pop(endpoint.id, None) is not None:
                self._write(network.id)

    def forget(self, network_id: str) -> None:
        """The network is gone; already forgotten is success."""
        with self._lock:
            self._networks.pop(network_id, None)
            self.path(network_id).unlink(missing_ok=True)

    def _enter(self, network: Network, endpoint: Endpoint) -> None:
        names = [name for name in (endpoint.name, *endpoint.aliases) if name]
        entry = Entry(endpoint.container_id, names, endpoint.ipv4, endpoint.ipv6)
        self._networks.setdefault(network.id, (network.name, {}))[1][endpoint.id] = entry

    def _write(self, network_id: str) -> None:
        name, entries = self._networks[network_id]
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            atomic.replace(self.path(network_id), msgspec.json.encode(Listing(name, list(entries.values()))))
        except OSError as error:
            self._log.error(f"the names of network {name} cannot be written: {error}")


class Page:
    """The reading side: a network's names, as its file has them now. Not for two threads at once."""

    def __init__(self, path: str) -> None:
        self.path: Final = path
        self.network = ""
        self.by_name: dict[str, list[Entry]] = {}
        self.by_address: dict[str, Entry] = {}
        self.by_container: dict[str, Entry] = {}
        self._seen: tuple[int, int, int] | None = None

    def refresh(self) -> None:
        """Read it again if it has changed. A file that is gone, or cannot be read, is an empty one."""
        try:
            with open(self.path, "rb") as file:
                found = os.fstat(file.fileno())
                seen = (found.st_ino, found.st_mtime_ns, found.st_size)
                if seen == self._seen:
                    return
                listing = _decode.decode(file.read())
        except (OSError, msgspec.DecodeError):
            listing, seen = Listing(), None
        self._seen = seen
        self.network = listing.network.lower()
        self.by_name, self.by_address, self.by_container = {}, {}, {}
        for entry in listing.entries:
            self.by_container[entry.container] = entry
            for name in dict.fromkeys(name.lower() for name in entry.names):
                self.by_name.setdefault(name, []).append(entry)
            for address in (entry.ipv4, entry.ipv6):
                if address:
                    self.by_address[address] = entry
