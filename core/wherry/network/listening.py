"""Sockets in a sandbox for the name server that its containers see at 127.0.0.11.

They are bound to a port that the kernel chose, and rules of the sandbox lead what is for port 53 there: port 53 itself
stays the container's, who may run a name server of its own on every address. The rules rewrite ports and track nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from typing import Final

from wherry.errors import Unavailable
from wherry.linux import netns
from wherry.linux.nf_tables import rewrite_port
from wherry.spec.network import Sandbox

ADDRESS: Final = "127.0.0.11"
PORT: Final = 53
_TABLE: Final = "wherry-names"
_TRIES: Final = 8
_ABSENT: Final = (
    errno.EOPNOTSUPP,
    errno.EPROTONOSUPPORT,
    errno.ECONNREFUSED,
    errno.EAFNOSUPPORT,
    errno.ENOENT,
    errno.EINVAL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Bound sockets, the caller's: for the keeper, then to be closed. `sandbox` is the namespace itself."""

    port: int
    udp: int
    tcp: int
    sandbox: int

    @property
    def descriptors(self) -> tuple[int, int, int]:
        return self.udp, self.tcp, self.sandbox

    def close(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)


def listen(sandbox: Sandbox, port: int = 0) -> Listener:
    """Sockets in a sandbox; with the `port` of others that are there already, beside them. Unavailable.

    Beside: who shares a sandbox has a keeper of its own, and both answer; whoever is left goes on.
    """
    try:
        with contextlib.ExitStack() as stack:
            namespace = os.open(sandbox.path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, namespace)
            with netns.inside(namespace):
                udp, tcp = _bound(port)
                stack.callback(os.close, udp)
                stack.callback(os.close, tcp)
                with socket.socket(fileno=os.dup(udp)) as made:
                    chosen = int(made.getsockname()[1])
                if not port and not _lead(chosen):
                    # A kernel without nf_tables: then port 53 is ours, and a container cannot have it.
                    others = udp, tcp
                    udp, tcp = _bound(PORT)
                    for descriptor in others:
                        os.close(descriptor)
                    chosen = PORT
            stack.pop_all()
            return Listener(port=chosen, udp=udp, tcp=tcp, sandbox=namespace)
    except OSError as error:
        raise Unavailable(
            f"the name server of container {sandbox.id[:12]} cannot be set up: {error}"
        ) from error


def _lead(port: int) -> bool:
    try:
        rewrite_port(_TABLE, ADDRESS, PORT, port)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return False
    return True


def _bound(port: int) -> tuple[int, int]:
    """UDP and TCP on one port."""
    for _ in range(_TRIES):
        udp = _socket(socket.SOCK_DGRAM)
        try:
            udp.bind((ADDRESS, port))
            tcp = _socket(socket.SOCK_STREAM)
            try:
                tcp.bind((ADDRESS, udp.getsockname()[1]))
            except BaseException:
                tcp.close()
                raise
            return udp.detach(), tcp.detach()
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
        finally:
            udp.close()
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), f"{ADDRESS}:{port}")


def _socket(kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made
