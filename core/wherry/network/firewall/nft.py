"""The rules as one nft table, ports as elements of maps: a publication more or less is one element.

One table per engine, `wherry-<engine id>`. A drop in any chain of any table is final, an accept ends only the own
chain: so nothing here opens what others closed, and others cannot open what is closed here. On a host whose own rules
forward nothing (a policy of drop in another table) containers reach nobody until those rules let the bridges through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from wherry.linux.nftables import Nft, NftError
from wherry.network.firewall.model import PROTOCOL_NUMBERS, FirewallError, Publication, Rules

_CHAINS: Final = ("raw-prerouting", "nat-prerouting", "nat-output", "nat-postrouting", "forward")


class NftWriter:
    """Writes by libnftables. OSError when the library is missing."""

    name = "nftables"

    def __init__(self, engine_id: str) -> None:
        self._table = f"wherry-{engine_id}"
        self._nft = Nft()

    def write(self, rules: Rules) -> None:
        table = f"table ip {self._table}"
        # Made first, so that the deletion always finds one; all of it is one transaction.
        self._run(f"{table}\ndelete {table}\n{table} {{\n{_body(rules)}\n}}\n")

    def add(self, publications: Iterable[Publication]) -> None:
        self._run(self._elements("add", publications))

    def remove(self, publications: Iterable[Publication]) -> None:
        self._run(self._elements("delete", publications))

    def holds(self, rules: Rules) -> bool:
        try:
            listing = self._nft.run(f"list table ip {self._table}")
        except NftError:
            return False
        return _digest(listing) == _expected(rules)

    def clear(self) -> None:
        self._run(f"table ip {self._table}\ndelete table ip {self._table}\n")

    def owned(self) -> list[str]:
        found = re.findall(r"^table (\S+) (\S+)", self._run("list tables"), re.MULTILINE)
        return sorted(f"nft {family} {name}" for family, name in found if name == self._table)

    def close(self) -> None:
        self._nft.close()

    def _run(self, commands: str) -> str:
        try:
            return self._nft.run(commands) if commands else ""
        except NftError as error:
            raise FirewallError(f"nft: {error}") from error

    def _elements(self, verb: str, publications: Iterable[Publication]) -> str:
        anywhere: list[str] = []
        bound: list[str] = []
        for publication in publications:
            (bound if publication.host_address else anywhere).append(_element(publication))
        return "".join(
            f"{verb} element ip {self._table} {name} {{ {', '.join(elements)} }}\n"
            for name, elements in (("anywhere", anywhere), ("bound", bound))
            if elements
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


def _element(publication: Publication) -> str:
    key = f"{PROTOCOL_NUMBERS[publication.protocol]} . {publication.host_port}"
    if publication.host_address:
        key = f"{publication.host_address} . {key}"
    return f"{key} : {publication.address} . {publication.container_port}"


def _body(rules: Rules) -> str:
    zones = sorted(rules.zones)
    ours = _set("ours", "ifname", sorted({f'"{zone.interface}"' for zone in zones}))
    anywhere = [_element(p) for p in sorted(rules.publications) if not p.host_address]
    bound = [_element(p) for p in sorted(rules.publications) if p.host_address]
    parts = [
        ours,
        _map("anywhere", "inet_proto . inet_service", anywhere),
        _map("bound", "ipv4_addr . inet_proto . inet_service", bound),
    ]
    guarded = [
        f'ip daddr {zone.subnet} ip daddr != {zone.gateway} iifname != {{ "lo", "{zone.interface}" }} drop'
        for zone in zones
        if zone.masquerade and not zone.internal
    ]
    published = (
        "dnat ip to ip daddr . meta l4proto . th dport map @bound",
        "fib daddr type local dnat ip to meta l4proto . th dport map @anywhere",
    )
    source = ["oifname @ours ip saddr 127.0.0.0/8 masquerade"]
    for zone in zones:
        if zone.masquerade and not zone.internal:
            source.append(f'ip saddr {zone.subnet} oifname != "{zone.interface}" masquerade')
        # By its interface the zone hears itself only through a published port.
        source.append(f'ip saddr {zone.subnet} oifname "{zone.interface}" ct status dnat masquerade')
    forward = [
        "ct state established,related accept",
        *(
            f'{way}ifname "{zone.interface}" {other}ifname != "{zone.interface}" drop'
            for zone in zones
            if zone.internal
            for way, other in ("io", "oi")
        ),
        "ct status dnat oifname @ours accept",
        *(
            f'iifname "{zone.interface}" oifname "{zone.interface}" {"accept" if zone.icc else "drop"}'
            for zone in zones
        ),
        "oifname @ours drop",
    ]
    chains = {
        "raw-prerouting": (
            "filter hook prerouting priority raw",
            [
                'iifname != "lo" ip daddr 127.0.0.0/8 drop',
                "iifname @ours ip saddr 127.0.0.0/8 drop",
                *guarded,
            ],
        ),
        "nat-prerouting": (
            "nat hook prerouting priority dstnat",
            ["ip daddr 127.0.0.0/8 return", *published],
        ),
        "nat-output": ("nat hook output priority -100", published),
        "nat-postrouting": ("nat hook postrouting priority srcnat", source),
        "forward": ("filter hook forward priority filter", forward),
    }
    for name in _CHAINS:
        hook, lines = chains[name]
        text = "\n".join(f"\t\t{line}" for line in lines)
        parts.append(f"\tchain {name} {{\n\t\ttype {hook}; policy accept;\n{text}\n\t}}")
    return "\n".join(parts)


def _set(name: str, kind: str, elements: list[str]) -> str:
    return f"\tset {name} {{\n\t\ttype {kind}\n{_list(elements)}\t}}"


def _map(name: str, kind: str, elements: list[str]) -> str:
    return f"\tmap {name} {{\n\t\ttype {kind} : ipv4_addr . inet_service\n{_list(elements)}\t}}"


def _list(elements: list[str]) -> str:
    return f"\t\telements = {{ {', '.join(elements)} }}\n" if elements else ""


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


def _expected(rules: Rules) -> tuple[dict[str, int], frozenset[str]]:
    return _digest(_body(rules))


_NAMED: Final = {"6": "tcp", "17": "udp", "132": "sctp"}


def _plain(element: str) -> str:
    """An element as nft lists it, protocols by name."""
    key, _, value = element.partition(" : ")
    words = [word.strip() for word in key.split(" . ")]
    if value and len(words) >= 2:
        words[-2] = _NAMED.get(words[-2], words[-2])
    return " . ".join(words) + (f" : {value.strip()}" if value else "")
