"""The rules as one nft table for each IP version, ports as elements of maps: a publication more or less is one element.

    table ip, ip6 wherry-<engine id>    ours, written as a whole
    table inet wherry-user              chain `forward`: the administrator's, seen before ours, never rewritten

A drop in any chain of any table is final, an accept ends only the own chain: so nothing here opens what others closed,
and others cannot open what is closed here. On a host whose own rules forward nothing (a policy of drop in another
table) containers reach nobody until those rules let the bridges through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wherry.linux.nftables import Nft, NftError
from wherry.network.firewall.model import (
    PROTOCOL_NUMBERS,
    VERSIONS,
    FirewallError,
    Grant,
    Publication,
    Rules,
    Version,
    version_of,
)

_CHAINS: Final = ("raw-prerouting", "nat-prerouting", "nat-output", "nat-postrouting", "forward")
USER: Final = "wherry-user"
_USER_CHAIN: Final = "type filter hook forward priority -10; policy accept;"
_USER_TABLE: Final = f"table inet {USER} {{\n\tchain forward {{\n\t\t{_USER_CHAIN}\n\t}}\n}}\n"


@dataclass(frozen=True, slots=True)
class _Words:
    """nft's words for an IP version."""

    family: str
    kind: str
    loopback: str


_WORDS: Final[dict[Version, _Words]] = {
    4: _Words("ip", "ipv4_addr", "127.0.0.0/8"),
    6: _Words("ip6", "ipv6_addr", "::1"),
}


class NftWriter:
    """Writes by libnftables. OSError when the library is missing."""

    name = "nftables"

    def __init__(self, engine_id: str) -> None:
        self._table = f"wherry-{engine_id}"
        self._nft = Nft()

    def write(self, rules: Rules) -> None:
        # Once: to declare it again would set back a policy that the administrator gave it.
        commands = "" if ("inet", USER) in self._tables() else _USER_TABLE
        for version in VERSIONS:
            table = f"table {_WORDS[version].family} {self._table}"
            if rules.concern(version):
                # Made first, so that the deletion always finds one; all of it is one transaction.
                commands += f"{table}\ndelete {table}\n{table} {{\n{_body(rules, version)}\n}}\n"
            elif self._has(version):
                commands += f"delete {table}\n"
        self._run(commands)

    def add(self, grants: Iterable[Grant]) -> None:
        self._run(self._elements("add", grants))

    def remove(self, grants: Iterable[Grant]) -> None:
        self._run(self._elements("delete", grants))

    def holds(self, rules: Rules) -> bool:
        for version in VERSIONS:
            try:
                listing = self._nft.run(f"list table {_WORDS[version].family} {self._table}")
            except NftError:
                if rules.concern(version):
                    return False
                continue
            if not rules.concern(version) or _digest(listing) != _digest(_body(rules, version)):
                return False
        return True

    def clear(self) -> None:
        tables = self._tables()
        ours = [f"{family} {name}" for family, name in tables if name == self._table]
        commands = "".join(f"delete table {table}\n" for table in ours)
        engines = {name for _, name in tables if name.startswith("wherry-")} - {self._table, USER}
        if ("inet", USER) in tables and not engines and self._is_empty(f"inet {USER}"):
            commands += f"delete table inet {USER}\n"
        self._run(commands)

    def owned(self) -> list[str]:
        return sorted(f"nft {family} {name}" for family, name in self._tables() if name == self._table)

    def close(self) -> None:
        self._nft.close()

    def _is_empty(self, table: str) -> bool:
        return "\t\t" not in _without_headers(self._run(f"list table {table}"))

    def _has(self, version: Version) -> bool:
        return (_WORDS[version].family, self._table) in self._tables()

    def _tables(self) -> list[tuple[str, str]]:
        return re.findall(r"^table (\S+) (\S+)", self._run("list tables"), re.MULTILINE)

    def _run(self, commands: str) -> str:
        try:
            return self._nft.run(commands) if commands else ""
        except NftError as error:
            raise FirewallError(f"nft: {error}") from error

    def _elements(self, verb: str, grants: Iterable[Grant]) -> str:
        found: dict[tuple[str, str], list[str]] = {}
        for grant in grants:
            family = _WORDS[version_of(grant.address)].family
            found.setdefault((family, _home(grant)), []).append(_element(grant))
        return "".join(
            f"{verb} element {family} {self._table} {name} {{ {', '.join(elements)} }}\n"
            for (family, name), elements in found.items()
        )


def usable() -> bool:
    """Whether this kernel and this machine's library can do nftables."""
    try:
        nft = Nft()
    except OSError:
        return False
    try:
        nft.run("list tables")
    except NftError:
        return False
    finally:
        nft.close()
    return True


def holds_rules() -> bool:
    """Whether anybody has nft rules with verdicts here, iptables-nft's included; engines' own tables do not count."""
    nft = Nft()
    try:
        tables = re.findall(r"^table (\S+) (\S+)", nft.run("list tables"), re.MULTILINE)
        foreign = [(family, name) for family, name in tables if not name.startswith("wherry-")]
        return any("\t\t" in _without_headers(nft.run(f"list table {f} {n}")) for f, n in foreign)
    except NftError:
        return True  # nft cannot read it, and somebody wrote it
    finally:
        nft.close()


def _without_headers(listing: str) -> str:
    return "\n".join(line for line in listing.splitlines() if "\ttype " not in line)


def _home(grant: Grant) -> str:
    """The set or map that a grant is an element of."""
    if not isinstance(grant, Publication):
        return "passages"
    return "bound" if grant.host_address else "anywhere"


