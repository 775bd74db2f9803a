"""The IPv6 half of legacy rules, through the programs ip6tables-legacy-save and -restore.

python-iptables cannot do both IP versions in one process: what it loads for the first knows nothing of the second, and
loading it again ends the process. So this half costs a program for each change, 3 ms, on hosts that have rules in
legacy ip6tables and networks with IPv6; no others.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from wherry.linux import xtables
from wherry.network.firewall.legacy_rules import USER, Rule, chains, granted, home, jumps
from wherry.network.firewall.model import FirewallError, Grant, Publication, Rules

_SAVE: Final = ("ip6tables-legacy-save",)
_RESTORE: Final = ("ip6tables-legacy-restore", "--noflush", "--wait", "10")
_TIMEOUT: Final = 20.0

Saved = Mapping[str, list[str]]
"""Table → its lines: `:CHAIN …` and `-A CHAIN …`."""


class Ip6tables:
    """Our chains in the legacy tables of IPv6. `base` is what their names begin with."""

    def __init__(self, base: str) -> None:
        self._base = base

    def write(self, rules: Rules) -> None:
        wanted = chains(rules, 6, self._base)
        saved = self._saved()
        self._restore(
            "".join(
                self._table(name, saved.get(name, []), wanted[name], jumps(name, 6, self._base))
                for name in wanted
            )
        )

    def add(self, grants: Iterable[Grant]) -> None:
        self._restore(
            self._changes(
                grants,
                lambda grant: "-I" if isinstance(grant, Publication) and grant.host_address else "-A",
            )
        )

    def remove(self, grants: Iterable[Grant]) -> None:
        self._restore(self._changes(grants, lambda grant: "-D"))

    def holds(self, rules: Rules) -> bool:
        saved = self._saved()
        for name, wanted in chains(rules, 6, self._base).items():
            lines = saved.get(name, [])
            for chain, expected in wanted.items():
                if not any(each.startswith(f":{chain} ") for each in lines):
                    return False
                mine = [each for each in lines if each.startswith(f"-A {chain} ")]
                if sorted(mine) != sorted(line(chain, rule) for rule in expected):
                    return False
            for parent, reached in jumps(name, 6, self._base).items():
                if any(line(parent, jump) not in lines for jump in reached):
                    return False
        return True

    def clear(self) -> None:
        """Leave no chain of ours; the administrator's goes if it is empty and no engine needs it."""
        text = ""
        for name, lines in self._saved().items():
            if not lines:
                continue
            text += self._table(name, lines, {}, {})
            others = any(re.match(rf":WHERRY-(?!USER )(?!{self._base[7:]})", each) for each in lines)
            empty = not any(each.startswith(f"-A {USER} ") for each in lines)
            if any(each.startswith(f":{USER} ") for each in lines) and empty and not others:
                reached = "".join(f"-D{each[2:]}\n" for each in lines if each.endswith(f"-j {USER}"))
                text += f"*{name}\n{reached}-X {USER}\nCOMMIT\n"
        self._restore(text)

    def owned(self) -> list[str]:
        return [
            f"ip6tables {name} {each.split()[0][1:]}"
            for name, lines in self._saved().items()
            for each in lines
            if each.startswith(f":{self._base}")
        ]

    def _table(
        self, name: str, lines: list[str], wanted: Mapping[str, list[Rule]], reached: Mapping[str, list[Rule]]
    ) -> str:
        """Commands that give a table these chains and jumps of ours, and no others; a chain named is emptied first."""
        ours = {each.split()[0][1:] for each in lines if each.startswith(f":{self._base}")}
        targets = ours | ({USER} if reached else set())
        text = [f"*{name}"]
        text += [f":{chain} - [0:0]" for chain in sorted(ours | wanted.keys())]
        users = any(rule["target"] == USER for rules in reached.values() for rule in rules)
        if users and not any(each.startswith(f":{USER} ") for each in lines):
            text.append(f":{USER} - [0:0]")
        for each in lines:
            jump = re.fullmatch(r"-A ([A-Z]+) (?:.* )?-j (\S+)", each)
            if jump is not None and jump[2] in targets and jump[1] not in (*ours, USER):
                text.append(f"-D{each[2:]}")
        for chain, rules in wanted.items():
            text += [line(chain, rule) for rule in rules]
        for parent, rules in reached.items():
            text += [f"-I{line(parent, rule)[2:]}" for rule in reversed(rules)]
        text += [f"-X {chain}" for chain in sorted(ours - wanted.keys())]
        return "\n".join([*text, "COMMIT", ""])

    def _changes(self, grants: Iterable[Grant], verb: Callable[[Grant], str]) -> str:
        found: dict[str, list[str]] = {}
        for grant in grants:
            name, chain = home(grant, self._base)
            found.setdefault(name, []).append(f"{verb(grant)}{line(chain, granted(grant))[2:]}")
        return "".join(f"*{name}\n" + "\n".join(lines) + "\nCOMMIT\n" for name, lines in found.items())

    def _saved(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {name: [] for name in xtables.tables(6)}
        if not found:
            return {}
        name = ""
        for each in _run(_SAVE, "").splitlines():
            if each.startswith("*"):
                name = each[1:]
            elif each.startswith((":", "-A ")):
                found.setdefault(name, []).append(each)
        return found

    def _restore(self, text: str) -> None:
        if text:
            _run(_RESTORE, text)


def line(chain: str, rule: Rule) -> str:
    """A rule as ip6tables-save prints it."""
    words = ["-A", chain]
    for key, option in (
        ("src", "-s"),
        ("dst", "-d"),
        ("in_interface", "-i"),
        ("out_interface", "-o"),
        ("protocol", "-p"),
    ):
        if key in rule:
            value = str(rule[key])
            words += ["!", option, value[1:]] if value.startswith("!") else [option, value]
    for name, parameters in rule.get("matches", {}).items():
        words += ["-m", name]
        for key, value in parameters.items():
            words += [f"--{key}", value]
    words += ["-j", rule["target"]]
    for key, value in rule.get("to", {}).items():
        words += [f"--{key}", value]
    return " ".join(words)


def _run(argv: tuple[str, ...], text: str) -> str:
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"{argv[0]}: {error}; install iptables") from error
    if done.returncode != 0:
        raise FirewallError(f"{argv[0]}: {' '.join(done.stderr.split())}")
    return done.stdout
