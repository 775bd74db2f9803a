"""The rules as legacy iptables, for hosts whose other rules are: chains of our own, each reached by one jump.

    raw     PREROUTING ─▶ WHERRY-<id>
    nat     PREROUTING, OUTPUT ─▶ WHERRY-<id>-DNAT      POSTROUTING ─▶ WHERRY-<id>-SNAT
    filter  FORWARD ─▶ WHERRY-USER, then WHERRY-<id> ─▶ WHERRY-<id>-LINK

WHERRY-USER is the administrator's: made once, never rewritten. Written through python-iptables, one commit per table
(10 ms); the same for IPv6 by `ip6tables`. Rules of others stay as they are. Unlike in nft an accept here is final, and
only for traffic of our interfaces.
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
from wherry.network.firewall.ip6tables import Ip6tables
from wherry.network.firewall.legacy_rules import USER, Chains, Rule, chains, granted, home, jumps
from wherry.network.firewall.model import (
    VERSIONS,
    FirewallError,
    Grant,
    Publication,
    Rules,
    version_of,
)

_TABLES: Final = ("raw", "nat", "filter")
_LIBRARIES: Final = {
    "c": "libc.so.6",
    "ip4tc": "libip4tc.so.2",
    "ip6tc": "libip6tc.so.2",
    "xtables": "libxtables.so.12",
}


class LegacyWriter:
    """Writes by python-iptables. ImportError or OSError when it, or a library of iptables, is missing."""

    name = "iptables"

    def __init__(self, engine_id: str) -> None:
        self._iptc = _python_iptables()
        self._rule_class = _knowing(self._iptc.Rule)
        self._chain = f"WHERRY-{engine_id}"
        self._ipv6 = Ip6tables(self._chain)
        self._lock = threading.Lock()

    def write(self, rules: Rules) -> None:
        with self._lock:
            for name, wanted in chains(rules, 4, self._chain).items():
                self._replace(name, wanted, jumps(name, 4, self._chain))
            if rules.concern(6):
                self._ipv6.write(rules)
            else:
                self._ipv6.clear()

    def add(self, grants: Iterable[Grant]) -> None:
        mine, others = _split(grants)
        with self._lock:
            for (name, chain_name), each in self._sorted(mine).items():
                with _Commit(self._iptc, name) as table:
                    chain = self._iptc.Chain(table, chain_name)
                    for grant in each:
                        rule = self._rule(granted(grant), table)
                        if isinstance(grant, Publication) and grant.host_address:
                            chain.insert_rule(rule)  # before those that match every address
                        else:
                            chain.append_rule(rule)
            self._ipv6.add(others)

    def remove(self, grants: Iterable[Grant]) -> None:
        mine, others = _split(grants)
        with self._lock:
            for (name, chain_name), each in self._sorted(mine).items():
                with _Commit(self._iptc, name) as table:
                    chain = self._iptc.Chain(table, chain_name)
                    for grant in each:
                        chain.delete_rule(self._rule(granted(grant), table))
            self._ipv6.remove(others)

    def holds(self, rules: Rules) -> bool:
        with self._lock:
            if not self._holds(rules):
                return False
            return self._ipv6.holds(rules) if rules.concern(6) else not self._ipv6.owned()

    def clear(self) -> None:
        with self._lock:
            for name in _TABLES:
                if name in xtables.tables():
                    self._clear(name)
            self._ipv6.clear()

    def owned(self) -> list[str]:
        found = []
        with self._lock:
            for name in _TABLES:
                if name in xtables.tables():
                    with _Commit(self._iptc, name, write=False) as table:
                        found += [f"iptables {name} {chain.name}" for chain in self._ours(table)]
            found += self._ipv6.owned()
        return sorted(found)

    def close(self) -> None:
        pass

    # ---- Writing

    def _sorted(self, grants: Iterable[Grant]) -> dict[tuple[str, str], list[Grant]]:
        found: dict[tuple[str, str], list[Grant]] = {}
        for grant in grants:
            found.setdefault(home(grant, self._chain), []).append(grant)
        return found

    def _replace(self, name: str, wanted: Chains, reached: Mapping[str, list[Rule]]) -> None:
        """Give a table these chains and jumps of ours, and no others: one commit."""
        with _Commit(self._iptc, name) as table:
            ours = {chain.name for chain in self._ours(table)}
            users = {USER} if table.is_chain(USER) else set[str]()
            for chain in table.chains:
                if table.builtin_chain(chain.name):
                    for rule in chain.rules:
                        if rule.target is not None and rule.target.name in ours:
                            chain.delete_rule(rule)
            for old in ours:
                table.flush_entries(old)
            for old in ours - wanted.keys():
                table.delete_chain(old)
            for chain_name in wanted.keys() - ours:
                table.create_chain(chain_name)
            for chain_name, rules in wanted.items():
                chain = self._iptc.Chain(table, chain_name)
                for rule in rules:
                    chain.append_rule(self._rule(rule, table))
            for parent, rules in reached.items():
                for rule in reversed(rules):
                    if rule["target"] == USER:
                        if not users:
                            table.create_chain(USER)
                        if self._is_reached(table, parent, USER):
                            self._unreach(table, parent, USER)
                    self._iptc.Chain(table, parent).insert_rule(self._rule(rule, table))

    def _clear(self, name: str) -> None:
        self._replace(name, {}, {})
        with _Commit(self._iptc, name) as table:
            if table.is_chain(USER) and not self._iptc.Chain(table, USER).rules:
                engines = {chain.name for chain in table.chains if chain.name.startswith("WHERRY-")}
                if engines == {USER}:
                    self._unreach(table, "FORWARD", USER)
                    table.delete_chain(USER)

    def _holds(self, rules: Rules) -> bool:
        for name, wanted in chains(rules, 4, self._chain).items():
            if name not in xtables.tables():
                return False
            with _Commit(self._iptc, name, write=False) as table:
                for chain, expected in wanted.items():
                    if not table.is_chain(chain):
                        return False
                    found = [self._plain(rule) for rule in self._iptc.Chain(table, chain).rules]
                    if sorted(found) != sorted(self._plain(self._rule(rule, table)) for rule in expected):
                        return False
                for parent, reached in jumps(name, 4, self._chain).items():
                    there = {self._plain(rule) for rule in self._iptc.Chain(table, parent).rules}
                    if any(self._plain(self._rule(jump, table)) not in there for jump in reached):
                        return False
        return True

    def _ours(self, table: Any) -> list[Any]:
        return [chain for chain in table.chains if chain.name.startswith(self._chain)]

    def _is_reached(self, table: Any, parent: str, chain: str) -> bool:
        rules = self._iptc.Chain(table, parent).rules
        return any(rule.target is not None and rule.target.name == chain for rule in rules)

    def _unreach(self, table: Any, parent: str, target: str) -> None:
        chain = self._iptc.Chain(table, parent)
        for rule in chain.rules:
            if rule.target is not None and rule.target.name == target:
                chain.delete_rule(rule)

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


def _split(grants: Iterable[Grant]) -> tuple[list[Grant], list[Grant]]:
    """Those of IPv4, and those of IPv6."""
    found = list(grants)
    return (
        [grant for grant in found if version_of(grant.address) == 4],
        [grant for grant in found if version_of(grant.address) == 6],
    )


def _knowing(base: Any) -> Any:
    """A rule that knows its table. The library's looks for chains in every table, and so makes tables in the kernel."""

    class Rule(base):  # type: ignore[misc]  # the library has no types
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
    return any(xtables.entries(table, version) for version in VERSIONS for table in xtables.tables(version))


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
