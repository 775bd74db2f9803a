"""Links, addresses, routes and neighbours by rtnetlink(7): one message each, nothing decided here.

Every function takes the `Netlink` of the namespace that is meant, and an interface by its index. What
exists already is a FileExistsError, a missing link an OSError with ENODEV.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wherry.linux.netlink import (
    CREATE,
    EXCL,
    NESTED,
    REPLACE,
    Netlink,
    attribute,
    attributes,
    byte,
    number,
    text,
)

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_DELNEIGH: Final = 29

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_PROTINFO, _IFLA_OPERSTATE, _IFLA_ALIAS, _IFLA_NET_NS_FD = 12, 16, 20, 28
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA, _VETH_INFO_PEER = 1, 2, 4, 5, 1
_BRPORT_STATE, _BRPORT_HAIRPIN, _BRPORT_ISOLATED = 1, 4, 33
_BR_NF_CALL_IPTABLES, _BR_NF_CALL_IP6TABLES = 36, 37
_AF_BRIDGE: Final = 7
IFF_UP: Final = 1

_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")

FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
NAME_MAX: Final = 15
"""Longest name of an interface: IFNAMSIZ less its final zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An interface as the kernel describes it. `master` is the index of the bridge it is a port of, 0 for none."""

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    master: int
    up: bool
    running: bool = False
    """Whether it is up with a carrier, and the kernel has taken note of that: before, what is sent by it is lost."""
    alias: str = ""
    forwarding: bool = False
    """For a bridge's port: whether it lets packets through. A new one does as soon as the kernel saw its carrier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address of an interface."""

    index: int
    address: str
    prefix: int

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network(f"{self.address}/{self.prefix}", strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of the main table. `destination` in CIDR form, `0.0.0.0/0` or `::/0` for the default route."""

    destination: str
    gateway: str
    index: int


# ---- Links


def find(nl: Netlink, name: str) -> Link | None:
    """The interface of this name, or None."""
    try:
        body = nl.get(_GETLINK, _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return None if body is None else _link(body)


def every(nl: Netlink) -> list[Link]:
    """All interfaces of the namespace."""
    return [_link(body) for body in nl.dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0))]


def create_bridge(nl: Netlink, name: str, *, mac: str = "", mtu: int = 0) -> None:
    """A new bridge, down. Its MAC, once given, no longer follows its ports'."""
    body = _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name)
    if mac:
        body += attribute(_IFLA_ADDRESS, mac_bytes(mac))
    if mtu:
        body += number(_IFLA_MTU, mtu)
    nl.request(_NEWLINK, body + _info("bridge"), CREATE | EXCL)


def create_veth(
    nl: Netlink,
    name: str,
    *,
    peer: str,
    peer_namespace: int,
    peer_mac: str = "",
    mac: str = "",
    master: int = 0,
    mtu: int = 0,
) -> None:
    """A pair of links: `name` here, up, a port of `master`; `peer`, down, in the namespace of that descriptor.

    (The kernel makes the peer before the pair is one, so it cannot be up from the start.)
    """
    end = _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, peer)
    end += number(_IFLA_NET_NS_FD, peer_namespace)
    if peer_mac:
        end += attribute(_IFLA_ADDRESS, mac_bytes(peer_mac))
    body = _LINK.pack(0, 0, 0, IFF_UP, IFF_UP) + text(_IFLA_IFNAME, name)
    if mac:
        body += attribute(_IFLA_ADDRESS, mac_bytes(mac))
    if mtu:
        body += number(_IFLA_MTU, mtu)
        end += number(_IFLA_MTU, mtu)
    if master:
        body += number(_IFLA_MASTER, master)
    data = attribute(_INFO_DATA | NESTED, attribute(_VETH_INFO_PEER | NESTED, end))
    nl.request(_NEWLINK, body + _info("veth", data), CREATE | EXCL)


def filter_bridged(nl: Netlink, index: int) -> None:
    """Have the host's firewall see what passes between the ports of this bridge, whatever the host's default is.

    EOPNOTSUPP or no effect where br_netfilter is not loaded.
    """
    switches = byte(_BR_NF_CALL_IPTABLES, 1) + byte(_BR_NF_CALL_IP6TABLES, 1)
    data = attribute(_INFO_DATA | NESTED, switches)
    nl.request(_NEWLINK, _LINK.pack(0, 0, index, 0, 0) + _info("bridge", data))


