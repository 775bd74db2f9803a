"""`Root`: a container's layer as it is mounted: at most once at a time, however many use it.

Mounting a writable overlay twice succeeds silently and corrupts it, so whoever needs it (a run, cp, export) gets a copy
of one mount, the *seed*, which is attached nowhere. It is mounted for the first and let go after the last.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from wherry.errors import Conflict
from wherry.linux import detached
from wherry.spec.command import IdMaps


class Root:
    """The mounted root of one container. Thread-safe; whoever begins something with it holds the container's operation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seed: int | None = None
        self._users = 0
        self._running = False
        self._maps: IdMaps | None = None

    def begin_run(self, mount: Callable[[], int], maps: IdMaps | None = None) -> tuple[int, int]:
        """(the run's own mount, the seed): descriptors, the caller's to close. `end_run` gives the root back.

        `mount` is called for the seed if there is none: a detached mount, with the owners shown as `maps` has it.
        """
        copy = self.borrow(mount, maps)
        with self._lock:
            self._running = True
            assert self._seed is not None
            return copy, os.dup(self._seed)

    def end_run(self) -> None:
        """The run needs it no more. Idempotent."""
        with self._lock:
            ended, self._running = self._running, False
        if ended:
            self.give_back()

    def borrow(self, mount: Callable[[], int], maps: IdMaps | None = None) -> int:
        """A detached mount of the root, the caller's to attach or close; then `give_back`.

        Conflict: somebody still has it, shown with other owners.
        """
        with self._lock:
            fresh = self._seed is None
            if not fresh and maps != self._maps:
                raise Conflict(
                    "files of the container are being copied for another user namespace; try again"
                )
            seed = mount() if self._seed is None else self._seed
            try:
                copy, self._seed = detached.copied(seed)
            except BaseException:
                if fresh:
                    os.close(seed)
                raise
            self._users += 1
            self._maps = maps
            return copy

    def give_back(self) -> None:
        """What was borrowed is closed."""
        with self._lock:
            self._users -= 1
            if self._users > 0 or self._seed is None:
                return
            seed, self._seed = self._seed, None
        os.close(seed)

    def close(self) -> None:
        """The engine leaves: let go of the seed, whoever else has mounts of the layer."""
        with self._lock:
            seed, self._seed, self._users, self._running = self._seed, None, 0, False
        if seed is not None:
            os.close(seed)
