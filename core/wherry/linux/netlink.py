"""Talking to the kernel by netlink(7): requests with acknowledgement, dumps, and the coding of attributes.

A `Netlink` speaks to the network namespace it was opened in, for as long as it is open, whatever its thread does later.
It is not for two threads at once. What the messages mean is left to `links` and to other callers.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final

ROUTE: Final = 0  # linux/netlink.h
NETFILTER: Final = 12

REQUEST: Final = 0x1
ACK: Final = 0x4
EXCL: Final = 0x200
CREATE: Final = 0x400
REPLACE: Final = 0x100
APPEND: Final = 0x800
DUMP: Final = 0x300

NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR, _DONE, _OVERRUN = 2, 3, 4
_BATCH_BEGIN, _BATCH_END = 16, 17  # linux/netfilter/nfnetlink.h
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_CAPPED, _HAS_TLVS = 0x100, 0x200


class Netlink:
    """A netlink socket. `with Netlink() as nl:`; a request not answered in `timeout` seconds raises TimeoutError."""

    def __init__(self, protocol: int = ROUTE, *, timeout: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(timeout)
        self._sequence = 0
        for option in (_CAP_ACK, _EXT_ACK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def request(self, kind: int, body: bytes, flags: int = 0) -> None:
        """Ask for a change and wait until it is done. OSError with the kernel's own words where it gives some."""
        self._send(kind, body, flags | ACK)
        for _ in self._answers():
            pass

    def get(self, kind: int, body: bytes) -> bytes | None:
        """Ask for one object: the body of the answer, None if there was none."""
        self._send(kind, body, ACK)
        found = [payload for _, payload in self._answers()]
        return found[0] if found else None

    def batch(self, subsystem: int, messages: Sequence[tuple[int, int, bytes]]) -> None:
        """Do all of (type, flags, body), or none, as nfnetlink has it: the first that fails is raised."""
        mark = struct.pack("=BBH", socket.AF_UNSPEC, 0, socket.htons(subsystem))
        first = self._sequence + 1
        packed = []
        for kind, flags, body in ((_BATCH_BEGIN, 0, mark), *messages, (_BATCH_END, 0, mark)):
            self._sequence += 1
            wanted = flags | REQUEST | (ACK if kind not in (_BATCH_BEGIN, _BATCH_END) else 0)
            message = _HEADER.pack(_HEADER.size + len(body), kind, wanted, self._sequence, 0) + body
            packed.append(message + bytes(-len(message) & 3))
        self._socket.send(b"".join(packed))
        missing = set(range(first + 1, first + 1 + len(messages)))
        while missing:
            data = self._socket.recv(1 << 17)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                if kind == _ERROR and first <= sequence <= self._sequence:
                    _raise_if_failed(data[at + _HEADER.size : at + length], flags)
                    missing.discard(sequence)
                at += max((length + 3) & ~3, _HEADER.size)

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Ask for all objects: the bodies of the answers."""
        while True:
            self._send(kind, body, DUMP)
            try:
                return [payload for _, payload in self._answers()]
            except InterruptedError:  # the list changed while it was read
                continue

    def _send(self, kind: int, body: bytes, flags: int) -> None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags | REQUEST, self._sequence, 0)
        self._socket.send(header + body)

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        """(type, body) of each answer to the last request, until its acknowledgement or end of dump."""
        interrupted = False
        while True:
            data = self._socket.recv(1 << 17)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
                body = data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(flags & 0x10)
                if kind == _ERROR:
                    _raise_if_failed(body, flags)
                    return
                if kind == _DONE:
                    if len(body) >= 4:
                        _raise_if_failed(body, flags & ~_CAPPED)
                    if interrupted:
                        raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
                    return
                if kind == _OVERRUN:
                    raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
                yield kind, body


def _raise_if_failed(body: bytes, flags: int) -> None:
    number = -struct.unpack_from("=i", body)[0]
    if number <= 0:
        return
    text = os.strerror(number)
    if flags & _HAS_TLVS and flags & _CAPPED:  # the request itself is echoed without its body
        said = attributes(body[4 + _HEADER.size :]).get(1)
        if said:
            text = f"{text}: {said.rstrip(bytes(1)).decode(errors='replace')}"
    raise OSError(number, text)


def attribute(kind: int, *payload: bytes) -> bytes:
    """One attribute, padded: rtnetlink(7). Several payloads are joined: attributes nest."""
    value = b"".join(payload)
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length & 3)


def number(kind: int, value: int) -> bytes:
    """An attribute that holds a 32 bit number in the machine's byte order."""
    return attribute(kind, struct.pack("=I", value))


def byte(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=B", value))


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a name, with its final zero."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes) -> dict[int, bytes]:
    """Attribute type → value, of a message's tail; where a type comes twice the last is kept."""
    return dict(each_attribute(data))


def each_attribute(data: bytes) -> Iterable[tuple[int, bytes]]:
    """Every attribute of a message's tail in its order."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
