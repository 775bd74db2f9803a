"""Seccomp profiles, made into the program that the kernel runs.

What `seccomp_profile` leaves of a profile is handed to libseccomp, and its BPF exported. In front of that stand a few
instructions of ours. A system call newer than the newest in the profile answers ENOSYS, not EPERM, so that programs fall
back to what they used before it existed (as runc does). And one that libseccomp is too old to know, but the profile
names, answers what the profile says: left to libseccomp, a rule that denies it would be lost without a word.
Compiling takes about 4 ms, so results are cached by profile and capabilities.

Source: moby `profiles/seccomp`, runc `libcontainer/seccomp/patchbpf`, seccomp(2).
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from wherry.linux import bpf, libseccomp
from wherry.linux.capabilities import DEFAULT
from wherry.linux.libseccomp import Comparison
from wherry.linux.seccomp_profile import (
    ALLOW,
    ARCHITECTURES,
    ERRNO,
    LOG,
    NATIVE,
    TRACE,
    Profile,
    Rule,
    parse,
    resolve,
)

__all__ = ["ALLOW", "LOG", "check", "compile_profile", "default_profile", "warm"]

_PERMISSIVE: Final = (ALLOW, LOG)
_UNKNOWN: Final = ERRNO | errno.ENOSYS
_X32_BIT: Final = 0x40000000
_LONGEST: Final = 4096
"""Instructions of a filter: BPF_MAXINSNS."""
_EDITION: Final = 2
"""Counted up whenever the same profile comes to another program: what is saved outlives an upgrade."""
_SAVED: Final = 256
"""Programs that are kept in a directory."""
_LATER: Final = {
    name: number
    for number, name in enumerate(
        """futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue
        statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat
        removexattrat open_tree_attr file_getattr file_setattr""".split(),
        449,
    )
}
"""System calls that a libseccomp in use may not know yet: from 424 on, they have one number on every architecture."""

_compiled: dict[str, bytes] = {}


@lru_cache(maxsize=1)
def default_profile() -> str:
    """Docker's default profile, which comes with this package."""
    return (Path(__file__).parent.parent / "data" / "seccomp-default.json").read_text("utf-8")


def compile_profile(document: str, capabilities: Iterable[str], cache: Path | None = None) -> bytes:
    """The BPF program of a profile for a process with these capabilities in its bounding set.

    Cached in memory and, where `cache` (a directory) is given, there. ValueError says what is wrong with a profile.
    """
    held = frozenset(capabilities)
    key = _key(document, held)
    program = _compiled.get(key)
    if program is not None:
        return program
    saved = None if cache is None else cache / f"{key}.bpf"
    if saved is not None:
        try:
            program = saved.read_bytes()
        except FileNotFoundError:
            pass
    if program is None:
        program = _compile(resolve(parse(document), held))
        if saved is not None:
            _save(saved, program)
    _compiled[key] = program
    return program


def check(document: str, capabilities: Iterable[str]) -> None:
    """ValueError says why no program can be made of a profile. Nothing is kept."""
    held = frozenset(capabilities)
    if _key(document, held) not in _compiled:
        _compile(resolve(parse(document), held))


def warm() -> None:
    """Compile the default profile for Docker's default capabilities, once, for all processes forked from this one."""
    compile_profile(default_profile(), DEFAULT)


