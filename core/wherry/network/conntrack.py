"""Forgetting tracked UDP flows, so that a rule just made or removed holds for them too.

The kernel decides about a flow once, when it sees its first packet. A sender that never pauses keeps that decision
alive: "no such port" for a port published since, or the address of a container that is gone. Flows are known by the
*host's* port, which is where they were sent. To find them the kernel goes through its whole table, 5 ms even if it is
empty: a thread behind does that. Source: linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import queue
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Final

from wherry.linux.netlink import NESTED, NETFILTER, Netlink, attribute, attributes, byte, number
from wherry.spec.network import PortBinding
from wherry.spec.services import Log

_SUBSYSTEM: Final = 1 << 8
_GET, _DELETE = 1, 2
_TUPLE_ORIG, _FILTER = 1, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_DESTINATION, _IPV6_DESTINATION = 2, 4
_PROTO_NUMBER, _PROTO_DESTINATION_PORT = 1, 3
_ORIG_FLAGS: Final = 1
_BY_NUMBER, _BY_DESTINATION_PORT = 1 << 3, 1 << 5
_UDP: Final = 17
_HEAD: Final = struct.Struct("=BBH")  # nfgenmsg
_ABSENT: Final = (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ECONNREFUSED)


class Flows:
    """Forgets flows behind: after ports are published, and after they are not any more."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._queue: queue.SimpleQueue[tuple[PortBinding, ...] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="conntrack", daemon=True)
            self._thread.start()

    def forget_soon(self, bindings: Iterable[PortBinding]) -> None:
        """Within milliseconds."""
        wanted = tuple(binding for binding in bindings if binding.protocol == "udp")
        if wanted:
            self._queue.put(wanted)

    def close(self) -> None:
        """Finish what was asked for."""
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (bindings := self._queue.get()) is not None:
            try:
                forget(bindings)
            except OSError as error:
                self._log.warning(f"forgetting flows to published ports: {error}")


def forget(bindings: Iterable[PortBinding]) -> int:
    """Drop every UDP flow that was sent to these ports of the host; answers how many there were.

    A kernel without connection tracking has none.
    """
    wanted = [binding for binding in bindings if binding.protocol == "udp"]
    if not wanted:
        return 0
    count = 0
    try:
        with Netlink(NETFILTER) as nl:
            for binding in wanted:
                family = socket.AF_INET6 if ":" in binding.host_address else socket.AF_INET
                every = binding.host_address in ("", "::")
                for flow in _flows(nl, family, binding.host_port):
                    if every or _destination(flow) == binding.host_address:
                        count += _delete(nl, family, flow)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
    return count


def _flows(nl: Netlink, family: int, port: int) -> list[bytes]:
    """The original tuples of UDP flows to a port; the kernel filters (since 5.8), and we once more."""
    protocol = attribute(
        _TUPLE_PROTO | NESTED,
        byte(_PROTO_NUMBER, _UDP),
        attribute(_PROTO_DESTINATION_PORT, struct.pack("!H", port)),
    )
    body = _head(family) + attribute(_TUPLE_ORIG | NESTED, protocol)
    body += attribute(_FILTER | NESTED, number(_ORIG_FLAGS, _BY_NUMBER | _BY_DESTINATION_PORT))
    found = []
    for answer in nl.dump(_SUBSYSTEM | _GET, body):
        flow = attributes(answer[_HEAD.size :]).get(_TUPLE_ORIG, b"")
        fields = attributes(attributes(flow).get(_TUPLE_PROTO, b""))
        if fields.get(_PROTO_NUMBER) == bytes([_UDP]) and fields.get(_PROTO_DESTINATION_PORT) == struct.pack(
            "!H", port
        ):
            found.append(flow)
    return found


def _destination(flow: bytes) -> str:
    fields = attributes(attributes(flow).get(_TUPLE_IP, b""))
    if _IPV6_DESTINATION in fields:
        return socket.inet_ntop(socket.AF_INET6, fields[_IPV6_DESTINATION])
    packed = fields.get(_IP_DESTINATION, b"")
    return socket.inet_ntoa(packed) if len(packed) == 4 else ""


def _delete(nl: Netlink, family: int, flow: bytes) -> int:
    try:
        nl.request(_SUBSYSTEM | _DELETE, _head(family) + attribute(_TUPLE_ORIG | NESTED, flow))
    except OSError as error:
        if error.errno != errno.ENOENT:  # it ended by itself
            raise
        return 0
    return 1


def _head(family: int) -> bytes:
    return _HEAD.pack(family, 0, 0)
