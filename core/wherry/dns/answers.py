"""What is answered to a question: by us if it is about a container, by nobody here if it is about anything else.

Pure: a message in, a message out. Messages come from containers, so every one is taken for hostile: its header is
looked at before anything is parsed, and what cannot be parsed is the sender's fault.
Source: RFC 1035, 6891 (EDNS); dockerd's resolver for what it is that is answered.
"""

from __future__ import annotations

import ipaddress
import random
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from dnslib import AAAA, EDNS0, PTR, QTYPE, RCODE, RR, A, DNSRecord

from wherry.dns.directory import Entry, Page

HEADER: Final = struct.Struct("!6H")
LARGEST: Final = 4096
"""Bytes of a question; there is no honest one of half of that."""
PLAIN: Final = 512
"""Bytes of an answer by UDP to somebody who does not say that he takes more."""
MOST: Final = 1232
"""Bytes that we say we take, and send at most by UDP: what needs no fragments anywhere."""
TTL: Final = 10
"""Seconds. A container that is started again may have another address: who remembers longer asks the wrong one."""

_RESPONSE, _TRUNCATED, _RECURSION_WANTED, _RECURSION_OFFERED = 0x8000, 0x0200, 0x0100, 0x0080
_FORMERR, SERVFAIL, _NXDOMAIN, _NOTIMP = 1, 2, 3, 4
_PTR: Final = 12
_OPT: Final = 41


class Names:
    """What one container can ask for: the pages of its networks in their order, and what it calls others by itself."""

    def __init__(self, pages: Sequence[Page], links: Mapping[str, str]) -> None:
        """`links`: alias → container's id."""
        self._pages = pages
        self._links = {alias.lower(): container for alias, container in links.items()}

    def refresh(self) -> None:
        for page in self._pages:
            page.refresh()

    def named(self, name: str) -> list[Entry]:
        """Everybody of that name, of the first network that knows it: `web`, and `web.network`."""
        container = self._links.get(name)
        if container is not None:
            return [page.by_container[container] for page in self._pages if container in page.by_container]
        for page in self._pages:
            if name in page.by_name:
                return page.by_name[name]
        head, _, network = name.rpartition(".")
        for page in self._pages:
            if head in page.by_name and page.network == network:
                return page.by_name[head]
        return []

    def at(self, address: str) -> str:
        """The whole name of who has an address; empty: nobody here."""
        for page in self._pages:
            entry = page.by_address.get(address)
            if entry is not None:
                fits = len(page.network) < 64 and re.fullmatch(r"[a-z0-9_.-]+", page.network)
                return f"{entry.names[0]}.{page.network}" if fits else entry.names[0]
        return ""


def answer(message: bytes, names: Names, *, tcp: bool) -> bytes | None:
    """The answer, empty where nothing is to be answered; None: the question is about nothing of ours."""
    if len(message) < HEADER.size:
        return b""
    _, flags, questions, answers, authorities, additions = HEADER.unpack_from(message)
    if flags & _RESPONSE:
        return b""
    if flags >> 11 & 15:
        return failure(message, _NOTIMP)
    if len(message) > LARGEST or questions != 1 or answers or authorities or additions > 2:
        return failure(message, _FORMERR)
    try:
        query = DNSRecord.parse(message)
        name = ".".join(label.decode("ascii") for label in query.q.qname.label).lower()
        kind, domain = int(query.q.qtype), int(query.q.qclass)
    except Exception:  # whatever a parser does with what somebody made up to hurt it
        return failure(message, _FORMERR)
    if domain != 1:
        return None
    names.refresh()
    try:
        return _of_ours(query, name, kind, names, tcp)
    except Exception:  # a name of ours that no message can carry
        return failure(message)


def _of_ours(query: DNSRecord, name: str, kind: int, names: Names, tcp: bool) -> bytes | None:
    reply = query.reply(ra=1, aa=1)
    if kind == _PTR:
        host = names.at(_address(name))
        if not host:
            return None
        reply.add_answer(RR(query.q.qname, QTYPE.PTR, rdata=PTR(host), ttl=TTL))
        return _packed(reply, query, tcp)
    entries = names.named(name)
    if not entries:
        return None
    # A name that is known and has nothing of that kind is not asked for elsewhere: that is no secret of theirs.
    for record in _records(query.q.qname, kind, entries):
        reply.add_answer(record)
    return _packed(reply, query, tcp)


def failure(message: bytes, code: int = SERVFAIL) -> bytes:
    """An answer that says no, made without looking further than the header and the question's bytes."""
    identity, flags = HEADER.unpack_from(message)[:2]
    kept = flags & (0x7800 | _RECURSION_WANTED)
    asked = question(message)
    head = HEADER.pack(identity, _RESPONSE | kept | _RECURSION_OFFERED | code, 1 if asked else 0, 0, 0, 0)
    return head + asked


def unknown(message: bytes) -> bytes:
    """There is no such name."""
    return failure(message, _NXDOMAIN)


def question(message: bytes) -> bytes:
    """The bytes of a message's first question; empty if it has none that is whole."""
    at, limit = HEADER.size, min(len(message), HEADER.size + 255 + 4)
    while at < limit:
        length = message[at]
        if length == 0:
            return message[HEADER.size : at + 5] if at + 5 <= len(message) else b""
        if length > 63:
            return b""
        at += 1 + length
    return b""


def _records(name: object, kind: int, entries: Sequence[Entry]) -> list[RR]:
    if kind == QTYPE.A:
        found = [RR(name, QTYPE.A, rdata=A(entry.ipv4), ttl=TTL) for entry in entries if entry.ipv4]
    elif kind == QTYPE.AAAA:
        found = [RR(name, QTYPE.AAAA, rdata=AAAA(entry.ipv6), ttl=TTL) for entry in entries if entry.ipv6]
    else:
        return []
    random.shuffle(found)
    return found


def _address(name: str) -> str:
    """The address in a name that PTR is asked for; empty if it is none."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:4]))))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
            digits = "".join(reversed(labels[:32]))
            return str(ipaddress.IPv6Address(int(digits, 16))) if len(digits) == 32 else ""
    except ValueError:
        pass
    return ""


def _packed(reply: DNSRecord, query: DNSRecord, tcp: bool) -> bytes:
    reply.header.rcode = RCODE.NOERROR
    options = [each for each in query.ar if each.rtype == _OPT]
    room = PLAIN
    if options:
        room = max(PLAIN, min(int(options[0].rclass), MOST))
        reply.add_ar(EDNS0(udp_len=MOST))
    packed = bytes(reply.pack())
    if tcp or len(packed) <= room:
        return packed
    return bytes(reply.truncate().pack())  # who wants all of it asks again by TCP
