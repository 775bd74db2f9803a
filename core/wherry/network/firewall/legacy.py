"""The rules as legacy iptables, for hosts whose other rules are: chains of our own, each reached by one jump.

    raw     PREROUTING ─▶ WHERRY-<id>
    nat     PREROUTING, OUTPUT ─▶ WHERRY-<id>-DNAT      POSTROUTING ─▶ WHERRY-<id>-SNAT
    filter  FORWARD ─▶ WHERRY-<id>

Written through python-iptables, one commit per table (10 ms). Rules of others stay as they are. Unlike in nft an
accept here is final, and only for traffic of our interfaces.
"""

from __future__ import annotations

import ctypes.util
import fcntl
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from wherry.linux import xtables
from wherry.network.firewall.model import FirewallError, Publication, Rules

_LOOPBACK: Final = "127.0.0.0/8"
_LIBRARIES: Final = {
    "c": "libc.so.6",
    "ip4tc": "libip4tc.so.2",
    "ip6tc": "libip6tc.so.2",
    "xtables": "libxtables.so.12",
}

Rule = Mapping[str, Any]
Chains = Mapping[str, list[Rule]]


class LegacyWriter:
    """Writes by python-iptables. ImportError or OSError when it, or a library of iptables, is missing."""

    name = "iptables"

    def __init__(self, engine_id: str) -> None:
        self._iptc = _python_iptables()
        self._rule_class = _rule_class(self._iptc)
        self._chain = f"WHERRY-{engine_id}"
        self._lock = threading.Lock()

    def write(self, rules: Rules) -> None:
        with self._lock:
            for table, chains in self._wanted(rules).items():
                self._replace(table, chains, self._jumps(table))

    def add(self, publications: Iterable[Publication]) -> None:
        with self._lock, _Commit(self._iptc, "nat") as table:
            chain = self._iptc.Chain(table, f"{self._chain}-DNAT")
            for publication in publications:
                rule = self._rule(_dnat(publication), table)
                if publication.host_address:
                    chain.insert_rule(rule)  # before those that match every address
                else:
                    chain.append_rule(rule)

    def remove(self, publications: Iterable[Publication]) -> None:
        with self._lock, _Commit(self._iptc, "nat") as table:
            chain = self._iptc.Chain(table, f"{self._chain}-DNAT")
            for publication in publications:
                chain.delete_rule(self._rule(_dnat(publication), table))

    def holds(self, rules: Rules) -> bool:
        with self._lock:
            for name, chains in self._wanted(rules).items():
                if name not in xtables.tables():
                    return False
                with _Commit(self._iptc, name, write=False) as table:
                    for chain, wanted in chains.items():
                        if not table.is_chain(chain):
                            return False
                        found = [self._plain(rule) for rule in self._iptc.Chain(table, chain).rules]
                        if sorted(found) != sorted(self._plain(self._rule(rule, table)) for rule in wanted):
                            return False
                    for parent, jump in self._jumps(name).items():
                        there = {self._plain(rule) for rule in self._iptc.Chain(table, parent).rules}
                        if self._plain(self._rule(jump, table)) not in there:
                            return False
        return True

    def clear(self) -> None:
        with self._lock:
            for name in ("raw", "nat", "filter"):
                if name in xtables.tables():
                    self._replace(name, {}, {})

    def owned(self) -> list[str]:
        found = []
        with self._lock:
            for name in ("raw", "nat", "filter"):
                if name in xtables.tables():
                    with _Commit(self._iptc, name, write=False) as table:
                        found += [f"iptables {name} {chain.name}" for chain in self._ours(table)]
        return sorted(found)

    def close(self) -> None:
        pass

    # ---- Writing

    def _replace(self, name: str, chains: Chains, jumps: Mapping[str, Rule]) -> None:
        """Give a table these chains and jumps of ours, and no others: one commit."""
        with _Commit(self._iptc, name) as table:
            ours = {chain.name for chain in self._ours(table)}
            for chain in table.chains:
                if table.builtin_chain(chain.name):
                    for rule in chain.rules:
                        if rule.target is not None and rule.target.name in ours:
                            chain.delete_rule(rule)
            for old in ours:
                table.flush_entries(old)
            for old in ours - chains.keys():
                table.delete_chain(old)
            for chain_name, rules in chains.items():
                if chain_name not in ours:
                    table.create_chain(chain_name)
                chain = self._iptc.Chain(table, chain_name)
                for rule in rules:
                    chain.append_rule(self._rule(rule, table))
            for parent, jump in jumps.items():
                self._iptc.Chain(table, parent).insert_rule(self._rule(jump, table))

    def _ours(self, table: Any) -> list[Any]:
        return [chain for chain in table.chains if chain.name.startswith(self._chain)]

    def _rule(self, rule: Rule, table: Any) -> Any:
        """A rule as python-iptables has it. (Its own `encode_iptc_rule` leaves out what it does not understand.)"""
        made = self._rule_class()
        made.table = table
        for name in ("protocol", "src", "dst", "in_interface", "out_interface"):
            if name in rule:
                setattr(made, name, rule[name])
        for name, parameters in rule.get("matches", {}).items():
            match = made.create_match(name)
            for key, value in parameters.items():
                match.set_parameter(key, value)
        target = made.create_target(rule["target"])
        for key, value in rule.get("to", {}).items():
            target.set_parameter(key, value)
        return made

    def _plain(self, rule: Any) -> str:
        """A rule in words that can be compared: the library's own comparison takes ACCEPT for DROP."""
        words = self._iptc.easy.decode_iptc_rule(rule)
        words.pop("counters", None)
        return repr(sorted(words.items(), key=str))

    def _jumps(self, table: str) -> Mapping[str, Rule]:
        to_dnat = {"matches": {"addrtype": {"dst-type": "LOCAL"}}, "target": f"{self._chain}-DNAT"}
        every: dict[str, dict[str, Rule]] = {
            "raw": {"PREROUTING": {"target": self._chain}},
            "nat": {
                "PREROUTING": {"dst": f"!{_LOOPBACK}", **to_dnat},
                "OUTPUT": to_dnat,
                "POSTROUTING": {"target": f"{self._chain}-SNAT"},
            },
            "filter": {"FORWARD": {"target": self._chain}},
        }
        return every[table]

    def _wanted(self, rules: Rules) -> dict[str, dict[str, list[Rule]]]:
        publications = sorted(rules.publications, key=lambda p: (not p.host_address, p))
        return {
            "raw": {self._chain: _raw(rules)},
            "nat": {
                f"{self._chain}-DNAT": [_dnat(publication) for publication in publications],
                f"{self._chain}-SNAT": _snat(rules),
            },
            "filter": {self._chain: _forward(rules)},
        }


