"""What `run-demo` and `stop-demo` share: where the demonstration lives, and looking at it. Standard library only."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import sys
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
BIN: Final = REPOSITORY / ".venv/bin"

DATA_ROOT: Final = Path("/var/lib/wherry-demo")
EXEC_ROOT: Final = Path("/run/wherry-demo")
SOCKET: Final = Path("/run/wherry-demo.sock")
PIDFILE: Final = Path("/run/wherry-demo.pid")
LOG: Final = DATA_ROOT / "daemon.log"
BEFORE: Final = DATA_ROOT / "ip_forward-before"
"""What net.ipv4.ip_forward was before the demonstration, for `stop-demo` to put back."""
BRIDGE: Final = "wherry-demo0"
HOST: Final = f"unix://{SOCKET}"
IP_FORWARD: Final = Path("/proc/sys/net/ipv4/ip_forward")


def need_root(command: str) -> None:
    """End here, plainly, unless root."""
    if os.geteuid() != 0:
        sys.exit(f"{command} needs root (it makes namespaces, mounts and a bridge): sudo {command}")


def daemon_pid() -> int | None:
    """The demonstration's daemon, if one runs. A number in the pid file whose process is no wherryd is stale."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(PIDFILE.read_text())
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        if name == "wherryd" and rest.split()[0] not in ("Z", "X"):
            return pid
    return None


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(SOCKET))


def status_of(path: str) -> int:
    """The status that the daemon answers to a GET; 0 if it does not answer."""
    connection = _UnixConnection("wherry", timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