def delete(nl: Netlink, index: int) -> None:
    """Remove a link; already gone is success. Waits 30 ms and more for the kernel's readers."""
    try:
        nl.request(_DELLINK, _LINK.pack(0, 0, index, 0, 0))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def set_up(nl: Netlink, index: int, *, mtu: int = 0) -> None:
    """Bring a link up, with another MTU if one is given."""
    body = _LINK.pack(0, 0, index, IFF_UP, IFF_UP)
    nl.request(_NEWLINK, body + (number(_IFLA_MTU, mtu) if mtu else b""))


def set_alias(nl: Netlink, index: int, alias: str) -> None:
    """Write a remark on a link, up to 255 bytes; `ip link` shows it."""
    nl.request(_SETLINK, _LINK.pack(0, 0, index, 0, 0) + attribute(_IFLA_ALIAS, alias.encode()))


def set_mac(nl: Netlink, index: int, mac: str) -> None:
    """Give a link a MAC. With the interface's sysctl arp_notify, neighbours are told, also of the same one again."""
    nl.request(_SETLINK, _LINK.pack(0, 0, index, 0, 0) + attribute(_IFLA_ADDRESS, mac_bytes(mac)))


def enslave(nl: Netlink, index: int, master: int) -> None:
    """Make a link a port of a bridge; 0 releases it."""
    nl.request(_SETLINK, _LINK.pack(0, 0, index, 0, 0) + number(_IFLA_MASTER, master))


def wait_until(nl: Netlink, name: str, ready: Callable[[Link], bool], timeout: float = 1.0) -> bool:
    """Wait until a link is as wanted: `forwarding` or `running`; false if it is not in time (seconds).

    The kernel takes note of a link's carrier a little later, and a first packet lost costs its sender a whole second.
    Since 6.8 asking for the link makes it take note at once; before, it takes a few milliseconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        link = find(nl, name)
        if link is None or ready(link):
            return link is not None
        if time.monotonic() > deadline:
            return False
        time.sleep(0.0005)


def set_port(nl: Netlink, index: int, *, isolated: bool | None = None, hairpin: bool | None = None) -> None:
    """Flags of a bridge's port. Isolated ports reach the bridge and ports that are not; hairpin sends back out."""
    flags = b""
    if isolated is not None:
        flags += byte(_BRPORT_ISOLATED, isolated)
    if hairpin is not None:
        flags += byte(_BRPORT_HAIRPIN, hairpin)
    body = _LINK.pack(_AF_BRIDGE, 0, index, 0, 0) + attribute(_IFLA_PROTINFO | NESTED, flags)
    nl.request(_SETLINK, body)


# ---- Addresses and routes


def add_address(nl: Netlink, index: int, address: str, prefix: int) -> None:
    """Give an interface an address, without duplicate address detection. FileExistsError if it has it."""
    family, packed = _packed(address)
    body = _ADDRESS.pack(family, prefix, 0x02 if family == socket.AF_INET6 else 0, 0, index)
    body += attribute(1, packed) + attribute(2, packed)
    if family == socket.AF_INET and prefix < 31:
        body += attribute(4, ipaddress.IPv4Network((address, prefix), strict=False).broadcast_address.packed)
    nl.request(_NEWADDR, body, CREATE | EXCL)


def delete_address(nl: Netlink, index: int, address: str, prefix: int) -> None:
    """Take an address from an interface; already gone is success."""
    family, packed = _packed(address)
    body = _ADDRESS.pack(family, prefix, 0, 0, index) + attribute(2, packed) + attribute(1, packed)
    try:
        nl.request(_DELADDR, body)
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
            raise


