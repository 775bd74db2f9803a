"""Seccomp profiles in Docker's format, read strictly: JSON with rules that hold only for some capabilities,
architectures or kernels (`includes`, `excludes`).

`parse` reads a document, `resolve` says what of it is left for one process on this machine. ValueError says what is
wrong with a profile. Source: moby `profiles/seccomp`, runtime-spec `config-linux.md`.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NoReturn

ALLOW: Final = 0x7FFF0000
LOG: Final = 0x7FFC0000
ERRNO: Final = 0x00050000
TRACE: Final = 0x7FF00000
_ACTIONS: Final = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
}
"""SECCOMP_RET_*: seccomp(2)."""
_OPERATORS: Final = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
ARCHITECTURES: Final = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
}
"""AUDIT_ARCH_* of what can run on the machines that wherry knows."""
_FOREIGN: Final = frozenset(
    "SCMP_ARCH_" + name
    for name in """LOONGARCH64 M68K MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PARISC PARISC64 PPC PPC64 PPC64LE
    RISCV64 S390 S390X SH SHEB""".split()
)
NATIVE: Final = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}.get(os.uname().machine, "")
_GO_NAME: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")
_FLAGS: Final = frozenset(
    ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC")
)
"""What these ask for is less noise, or speed: nothing is lost by not doing it."""
_LARGEST: Final = 1 << 20
"""Bytes of a profile; Docker's default has 13,000."""
_MOST_RULES: Final = 4096
"""System calls times comparisons: a filter has at most as many instructions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A comparison with one argument of a system call: scmp_arg_cmp of seccomp_rule_add(3)."""

    argument: int
    operator: int
    first: int
    second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    names: tuple[str, ...]
    action: int
    tests: tuple[Test, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a document comes to for one process. `architectures`: this machine's own is the first."""

    default: int
    architectures: tuple[str, ...]
    rules: tuple[Rule, ...]


def parse(document: str) -> dict[str, Any]:
    """A profile's JSON. A name that occurs twice, or a number that is none, is the author's mistake."""
    if len(document) > _LARGEST:
        raise ValueError(f"the seccomp profile has {len(document)} characters; at most {_LARGEST} are read")
    try:
        profile = json.loads(document, object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the seccomp profile is not JSON: {error}") from error
    if not isinstance(profile, dict):
        raise ValueError("the seccomp profile is not a JSON object")
    return profile


def resolve(profile: Mapping[str, Any], held: frozenset[str]) -> Profile:
    """The rules that apply to a process with these capabilities, on this architecture and kernel."""
    default = _action(profile.get("defaultAction"), profile.get("defaultErrnoRet"))
    for flag in _list(profile, "flags"):
        if flag not in _FLAGS:
            raise ValueError(f"the seccomp profile has a flag that is not supported: {flag}")
    rules = []
    size = 0
    for rule in _list(profile, "syscalls"):
        if not isinstance(rule, dict):
            raise ValueError("a rule of the seccomp profile is not an object")
        # All of it is looked at, whether it holds here or not: a mistake is one on every machine.
        found = Rule(
            names=_names(rule), action=_action(rule.get("action"), rule.get("errnoRet")), tests=_tests(rule)
        )
        if _holds(rule, held):
            rules.append(found)
            size += len(found.names) * max(1, len(found.tests))
    if size > _MOST_RULES:
        raise ValueError(f"the seccomp profile has {size} rules; at most {_MOST_RULES} are taken")
    return Profile(default=default, architectures=_architectures(profile), rules=tuple(rules))


def _holds(rule: Mapping[str, Any], held: frozenset[str]) -> bool:
    includes, excludes = _object(rule, "includes"), _object(rule, "excludes")
    wanted, unwanted = _words(includes, "caps"), _words(excludes, "caps")
    arches, other = _words(includes, "arches"), _words(excludes, "arches")
    smallest, barred = _version(includes.get("minKernel")), _version(excludes.get("minKernel"))
    if not held.issuperset(wanted) or not held.isdisjoint(unwanted):
        return False
    if (arches and _GO_NAME not in arches) or _GO_NAME in other:
        return False
    if smallest is not None and _kernel() < smallest:
        return False
    return barred is None or _kernel() < barred


def _architectures(profile: Mapping[str, Any]) -> tuple[str, ...]:
    listed, mapped = _list(profile, "architectures"), _list(profile, "archMap")
    if listed and mapped:
        raise ValueError(
            "'architectures' and 'archMap' were specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    names = [NATIVE]
    for entry in mapped:
        if not isinstance(entry, dict):
            raise ValueError("an entry of 'archMap' in the seccomp profile is not an object")
        theirs = [entry.get("architecture"), *_list(entry, "subArchitectures")]
        _check_architectures(theirs)
        if entry.get("architecture") == NATIVE:
            names += theirs
    _check_architectures(listed)
    return tuple(dict.fromkeys(name for name in (*names, *listed) if name in ARCHITECTURES))


def _check_architectures(names: list[Any]) -> None:
    for name in names:
        if not isinstance(name, str) or (name not in ARCHITECTURES and name not in _FOREIGN):
            raise ValueError(f"the seccomp profile has an architecture that is none: {name}")


def _names(rule: Mapping[str, Any]) -> tuple[str, ...]:
    one, many = rule.get("name"), _list(rule, "names")
    if one and many:
        raise ValueError(
            "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'"
        )
    names = [one] if one else many
    if not all(isinstance(name, str) for name in names):
        raise ValueError("the name of a system call in the seccomp profile is not a string")
    return tuple(names)


def _tests(rule: Mapping[str, Any]) -> tuple[Test, ...]:
    found = []
    for item in _list(rule, "args"):
        if not isinstance(item, dict) or item.get("op") not in _OPERATORS:
            raise ValueError("an argument in the seccomp profile has no operator that is known")
        index, first, second = (item.get(key, 0) for key in ("index", "value", "valueTwo"))
        if not all(type(number) is int and 0 <= number < 1 << 64 for number in (index, first, second)):
            raise ValueError("an argument in the seccomp profile is no number of 64 bits")
        if index > 5:
            raise ValueError(f"a system call has 6 arguments; the seccomp profile names number {index}")
        found.append(Test(argument=index, operator=_OPERATORS[item["op"]], first=first, second=second))
    return tuple(found)


def _action(name: Any, number: Any) -> int:
    if name == "SCMP_ACT_NOTIFY":
        raise ValueError(
            "the seccomp profile wants SCMP_ACT_NOTIFY, and there is no agent that would be notified"
        )
    if not isinstance(name, str) or name not in _ACTIONS:
        raise ValueError(f"the seccomp profile has an action that is not supported: {name}")
    action = _ACTIONS[name]
    if number is None:
        number = errno.EPERM
    if type(number) is not int or not 0 <= number < 4096:
        raise ValueError(f"the seccomp profile has an errnoRet that is none: {number}")
    return action | number if action in (ERRNO, TRACE) else action


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise ValueError(f'"{key}" in the seccomp profile is not a list')
    return found


def _words(value: Mapping[str, Any], key: str) -> list[str]:
    found = _list(value, key)
    if not all(isinstance(word, str) for word in found):
        raise ValueError(f'"{key}" in the seccomp profile is not a list of strings')
    return found


def _object(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f'"{key}" in the seccomp profile is not an object')
    return found


def _version(text: Any) -> tuple[int, int] | None:
    if text in (None, ""):
        return None
    match = re.match(r"(\d{1,9})\.(\d{1,9})", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"the seccomp profile has a minKernel that is none: {text}")
    return int(match[1]), int(match[2])


@lru_cache(maxsize=1)
def _kernel() -> tuple[int, int]:
    return _version(os.uname().release) or (0, 0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
