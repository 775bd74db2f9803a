"""The launcher as its daemon sees it: started, asked for keepers, let go."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import Any, Final

from wherry.errors import Unavailable
from wherry.keeper.protocol import MESSAGE_LIMIT, Warm, from_json, to_json
from wherry.linux.sockets import Channel

SENDING: Final = 5.0
"""Seconds that a launcher or a keeper may take to read a request."""

READY: Final = 60.0
"""Seconds that a launcher may take to import the drivers."""

# What a keeper's memory looks like is set before its interpreter starts: one arena, and freed pages go back.
_MALLOC: Final = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_TOP_PAD_": "16384"}
_KEPT_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HOME")


class Launcher:
    """The launcher as its daemon sees it. `Keepers` asks it one thing at a time."""

    def __init__(self, warm: Warm) -> None:
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "wherry.keeper.launcher", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment | _MALLOC,
                start_new_session=True,
            )
        self.pid: Final = self._process.pid
        self._channel = Channel(ours, MESSAGE_LIMIT)
        self._channel.send(to_json(warm), timeout=SENDING)
        self._ready = False

    def failures(self) -> list[dict[str, Any]]:
        """Wait until it is warm; the drivers that failed, when asked first."""
        if self._ready:
            return []
        try:
            ready = from_json(self._channel.receive(timeout=READY).body)
        except EOFError:
            raise EOFError("the launcher ended while it prepared the drivers") from None
        if "fault" in ready:
            raise Unavailable(f"the launcher cannot prepare the drivers: {ready['fault']}")
        self._ready = True
        return list(ready["failed"])

    def fork(self, descriptor: int) -> int:
        """A keeper that has this end of a socket; its pid."""
        self._channel.send(b"", [descriptor], timeout=SENDING)
        return int(from_json(self._channel.receive(timeout=SENDING).body)["pid"])

    def close(self) -> None:
        """Let it go; it ends with its last keeper. A thread waits for it, so that no zombie stays."""
        self._channel.close()
        threading.Thread(target=self._process.wait, name="wherry-launcher-end", daemon=True).start()
