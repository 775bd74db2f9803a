"""The process that makes user namespaces for a daemon. It has one thread, so it may fork; the daemon may not.

    python -P -m wherry.userns.maker <descriptor of the daemon's socket>

    daemon                                                 maker
      │ ── maps: [[[inside, outside, size]], […]] ───────────▶ │
      │ ── "new" ────────────────────────────────────────────▶ │
      │ ◀──────────────── ok + its user and its net namespace ── │
      │ ── "within" + a user namespace ──────────────────────▶ │
      │ ◀────────────────────────── ok + a net namespace in it ── │
      │ ◀────────────────────────────────── error number, words ── │  to either

Messages are JSON, one each. It ends when the daemon does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

from wherry.linux import processes, user_namespaces

LARGEST = 65536


def main() -> None:
    daemon = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(daemon.fileno(), False)
    processes.set_name("wherry-userns")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal's, meant for the daemon
    os.chdir("/")
    uids, gids = json.loads(daemon.recv(LARGEST))
    while True:
        data, received, _, _ = socket.recv_fds(daemon, LARGEST, 1, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        made: tuple[int, ...] = ()
        answer: Any = "ok"
        try:
            if json.loads(data) == "new":
                made = user_namespaces.make(uids, gids, ("net",))
            else:
                made = user_namespaces.make_within(received[0], ("net",))
        except OSError as error:
            answer = [error.errno, str(error.strerror)]
        try:
            socket.send_fds(daemon, [json.dumps(answer).encode()], made)
        finally:
            for descriptor in (*received, *made):
                os.close(descriptor)


if __name__ == "__main__":
    main()
