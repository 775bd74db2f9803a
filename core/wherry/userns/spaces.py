"""The user namespaces of one daemon's containers: a few are made ahead, each with a network namespace in it."""

from __future__ import annotations

import errno
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any, Final

from wherry.errors import ConfigurationError, Unavailable
from wherry.linux import mapped
from wherry.spec.command import IdMap, IdMaps
from wherry.spec.services import Log
from wherry.userns.maker import LARGEST

READY: Final = 3
_PATIENCE: Final = 30.0
"""Seconds that one takes at most, on the busiest machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A user namespace, and a network namespace in it that is bare: descriptors, the owner's to close."""

    user: int
    net: int

    def close(self) -> None:
        os.close(self.user)
        os.close(self.net)


class UserNamespaces:
    """Thread-safe. `maps`: those of every namespace that it makes."""

    def __init__(self, maps: IdMaps, log: Log, *, ready: int = READY) -> None:
        self.maps: Final = maps
        self._log = log
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready: queue.SimpleQueue[Space] = queue.SimpleQueue()
        self._wanted = threading.Semaphore(ready)
        self._closing = False
        self.sample = -1
        """A user namespace with these maps that nobody lives in: a descriptor, for mounts that show other owners."""
        self._thread = threading.Thread(target=self._make_ahead, name="user namespaces", daemon=True)

    def start(self, data_root: str | os.PathLike[str]) -> None:
        """Begin to make them ahead. ConfigurationError: this kernel, or the data root's file system, cannot do it."""
        try:
            space = self._new()
        except Unavailable as error:
            raise ConfigurationError(f"userns-remap: {error}") from error
        try:
            os.close(mapped.bind(data_root, space.user))
        except OSError as error:
            space.close()
            raise ConfigurationError(
                f"userns-remap: the file system of {data_root} cannot show files with other owners "
                f"({error.strerror}); put the data root on ext4, xfs or btrfs"
            ) from error
        except BaseException:
            space.close()
            raise
        self.sample = os.dup(space.user)
        self._ready.put(space)
        self._thread.start()

    def take(self) -> Space:
        """A new user namespace with a network namespace; the caller's. Unavailable says what the kernel lacks."""
        try:
            space = self._ready.get_nowait()
        except queue.Empty:
            return self._new()
        self._wanted.release()
        return space

    def network_within(self, user: int) -> int:
        """A descriptor of a new, bare network namespace that belongs to the user namespace `user`."""
        (net,) = self._ask("within", [user])
        return net

    def close(self) -> None:
        """Let go of those made ahead, and end the process that makes them; what is in use stays."""
        self._closing = True
        self._wanted.release()
        if self._thread.is_alive():
            self._thread.join()
        while not self._ready.empty():
            self._ready.get().close()
        if self.sample != -1:
            os.close(self.sample)
            self.sample = -1
        with self._lock:
            self._end()

    def _new(self) -> Space:
        user, net = self._ask("new", [])
        return Space(user=user, net=net)

    def _make_ahead(self) -> None:
        self._wanted.acquire()  # the one that `start` has made
        while True:
            self._wanted.acquire()
            if self._closing:
                return
            try:
                self._ready.put(self._new())
            except Unavailable as error:
                self._log.warning(f"user namespaces cannot be made ahead: {error}")
                return

    def _ask(self, what: str, descriptors: list[int]) -> list[int]:
        with self._lock:
            for last in (False, True):
                try:
                    return self._exchange(what, descriptors)
                except (EOFError, ConnectionError, TimeoutError) as error:
                    self._end()
                    if last:
                        raise Unavailable(
                            f"the process that makes user namespaces does not answer: {error}"
                        ) from error
        raise AssertionError

    def _exchange(self, what: str, descriptors: list[int]) -> list[int]:
        connection = self._socket or self._begin()
        socket.send_fds(connection, [json.dumps(what).encode()], descriptors)
        data, made, _, _ = socket.recv_fds(connection, LARGEST, 2, socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise EOFError("it has ended")
        answer = json.loads(data)
        if answer != "ok":
            raise Unavailable(f"no user namespace can be made: {answer[1]}{_hint(*answer)}")
        return list(made)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "wherry.userns.maker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": path},
                start_new_session=True,
            )
        ours.settimeout(_PATIENCE)
        ours.send(json.dumps([_entries(self.maps.uids), _entries(self.maps.gids)]).encode())
        self._socket = ours
        return ours

    def _end(self) -> None:
        """With the lock held."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _entries(maps: tuple[IdMap, ...]) -> list[list[int]]:
    return [[each.inside, each.outside, each.size] for each in maps]


def _hint(number: int, words: Any) -> str:
    if number == errno.ENOSPC:
        return "; raise user.max_user_namespaces (sysctl)"
    if number in (errno.EPERM, errno.EINVAL, errno.ENOSYS):
        return "; is CONFIG_USER_NS on, and nothing in the way?"
    return ""
