"""Rules of nf_tables by netlink: what libnftables needs 10 ms for is 0.2 ms of one message here.

Only what rewrites a port of local packets, without connection tracking: made where a container begins. All else is
`nftables`. Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from wherry.linux.netlink import APPEND, CREATE, NESTED, NETFILTER, Netlink, attribute, text

_SUBSYSTEM: Final = 10
_NEWTABLE, _NEWCHAIN, _NEWRULE = 0, 3, 6
_LOCAL_OUT: Final = 3
_BEFORE_NAT: Final = -150  # the mangle table's priority
_ACCEPT: Final = 1
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_SOURCE_ADDRESS, _DESTINATION_ADDRESS = 12, 16
_SOURCE_PORT, _DESTINATION_PORT = 0, 2
_L4PROTO: Final = 16
_CHECKSUM_AT: Final = {socket.IPPROTO_UDP: 6, socket.IPPROTO_TCP: 16}
_REGISTER: Final = 1


def rewrite_port(table: str, address: str, outer: int, inner: int) -> None:
    """In this network namespace: who speaks to `address` at port `outer` by TCP or UDP reaches `inner`, and is answered
    as if from `outer`. `address` is one of the namespace's own, of IPv4.

    OSError: EOPNOTSUPP, EPROTONOSUPPORT or ECONNREFUSED where the kernel has no nf_tables.
    """
    packed = socket.inet_aton(address)
    messages = [
        (_NEWTABLE, CREATE, text(1, table)),
        (
            _NEWCHAIN,
            CREATE,
            text(1, table)
            + text(3, "output")
            + attribute(4 | NESTED, _number(1, _LOCAL_OUT), _number(2, _BEFORE_NAT))
            + _number(5, _ACCEPT)
            + text(7, "filter"),
        ),
    ]
    for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
        for where, port_at, old, new in (
            (_DESTINATION_ADDRESS, _DESTINATION_PORT, outer, inner),
            (_SOURCE_ADDRESS, _SOURCE_PORT, inner, outer),
        ):
            expressions = (
                _load(_NETWORK_HEADER, where, 4),
                _compare(packed),
                _expression("meta", _number(1, _REGISTER) + _number(2, _L4PROTO)),
                _compare(bytes([protocol])),
                _load(_TRANSPORT_HEADER, port_at, 2),
                _compare(struct.pack("!H", old)),
                _expression("immediate", _number(1, _REGISTER) + _data(2, struct.pack("!H", new))),
                _write(port_at, _CHECKSUM_AT[protocol]),
            )
            rule = text(1, table) + text(2, "output") + attribute(4 | NESTED, *expressions)
            messages.append((_NEWRULE, CREATE | APPEND, rule))
    head = struct.pack("=BBH", socket.AF_INET, 0, 0)
    with Netlink(NETFILTER) as nl:
        nl.batch(_SUBSYSTEM, [(_SUBSYSTEM << 8 | kind, flags, head + body) for kind, flags, body in messages])


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!i", value))


def _data(kind: int, value: bytes) -> bytes:
    return attribute(kind | NESTED, attribute(1, value))


def _expression(name: str, body: bytes) -> bytes:
    return attribute(1 | NESTED, text(1, name), attribute(2 | NESTED, body))


def _load(base: int, offset: int, length: int) -> bytes:
    return _expression(
        "payload", _number(1, _REGISTER) + _number(2, base) + _number(3, offset) + _number(4, length)
    )


def _compare(value: bytes) -> bytes:
    return _expression("cmp", _number(1, _REGISTER) + _number(2, 0) + _data(3, value))


def _write(offset: int, checksum_at: int) -> bytes:
    return _expression(
        "payload",
        _number(2, _TRANSPORT_HEADER)
        + _number(3, offset)
        + _number(4, 2)
        + _number(5, _REGISTER)
        + _number(6, 1)  # the Internet's checksum
        + _number(7, checksum_at)
        + _number(8, 0),
    )
