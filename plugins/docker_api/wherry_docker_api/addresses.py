"""Listening sockets from addresses: `unix:///path`, `tcp://host:port`, `fd://N` (or `fd://`, what systemd hands over).

A unix socket is for root and one group (0660), from its first moment on: it is made with 0600, given to the group and
only then opened to it. A socket file that nobody listens on is left over, and replaced.
"""

from __future__ import annotations

import grp
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from wherry.errors import ConfigurationError

BACKLOG: Final = 512
FIRST_PASSED: Final = 3
"""The first descriptor that systemd passes: sd_listen_fds(3)."""


def listen(addresses: Sequence[str], group: str, cleanup: ExitStack) -> list[socket.socket]:
    """A listening socket per address, closed (and its path removed) by `cleanup`. Raises ConfigurationError."""
    if not addresses:
        raise ConfigurationError(
            "the docker front has no address to listen on; name one: --host unix:///run/wherry.sock"
        )
    found = []
    for address in addresses:
        scheme, separator, rest = address.partition("://")
        match scheme if separator else "":
            case "unix":
                opened = [_unix(rest, group, cleanup)]
            case "tcp":
                opened = [_tcp(address, rest)]
            case "fd":
                opened = _passed(address, rest)
            case _:
                raise ConfigurationError(
                    f'"{address}" is no address to listen on; write unix:///path, tcp://host:port or fd://'
                )
        for sock in opened:
            cleanup.callback(sock.close)
            sock.setblocking(False)
            found.append(sock)
    return found


def _unix(path: str, group: str, cleanup: ExitStack) -> socket.socket:
    if not path.startswith("/"):
        raise ConfigurationError(
            f'the socket path in "unix://{path}" must be absolute: unix:///run/wherry.sock'
        )
    if len(os.fsencode(path)) > 107:
        raise ConfigurationError(f"the socket path {path} is longer than the 107 bytes that unix(7) allows")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left_over(path)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        os.fchmod(sock.fileno(), 0o600)  # before bind(2): Linux takes the mode of the new file from here
        sock.bind(path)
        made = os.stat(path)
        cleanup.callback(_unlink, path, made.st_ino)
        number = _group(group)
        if number is not None:
            os.chown(path, -1, number)
            os.chmod(path, 0o660)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"cannot listen on unix://{path}: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_left_over(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"cannot listen on unix://{path}: there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except FileNotFoundError:
            return
        except OSError:
            pass
    raise ConfigurationError(
        f"cannot listen on unix://{path}: another daemon does; stop it, or choose another --host"
    )


def _unlink(path: str, inode: int) -> None:
    # Only our own: another daemon may have put its socket there.
    try:
        if os.lstat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        pass


def _group(name: str) -> int | None:
    if not name:
        return None
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _tcp(address: str, rest: str) -> socket.socket:
    host, _, port = rest.rstrip("/").rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f'"{address}" names no port; write tcp://host:port')
    host = host.strip("[]") or "127.0.0.1"
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {address}: {error.strerror or error}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"cannot listen on {address}: {error.strerror or error}") from error
    return sock


def _passed(address: str, rest: str) -> list[socket.socket]:
    if rest in ("", "*"):
        mine = os.environ.get("LISTEN_PID") == str(os.getpid())
        numbers = (
            range(FIRST_PASSED, FIRST_PASSED + int(os.environ.get("LISTEN_FDS", "0"))) if mine else range(0)
        )
        if not numbers:
            raise ConfigurationError(
                f"cannot listen on {address}: no socket was passed (LISTEN_FDS, sd_listen_fds(3))"
            )
    elif rest.isdecimal():
        numbers = range(int(rest), int(rest) + 1)
    else:
        raise ConfigurationError(f'"{address}" is no address to listen on; write fd:// or fd://<number>')
    found = []
    try:
        for number in numbers:
            os.set_inheritable(number, False)
            found.append(socket.socket(fileno=number))
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {address}: descriptor {number}: {error.strerror}"
        ) from error
    return found
