"""Sandboxes: the network namespaces of containers, each bound at a path that is its container's id.

A namespace takes a millisecond to make, so a few are made ahead in a thread of their own; they are descriptors only and
end with the daemon. A sandbox is used once. Removing it drops the last name that we hold: the kernel clears up the rest
behind, links included, when the last process in it is gone.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from pathlib import Path
from typing import Final

from wherry.linux import netns
from wherry.spec.network import Sandbox
from wherry.spec.services import Log

READY: Final = 3


class Sandboxes:
    """Those of one engine, below one directory. Safe to share."""

    def __init__(self, directory: Path, log: Log, *, ready: int = READY) -> None:
        self._directory = directory
        self._log = log
        self._ready: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._wanted = threading.Semaphore(ready)
        self._closing = False
        self._maker: threading.Thread | None = None

    def start(self) -> None:
        """Begin to make sandboxes ahead."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._maker is None:
            self._maker = threading.Thread(target=self._make, name="sandboxes", daemon=True)
            self._maker.start()

    def make(self, container_id: str, namespace: int | None = None) -> Sandbox:
        """A sandbox with `lo` up. What an earlier run left at its path is removed first.

        `namespace`: a bare one (a descriptor, which stays the caller's) that belongs to a user namespace.
        """
        descriptor = self._take() if namespace is None else _furnished(namespace)
        path = self._directory / container_id
        try:
            try:
                netns.bind(descriptor, path)
            except FileExistsError:
                netns.unbind(path)
                netns.bind(descriptor, path)
        finally:
            os.close(descriptor)
        return self.named(container_id)

    def remove(self, sandbox: Sandbox) -> None:
        """Let go of a sandbox; already gone is success. Does not wait."""
        netns.unbind(Path(sandbox.path))

    def exists(self, sandbox: Sandbox) -> bool:
        return netns.is_bound(Path(sandbox.path))

    def named(self, container_id: str) -> Sandbox:
        """The sandbox of a container, whether or not there is one."""
        return Sandbox(id=container_id, path=str(self._directory / container_id))

    def owned(self) -> list[str]:
        """Container ids of all sandboxes that have a path."""
        try:
            return sorted(
                name for name in os.listdir(self._directory) if re.fullmatch(r"[0-9A-Za-z_.-]+", name)
            )
        except FileNotFoundError:
            return []

    def close(self) -> None:
        """Stop making them ahead, and let go of those made; sandboxes in use stay."""
        self._closing = True
        self._wanted.release()
        if self._maker is not None:
            self._maker.join()
        while not self._ready.empty():
            os.close(self._ready.get())

    def _take(self) -> int:
        try:
            descriptor = self._ready.get_nowait()
        except queue.Empty:
            return netns.new()
        self._wanted.release()
        return descriptor

    def _make(self) -> None:
        """The maker's thread: it goes into a new namespace and comes home again, for each."""
        home = netns.current()
        try:
            while True:
                self._wanted.acquire()
                if self._closing:
                    return
                netns.unshare()
                try:
                    self._ready.put(netns.furnish())
                finally:
                    netns.enter(home)
        except OSError as error:
            self._log.warning(f"network namespaces cannot be made ahead: {error}")
        finally:
            os.close(home)


def _furnished(namespace: int) -> int:
    with netns.inside(namespace):
        return netns.furnish()
