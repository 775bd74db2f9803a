"""What the firewall is to do, in the words of networks: the model that both writers write.

    Zone          a network: its interface, its range, who may talk to whom
    Publication   one published port: what comes for it on the host goes to a container

The rules that follow from them, whatever the writer (`ours` are the interfaces of all zones):

    raw      what comes for 127.0.0.0/8 from outside the host is dropped: published on 127.0.0.1 is for the host only
             what claims to come from 127.0.0.0/8 and comes from ours, is dropped
             what comes from elsewhere for an address of a masqueraded zone (but its gateway), is dropped
    nat      what comes for a published port of the host goes to its container, from the host itself too
             what leaves a masqueraded zone gets the host's address
             what goes to a container from 127.0.0.1, or from a container of the same zone by way of a published port,
             gets the gateway's address, so that the answer comes back this way
    forward  answers pass; what was sent to a published port passes; inside a zone all passes if its icc is on;
             out of ours into ours, into ours from elsewhere, and in and out of an internal zone: nothing passes

What the rest of the host forwards is left to the rest of the host.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

PROTOCOL_NUMBERS: Final = {"tcp": 6, "udp": 17, "sctp": 132}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Zone:
    """A network with a range of its own behind an interface of the host. `subnet` in CIDR form."""

    interface: str
    subnet: str
    gateway: str
    masquerade: bool = True
    icc: bool = True
    internal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Publication:
    """`host_address` (empty: every address of the host) and `host_port` stand for a container's address and port."""

    protocol: str
    host_address: str
    host_port: int
    address: str
    container_port: int


@dataclass(slots=True)
class Rules:
    """All that is wanted at the moment."""

    zones: set[Zone] = field(default_factory=set)
    publications: set[Publication] = field(default_factory=set)


class Writer(Protocol):
    """Where rules are written. Each method is one transaction: whole, or FirewallError and nothing happened."""

    name: str

    def write(self, rules: Rules) -> None:
        """Replace everything of ours by these rules."""

    def add(self, publications: Iterable[Publication]) -> None:
        """Publish more."""

    def remove(self, publications: Iterable[Publication]) -> None:
        """Publish less."""

    def holds(self, rules: Rules) -> bool:
        """Whether the kernel has what `write(rules)` would write."""

    def clear(self) -> None:
        """Leave no rule of ours; none is success."""

    def owned(self) -> list[str]:
        """Names of the tables or chains that are ours."""

    def close(self) -> None:
        """Give back what the writer holds; the rules stay."""


class FirewallError(Exception):
    """The kernel, or its library, refused rules; `str` is what it said."""