@lru_cache(maxsize=64)
def _key(document: str, held: frozenset[str]) -> str:
    text = "\0".join([str(_EDITION), document, *sorted(held), os.uname().release, NATIVE])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _save(path: Path, program: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_bytes(program)
    aside.rename(path)
    others = sorted(path.parent.glob("*.bpf"), key=lambda each: each.stat().st_mtime_ns)
    for oldest in others[:-_SAVED]:
        oldest.unlink(missing_ok=True)


def _compile(profile: Profile) -> bytes:
    later: dict[str, dict[int, int]] = {name: {} for name in profile.architectures}
    newest = dict.fromkeys(profile.architectures, 0)
    with libseccomp.filter(profile.default) as context:
        for name in profile.architectures[1:]:
            libseccomp.add_architecture(context, ARCHITECTURES[name])
        for rule in profile.rules:
            for called in rule.names:
                for architecture in profile.architectures:
                    number = libseccomp.number(called, ARCHITECTURES[architecture])
                    if number == libseccomp.UNKNOWN and called in _LATER:
                        number = _LATER[called] | (_X32_BIT if architecture == "SCMP_ARCH_X32" else 0)
                        _note_later(later[architecture], number, rule, called)
                    newest[architecture] = max(newest[architecture], number)
            if rule.action != profile.default:
                _add(context, rule)
        program = libseccomp.export(context)
    if profile.default in (*_PERMISSIVE, _UNKNOWN) or profile.default & ~0xFFFF == TRACE:
        # Whoever traces will know what to do about calls that are new.
        newest = {}
    program = _before(profile.architectures, later, newest) + program
    if len(program) > _LONGEST * len(bpf.instruction(0, 0)):
        raise ValueError("the seccomp profile is too large: the kernel takes filters of 4096 instructions")
    return program


def _note_later(answers: dict[int, int], number: int, rule: Rule, name: str) -> None:
    if rule.tests:
        raise ValueError(
            f"the seccomp profile looks at arguments of {name}, which this machine's libseccomp does not know"
        )
    # The first of several rules holds, as in libseccomp.
    answers.setdefault(number, rule.action)


def _add(context: int, rule: Rule) -> None:
    comparisons = [Comparison(test.argument, test.operator, test.first, test.second) for test in rule.tests]
    # libseccomp takes one comparison for each argument of a rule; several of one argument mean "or".
    several = len({test.argument for test in rule.tests}) < len(rule.tests)
    sets = [[comparison] for comparison in comparisons] if several else [comparisons]
    for name in rule.names:
        number = libseccomp.number(name)
        if number == libseccomp.UNKNOWN:
            continue  # newer than this libseccomp, or of another architecture
        for chosen in sets:
            libseccomp.add_rule(context, rule.action, number, chosen, name)


def _before(
    architectures: Iterable[str], later: Mapping[str, Mapping[int, int]], newest: Mapping[str, int]
) -> bytes:
    """Answers to numbers that libseccomp must not be asked about; else on to what follows."""
    answers: dict[int, dict[int, int]] = {}
    for name in architectures:
        # x32 is x86-64 with a bit in the number.
        token = ARCHITECTURES["SCMP_ARCH_X86_64" if name == "SCMP_ARCH_X32" else name]
        answers.setdefault(token, {}).update(later[name])
    program: list[bytes] = []
    for token, known in answers.items():
        block = [bpf.instruction(bpf.LOAD, bpf.NUMBER)]
        for number, action in known.items():
            block += [bpf.instruction(bpf.JUMP_EQUAL, number, 0, 1), bpf.instruction(bpf.RETURN, action)]
        block += _bounds(token, newest)
        if len(block) > 1:
            program.append(bpf.instruction(bpf.LOAD, bpf.ARCHITECTURE))
            program.append(bpf.instruction(bpf.JUMP_EQUAL, token, 0, len(block)))
            program += block
    return b"".join(program)


def _bounds(token: int, newest: Mapping[str, int]) -> list[bytes]:
    """ENOSYS for numbers above the newest of an architecture; the number is loaded."""
    unknown = bpf.instruction(bpf.RETURN, _UNKNOWN)
    own = next((number for name, number in newest.items() if ARCHITECTURES[name] == token), 0)
    if own <= 0:
        return []
    bounds = [bpf.instruction(bpf.JUMP_GREATER, own, 0, 1), unknown]
    if token != ARCHITECTURES["SCMP_ARCH_X86_64"]:
        return bounds
    # A number with the bit of x32 is compared with x32's newest, or left to the filter.
    x32 = newest.get("SCMP_ARCH_X32", 0)
    theirs = [bpf.instruction(bpf.JUMP_GREATER, x32, 0, 1), unknown] if x32 > 0 else []
    skipped = [*theirs, bpf.instruction(bpf.JUMP, len(bounds))]
    return [bpf.instruction(bpf.JUMP_GREATER_EQUAL, _X32_BIT, 0, len(skipped)), *skipped, *bounds]