def _element(grant: Grant) -> str:
    number = PROTOCOL_NUMBERS[grant.protocol]
    if not isinstance(grant, Publication):
        return f"{grant.source} . {grant.address} . {number} . {grant.port}"
    key = f"{number} . {grant.host_port}"
    if grant.host_address:
        key = f"{grant.host_address} . {key}"
    return f"{key} : {grant.address} . {grant.container_port}"


def _body(rules: Rules, version: Version) -> str:
    words, mine = _WORDS[version], rules.of(version)
    ours = sorted({zone.interface for zone in rules.zones})
    grants: dict[str, list[str]] = {"anywhere": [], "bound": [], "passages": []}
    ordered: list[Grant] = [*sorted(mine.publications), *sorted(mine.passages)]
    for grant in ordered:
        grants[_home(grant)].append(_element(grant))
    target = f"{words.kind} . inet_service"
    parts = [
        _set("set", "ours", "ifname", [f'"{name}"' for name in ours]),
        _set("map", "anywhere", f"inet_proto . inet_service : {target}", grants["anywhere"]),
        _set("map", "bound", f"{words.kind} . inet_proto . inet_service : {target}", grants["bound"]),
        _set(
            "set", "passages", f"{words.kind} . {words.kind} . inet_proto . inet_service", grants["passages"]
        ),
    ]
    published = (
        f"dnat {words.family} to {words.family} daddr . meta l4proto . th dport map @bound",
        f"fib daddr type local dnat {words.family} to meta l4proto . th dport map @anywhere",
    )
    loopback = f"{words.family} daddr {words.loopback}"
    chains = {
        "raw-prerouting": ("filter hook prerouting priority raw", _raw(mine, words)),
        "nat-prerouting": ("nat hook prerouting priority dstnat", [f"{loopback} return", *published]),
        # What is for ::1 has no way to a container: the keeper takes it.
        "nat-output": (
            "nat hook output priority -100",
            [f"{loopback} return", *published] if version == 6 else [*published],
        ),
        "nat-postrouting": ("nat hook postrouting priority srcnat", _source(mine, words, version)),
        "forward": ("filter hook forward priority filter", _forward(rules, words, version)),
    }
    for name in _CHAINS:
        hook, lines = chains[name]
        text = "\n".join(f"\t\t{line}" for line in lines)
        parts.append(f"\tchain {name} {{\n\t\ttype {hook}; policy accept;\n{text}\n\t}}")
    return "\n".join(parts)


def _raw(mine: Rules, words: _Words) -> list[str]:
    family = words.family
    guarded = [
        f'{family} daddr {zone.subnet} {family} daddr != {zone.gateway} iifname != {{ "lo", "{zone.interface}" }} drop'
        for zone in sorted(mine.zones)
        if zone.masquerade and not zone.internal
    ]
    return [
        f'iifname != "lo" {family} daddr {words.loopback} drop',
        f"iifname @ours {family} saddr {words.loopback} drop",
        *guarded,
    ]


def _source(mine: Rules, words: _Words, version: Version) -> list[str]:
    lines = [f"oifname @ours {words.family} saddr {words.loopback} masquerade"] if version == 4 else []
    for zone in sorted(mine.zones):
        here = f"{words.family} saddr {zone.subnet}"
        if zone.masquerade and not zone.internal:
            lines.append(f'{here} oifname != "{zone.interface}" masquerade')
        # By its interface the zone hears itself only through a published port.
        lines.append(f'{here} oifname "{zone.interface}" ct status dnat masquerade')
    return lines


def _forward(rules: Rules, words: _Words, version: Version) -> list[str]:
    interfaces = {zone.interface: zone for zone in sorted(rules.zones)}
    walled = [name for name, zone in interfaces.items() if zone.internal]
    walled += [name for name in rules.fenced(version) if name not in walled]
    family = words.family
    return [
        "ct state established,related accept",
        *(
            f'{way}ifname "{name}" {other}ifname != "{name}" drop'
            for name in walled
            for way, other in ("io", "oi")
        ),
        "ct status dnat oifname @ours accept",
        f"{family} saddr . {family} daddr . meta l4proto . th dport @passages accept",
        *(
            f'iifname "{name}" oifname "{name}" {"accept" if zone.icc else "drop"}'
            for name, zone in interfaces.items()
        ),
        "oifname @ours drop",
    ]


def _set(what: str, name: str, kind: str, elements: list[str]) -> str:
    listed = f"\t\telements = {{ {', '.join(elements)} }}\n" if elements else ""
    return f"\t{what} {name} {{\n\t\ttype {kind}\n{listed}\t}}"


def _digest(listing: str) -> tuple[dict[str, int], frozenset[str]]:
    """What is compared of a table: rules per chain, and the elements of sets and maps."""
    chains: dict[str, int] = {}
    for name, body in re.findall(r"chain (\S+) \{\n(.*?)\n\t\}", listing, re.DOTALL):
        chains[name] = len(
            [line for line in body.splitlines() if "type " not in line.split(";")[0] or "fib" in line]
        )
    elements = set()
    for name, body in re.findall(r"(?:set|map) (\S+) \{\n.*?elements = \{(.*?)\}", listing, re.DOTALL):
        elements |= {f"{name} {_plain(element)}" for element in body.split(",") if element.strip()}
    return chains, frozenset(elements)


_NAMED: Final = {"6": "tcp", "17": "udp", "132": "sctp"}


def _plain(element: str) -> str:
    """An element as nft lists it, protocols by name."""
    key, _, value = element.partition(" : ")
    words = [word.strip() for word in key.split(" . ")]
    if len(words) >= 2:
        words[-2] = _NAMED.get(words[-2], words[-2])
    return " . ".join(words) + (f" : {value.strip()}" if value else "")
