"""What the firewall is to do, in the words of networks: the model that both writers write.

    Zone          a range of a network: its interface, who may talk to whom
    Publication   one published port: what comes for it on the host goes to a container
    Passage       one port of a container that another one may reach although the containers of their zone may not

The rules that follow from them, whatever the writer, for each IP version on its own (`ours` are the interfaces of all
zones):

    raw      what comes for the loopback addresses from outside the host is dropped: published on 127.0.0.1 is for the
             host only
             what claims to come from them and comes from ours, is dropped
             what comes from elsewhere for an address of a masqueraded zone (but its gateway), is dropped
    nat      what comes for a published port of the host goes to its container, from the host itself too
             what leaves a masqueraded zone gets the host's address
             what goes to a container from 127.0.0.1, or from a container of the same zone by way of a published port,
             gets the gateway's address, so that the answer comes back this way
    forward  the administrator's own rules come first, in a chain that is never rewritten
             answers pass; in and out of an internal zone nothing does, nor by an IP version that a network has not
             what was sent to a published port passes, and so do passages; inside a zone all passes if its icc is on
             out of ours into ours, into ours from elsewhere: nothing passes

What the rest of the host forwards is left to the rest of the host.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

PROTOCOL_NUMBERS: Final = {"tcp": 6, "udp": 17, "sctp": 132}

Version = Literal[4, 6]
VERSIONS: Final[tuple[Version, Version]] = (4, 6)


def version_of(address: str) -> Version:
    """The IP version of an address or a range."""
    return 6 if ":" in address else 4


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
    """`host_address` (empty: every address of the host) and `host_port` stand for a container's address and port.

    Of the IP version that `address` is of.
    """

    protocol: str
    host_address: str
    host_port: int
    address: str
    container_port: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Passage:
    """Packets from `source` may reach this port of `address`, behind `interface`. Their answers pass anyway."""

    interface: str
    source: str
    address: str
    protocol: str
    port: int


Grant = Publication | Passage


@dataclass(slots=True)
class Rules:
    """All that is wanted at the moment."""

    zones: set[Zone] = field(default_factory=set)
    publications: set[Publication] = field(default_factory=set)
    passages: set[Passage] = field(default_factory=set)

    def of(self, version: Version) -> Rules:
        """What concerns one IP version."""
        return Rules(
            {zone for zone in self.zones if version_of(zone.subnet) == version},
            {each for each in self.publications if version_of(each.address) == version},
            {each for each in self.passages if version_of(each.address) == version},
        )

    def fenced(self, version: Version) -> list[str]:
        """Interfaces by which packets of this version have no business: their network has no range of it."""
        ours = {zone.interface for zone in self.zones}
        return sorted(ours - {zone.interface for zone in self.of(version).zones})

    def concern(self, version: Version) -> bool:
        """Whether there is anything to write for this version. Fences alone are worth it where a wall is promised."""
        walled = any(zone.internal or not zone.icc for zone in self.zones)
        return version == 4 or walled or bool(self.of(version).zones)

    def include(self, grants: Iterable[Grant]) -> None:
        for grant in grants:
            if isinstance(grant, Publication):
                self.publications.add(grant)
            else:
                self.passages.add(grant)

    def exclude(self, grants: Iterable[Grant]) -> None:
        """Not there is success."""
        for grant in grants:
            if isinstance(grant, Publication):
                self.publications.discard(grant)
            else:
                self.passages.discard(grant)

    def __contains__(self, grant: Grant) -> bool:
        return grant in (self.publications if isinstance(grant, Publication) else self.passages)


class Writer(Protocol):
    """Where rules are written. Each method is one transaction: whole, or FirewallError and nothing happened."""

    name: str

    def write(self, rules: Rules) -> None:
        """Replace everything of ours by these rules."""

    def add(self, grants: Iterable[Grant]) -> None:
        """Let more pass."""

    def remove(self, grants: Iterable[Grant]) -> None:
        """Let less pass."""

    def holds(self, rules: Rules) -> bool:
        """Whether the kernel has what `write(rules)` would write."""

    def clear(self) -> None:
        """Leave no rule of ours; none is success. The administrator's chain goes if it is empty and nobody needs it."""

    def owned(self) -> list[str]:
        """Names of the tables or chains that are ours."""

    def close(self) -> None:
        """Give back what the writer holds; the rules stay."""


class FirewallError(Exception):
    """The kernel, or its library, refused rules; `str` is what it said."""
