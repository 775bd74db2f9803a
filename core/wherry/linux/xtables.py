"""How many rules the legacy iptables of this network namespace hold, asked of the kernel: no library, no program.

Source: linux/netfilter_ipv4/ip_tables.h, netfilter_ipv6/ip6_tables.h.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from pathlib import Path
from typing import Final

from wherry.linux.calls import declare, last_error

_GET_INFO: Final = 64  # IPT_SO_GET_INFO
_INFO: Final = struct.Struct("=32sI5I5III")
_WHERE: Final = {
    4: ("ip_tables_names", socket.AF_INET, socket.SOL_IP),
    6: ("ip6_tables_names", socket.AF_INET6, socket.IPPROTO_IPV6),
}

_getsockopt = declare(
    "getsockopt", ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p
)


def tables(version: int = 4) -> list[str]:
    """The legacy tables of an IP version that exist here; somebody's look at one is enough to make it."""
    try:
        return Path("/proc/thread-self/net", _WHERE[version][0]).read_text().split()
    except FileNotFoundError:
        return []


def entries(table: str, version: int = 4) -> int:
    """How many rules and chains somebody added to a table: none in a table that nobody used."""
    _, family, level = _WHERE[version]
    with socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as raw:
        buffer = ctypes.create_string_buffer(table.encode(), _INFO.size)
        size = ctypes.c_uint32(_INFO.size)
        if _getsockopt(raw.fileno(), level, _GET_INFO, buffer, ctypes.byref(size)) == -1:
            raise last_error(table)
    fields = _INFO.unpack(buffer.raw)
    hooks, count = fields[1], fields[12]
    return (
        int(count) - int(hooks).bit_count() - 1
    )  # each hook ends in its policy, the table in an error entry