def addresses(nl: Netlink) -> list[Address]:
    """All addresses of all interfaces."""
    found = []
    for body in nl.dump(_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
        family, prefix, _, _, index = _ADDRESS.unpack_from(body)
        fields = attributes(body[_ADDRESS.size :])
        packed = fields.get(2) or fields.get(1)
        if packed and family in (socket.AF_INET, socket.AF_INET6):
            found.append(Address(index=index, address=socket.inet_ntop(family, packed), prefix=prefix))
    return found


def add_default_route(nl: Netlink, gateway: str, index: int) -> None:
    """All other destinations by `gateway`. FileExistsError if there is such a route."""
    family, packed = _packed(gateway)
    # main table, protocol boot, scope universe, unicast
    body = _ROUTE.pack(family, 0, 0, 0, 254, 3, 0, 1, 0) + attribute(5, packed) + number(4, index)
    nl.request(_NEWROUTE, body, CREATE | EXCL)


def replace_default_route(nl: Netlink, gateway: str, index: int) -> None:
    """All other destinations by `gateway`, whatever was before."""
    family, packed = _packed(gateway)
    body = _ROUTE.pack(family, 0, 0, 0, 254, 3, 0, 1, 0) + attribute(5, packed) + number(4, index)
    nl.request(_NEWROUTE, body, CREATE | REPLACE)


def routes(nl: Netlink, family: int = socket.AF_INET) -> list[Route]:
    """The unicast routes of the main table."""
    found = []
    for body in nl.dump(_GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
        of, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
        if of != family or kind != 1:
            continue
        fields = attributes(body[_ROUTE.size :])
        if 15 in fields:
            table = struct.unpack("=I", fields[15])[0]
        if table != 254:
            continue
        packed = fields.get(1, bytes(4 if family == socket.AF_INET else 16))
        gateway = fields.get(5)
        found.append(
            Route(
                destination=f"{socket.inet_ntop(family, packed)}/{length}",
                gateway=socket.inet_ntop(family, gateway) if gateway else "",
                index=struct.unpack("=I", fields[4])[0] if 4 in fields else 0,
            )
        )
    return found


def delete_default_routes(nl: Netlink, family: int) -> None:
    """Leave no way out; none is success."""
    length = 4 if family == socket.AF_INET else 16
    for _ in range(16):  # there may be several, of different metrics
        try:
            nl.request(
                _DELROUTE, _ROUTE.pack(family, 0, 0, 0, 254, 0, 255, 0, 0) + attribute(1, bytes(length))
            )
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.ENOENT):
                raise
            return


def forget_neighbour(nl: Netlink, index: int, address: str) -> None:
    """Drop what is remembered of a neighbour's MAC; nothing remembered is success."""
    family, packed = _packed(address)
    try:
        nl.request(_DELNEIGH, _NEIGHBOUR.pack(family, index, 0, 0, 0) + attribute(1, packed))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


# ---- Words


def mac_bytes(mac: str) -> bytes:
    """`02:42:ac:11:00:02` as six bytes. ValueError for anything else."""
    parts = mac.replace("-", ":").split(":")
    if len(parts) != 6 or any(not 1 <= len(part) <= 2 for part in parts):
        raise ValueError(f"{mac} is not a MAC address")
    return bytes(int(part, 16) for part in parts)


def _info(kind: str, data: bytes = b"") -> bytes:
    return attribute(_IFLA_LINKINFO | NESTED, attribute(_INFO_KIND, kind.encode()), data)


def _packed(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    fields = attributes(body[_LINK.size :])
    info = attributes(fields.get(_IFLA_LINKINFO, b""))
    port = attributes(info.get(_INFO_SLAVE_DATA, b"")) if info.get(_INFO_SLAVE_KIND) else {}
    return Link(
        index=index,
        name=_string(fields.get(_IFLA_IFNAME)),
        kind=_string(info.get(_INFO_KIND)),
        mac=":".join(f"{part:02x}" for part in fields.get(_IFLA_ADDRESS, b"")),
        mtu=struct.unpack("=I", fields[_IFLA_MTU])[0] if _IFLA_MTU in fields else 0,
        master=struct.unpack("=I", fields[_IFLA_MASTER])[0] if _IFLA_MASTER in fields else 0,
        up=bool(flags & IFF_UP),
        running=fields.get(_IFLA_OPERSTATE, b"") == b"\x06",
        alias=_string(fields.get(_IFLA_ALIAS)),
        forwarding=port.get(_BRPORT_STATE, b"")[:1] == b"\x03",
    )


def _string(value: bytes | None) -> str:
    return value.rstrip(b"\0").decode(errors="replace") if value else ""
