"""The model as rules of legacy iptables, table by table and chain by chain. Pure: what they say, not how they get there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wherry.network.firewall.model import Grant, Passage, Publication, Rules, Version

Rule = Mapping[str, Any]
Chains = Mapping[str, list[Rule]]

USER: Final = "WHERRY-USER"
_LOOPBACK: Final[dict[Version, str]] = {4: "127.0.0.0/8", 6: "::1/128"}
_WHOLE: Final[dict[Version, int]] = {4: 32, 6: 128}


def chains(rules: Rules, version: Version, base: str) -> dict[str, Chains]:
    """Table → chain → its rules. `base` is what the names of our chains begin with."""
    mine = rules.of(version)
    publications = sorted(mine.publications, key=lambda p: (not p.host_address, p))
    return {
        "raw": {base: _raw(mine, version)},
        "nat": {
            f"{base}-DNAT": [granted(publication) for publication in publications],
            f"{base}-SNAT": _snat(mine, version),
        },
        "filter": {
            base: _forward(rules, version, base),
            f"{base}-LINK": [granted(passage) for passage in sorted(mine.passages)],
        },
    }


def home(grant: Grant, base: str) -> tuple[str, str]:
    """The table and the chain that a grant's rule is in."""
    return ("nat", f"{base}-DNAT") if isinstance(grant, Publication) else ("filter", f"{base}-LINK")


def granted(grant: Grant) -> Rule:
    """What lets a grant pass."""
    return _dnat(grant) if isinstance(grant, Publication) else _passage(grant)


def jumps(table: str, version: Version, base: str) -> Mapping[str, list[Rule]]:
    """Built-in chain → how it reaches ours, first things first."""
    local = {"matches": {"addrtype": {"dst-type": "LOCAL"}}, "target": f"{base}-DNAT"}
    outside = {"dst": f"!{_LOOPBACK[version]}", **local}
    every: dict[str, dict[str, list[Rule]]] = {
        "raw": {"PREROUTING": [{"target": base}]},
        "nat": {
            "PREROUTING": [outside],
            # What is for ::1 has no way to a container: the keeper takes it.
            "OUTPUT": [outside if version == 6 else local],
            "POSTROUTING": [{"target": f"{base}-SNAT"}],
        },
        "filter": {"FORWARD": [{"target": USER}, {"target": base}]},
    }
    return every[table]


def _raw(mine: Rules, version: Version) -> list[Rule]:
    loopback = _LOOPBACK[version]
    made: list[Rule] = [{"in_interface": "!lo", "dst": loopback, "target": "DROP"}]
    for zone in sorted(mine.zones):
        made.append({"in_interface": zone.interface, "src": loopback, "target": "DROP"})
        if zone.masquerade and not zone.internal:
            made.append({"dst": f"{zone.gateway}/{_WHOLE[version]}", "target": "RETURN"})
            made.append({"in_interface": f"!{zone.interface}", "dst": zone.subnet, "target": "DROP"})
    return made


def _dnat(publication: Publication) -> Rule:
    address = f"[{publication.address}]" if ":" in publication.address else publication.address
    rule: dict[str, Any] = {
        "protocol": publication.protocol,
        "matches": {publication.protocol: {"dport": str(publication.host_port)}},
        "target": "DNAT",
        "to": {"to-destination": f"{address}:{publication.container_port}"},
    }
    if publication.host_address:
        rule["dst"] = f"{publication.host_address}/{128 if ':' in publication.host_address else 32}"
    return rule


def _passage(passage: Passage) -> Rule:
    whole = 128 if ":" in passage.address else 32
    return {
        "in_interface": passage.interface,
        "out_interface": passage.interface,
        "src": f"{passage.source}/{whole}",
        "dst": f"{passage.address}/{whole}",
        "protocol": passage.protocol,
        "matches": {passage.protocol: {"dport": str(passage.port)}},
        "target": "ACCEPT",
    }


def _snat(mine: Rules, version: Version) -> list[Rule]:
    made: list[Rule] = []
    for zone in sorted(mine.zones):
        here = {"out_interface": zone.interface}
        if version == 4:
            made.append({"src": _LOOPBACK[version], **here, "target": "MASQUERADE"})
        if zone.masquerade and not zone.internal:
            made.append({"src": zone.subnet, "out_interface": f"!{zone.interface}", "target": "MASQUERADE"})
        made.append(
            {
                "src": zone.subnet,
                **here,
                "matches": {"conntrack": {"ctstate": "DNAT"}},
                "target": "MASQUERADE",
            }
        )
    return made


def _forward(rules: Rules, version: Version, base: str) -> list[Rule]:
    interfaces = {zone.interface: zone for zone in sorted(rules.zones)}
    answers = {"matches": {"conntrack": {"ctstate": "RELATED,ESTABLISHED"}}, "target": "ACCEPT"}
    made: list[Rule] = []
    for name in interfaces:
        made += [{"out_interface": name, **answers}, {"in_interface": name, **answers}]
    walled = [name for name, zone in interfaces.items() if zone.internal]
    walled += [name for name in rules.fenced(version) if name not in walled]
    for name in walled:
        made.append({"in_interface": name, "out_interface": f"!{name}", "target": "DROP"})
        made.append({"in_interface": f"!{name}", "out_interface": name, "target": "DROP"})
    for name in interfaces:
        sent = {"out_interface": name, "matches": {"conntrack": {"ctstate": "DNAT"}}, "target": "ACCEPT"}
        made.append(sent)
    made.append({"target": f"{base}-LINK"})
    for name, zone in interfaces.items():
        within = {"in_interface": name, "out_interface": name}
        made.append({**within, "target": "ACCEPT" if zone.icc else "DROP"})
    made += [{"out_interface": name, "target": "DROP"} for name in interfaces]
    made += [{"in_interface": name, "target": "ACCEPT"} for name in interfaces]
    return made