def _raw(rules: Rules) -> list[Rule]:
    made: list[Rule] = [{"in_interface": "!lo", "dst": _LOOPBACK, "target": "DROP"}]
    for zone in sorted(rules.zones):
        made.append({"in_interface": zone.interface, "src": _LOOPBACK, "target": "DROP"})
        if zone.masquerade and not zone.internal:
            made.append({"dst": f"{zone.gateway}/32", "target": "RETURN"})
            made.append({"in_interface": f"!{zone.interface}", "dst": zone.subnet, "target": "DROP"})
    return made


def _dnat(publication: Publication) -> Rule:
    rule: dict[str, Any] = {
        "protocol": publication.protocol,
        "matches": {publication.protocol: {"dport": str(publication.host_port)}},
        "target": "DNAT",
        "to": {"to-destination": f"{publication.address}:{publication.container_port}"},
    }
    if publication.host_address:
        rule["dst"] = f"{publication.host_address}/32"
    return rule


def _snat(rules: Rules) -> list[Rule]:
    made: list[Rule] = []
    for zone in sorted(rules.zones):
        here = {"out_interface": zone.interface}
        made.append({"src": _LOOPBACK, **here, "target": "MASQUERADE"})
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


def _forward(rules: Rules) -> list[Rule]:
    zones = sorted(rules.zones)
    answers = {"matches": {"conntrack": {"ctstate": "RELATED,ESTABLISHED"}}, "target": "ACCEPT"}
    made: list[Rule] = []
    for zone in zones:
        made += [{"out_interface": zone.interface, **answers}, {"in_interface": zone.interface, **answers}]
    for zone in zones:
        if zone.internal:
            inside, outside = zone.interface, f"!{zone.interface}"
            made.append({"in_interface": inside, "out_interface": outside, "target": "DROP"})
            made.append({"in_interface": outside, "out_interface": inside, "target": "DROP"})
    for zone in zones:
        made.append(
            {
                "out_interface": zone.interface,
                "matches": {"conntrack": {"ctstate": "DNAT"}},
                "target": "ACCEPT",
            }
        )
    for zone in zones:
        within = {"in_interface": zone.interface, "out_interface": zone.interface}
        made.append({**within, "target": "ACCEPT" if zone.icc else "DROP"})
    for zone in zones:
        made.append({"out_interface": zone.interface, "target": "DROP"})
    for zone in zones:
        made.append({"in_interface": zone.interface, "target": "ACCEPT"})
    return made


