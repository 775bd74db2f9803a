"""Binding a port of the host, so that nobody else can, and finding out who did."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from wherry.spec.network import PortBinding

_SCTP: Final = 132
_KINDS: Final = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, _SCTP),
}


def bind(wanted: PortBinding) -> int | None:
    """A descriptor of a socket that owns the port, the caller's; None: the kernel has no sockets of that protocol.

    OSError: EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT. Without SO_REUSEADDR: then nobody can bind it, whatever options
    they set.
    """
    kind, number = _KINDS[wanted.protocol]
    family = socket.AF_INET6 if ":" in wanted.host_address else socket.AF_INET
    try:
        made = _socket(family, kind, number)
    except OSError:
        if wanted.protocol == "sctp":
            return None  # the kernel has no SCTP sockets: nobody can take the port either
        raise
    address = (wanted.host_address, wanted.host_port)
    try:
        try:
            made.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or wanted.protocol != "tcp":
                raise
            # It may only be a connection of some earlier server that waits to be forgotten (TIME_WAIT). Somebody who
            # listens would forbid us to listen; and while we listen nobody else can.
            made.close()
            made = _socket(family, kind, number)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(0)
        if wanted.protocol == "udp":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    except BaseException:
        made.close()
        raise
    return made.detach()


def close(held: Iterable[tuple[PortBinding, int]]) -> None:
    for _, descriptor in held:
        os.close(descriptor)


def has_ipv6() -> bool:
    """Whether this host has IPv6 switched on."""
    try:
        return Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").read_text().strip() == "0"
    except OSError:
        return False


def meet(one: str, other: str) -> bool:
    """Whether a port cannot be bound on both of these addresses: they are the same, or one is every one."""
    if (":" in one) != (":" in other):
        return False
    every = "::" if ":" in one else ""
    return one == other or every in (one, other)


def shown(address: str, port: int) -> str:
    """As people write it: `0.0.0.0:80`, `[::]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address or '0.0.0.0'}:{port}"


def program(wanted: PortBinding) -> str:
    """Which program has a port, from /proc: for the error only, it reads much."""
    suffix = f":{wanted.host_port:04X}"
    inodes = set()
    for name in (wanted.protocol, f"{wanted.protocol}6"):
        try:
            lines = Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        inodes |= {f"socket:[{words[9]}]" for words in map(str.split, lines) if words[1].endswith(suffix)}
    for process in Path("/proc").iterdir():
        if not re.fullmatch(r"[0-9]+", process.name):
            continue
        try:
            for descriptor in os.scandir(process / "fd"):
                if os.readlink(descriptor.path) in inodes:
                    return f"by program {(process / 'comm').read_text().strip()}, process {process.name}"
        except OSError:
            continue  # it ended
    return "by another program"


def _socket(family: int, kind: int, number: int) -> socket.socket:
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC, number)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made