def _rule_class(iptc: Any) -> Any:
    """A rule that knows its table. The library's looks for chains in every table, and so makes tables in the kernel."""

    class Rule(iptc.Rule):  # type: ignore[misc]  # the library has no types
        table: Any = None

        @property
        def tables(self) -> list[Any]:
            return [self.table]

    return Rule


class _Commit:
    """One table, read now; what was changed is committed at the end of the `with`, or nothing of it on an error.

    Holds the lock of the iptables programs meanwhile: the library does not, and would overwrite what they write.
    """

    def __init__(self, iptc: Any, name: str, *, write: bool = True) -> None:
        self._iptc, self._name, self._write = iptc, name, write
        self._errors = (iptc.IPTCError, iptc.XTablesError)

    def __enter__(self) -> Any:
        self._lock = _lock() if self._write else None
        try:
            self._table = self._iptc.Table(self._name)
            self._table.autocommit = False
            self._table.refresh()
        except self._errors as error:
            self._unlock()
            raise FirewallError(f"iptables table {self._name}: {error}") from error
        return self._table

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None and self._write:
                self._table.commit()
        except self._errors as failure:
            raise FirewallError(f"iptables table {self._name}: {failure}") from failure
        finally:
            self._unlock()
        if isinstance(error, self._errors):
            raise FirewallError(f"iptables table {self._name}: {error}") from error

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)


def _lock(timeout: float = 10.0) -> int:
    deadline = time.monotonic() + timeout
    descriptor = os.open("/run/xtables.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise FirewallError(f"another program holds the iptables lock for {timeout:.0f} s") from None
            time.sleep(0.005)


def holds_rules() -> bool:
    """Whether anybody has rules in legacy tables here."""
    return any(xtables.entries(table) for table in xtables.tables())


_importing = threading.Lock()


def _python_iptables() -> Any:
    """The module `iptc`. Left alone its import looks for libraries by running ldconfig, gcc and ld, for 240 ms."""
    with _importing:
        find = ctypes.util.find_library

        def by_name(name: str) -> str | None:
            return _LIBRARIES.get(name) if name in _LIBRARIES or name == "iptc" else None

        if "XTABLES_LIBDIR" not in os.environ:
            found = next(iter(sorted(Path("/usr/lib").glob("*/xtables"))), None)
            if found is not None:
                os.environ["XTABLES_LIBDIR"] = str(found)
        ctypes.util.find_library = by_name
        try:
            import iptc
            import iptc.easy
        finally:
            ctypes.util.find_library = find
    return iptc
