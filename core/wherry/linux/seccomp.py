"""Seccomp profiles in Docker's format, made into the program that the kernel runs, by libseccomp.

A profile is JSON with rules that hold only for some capabilities, architectures or kernels (`includes`, `excludes`);
what is left is handed to libseccomp, and its BPF exported. In front of that stand a few instructions of ours: a system
call newer than the newest in the profile answers ENOSYS, not EPERM, so that programs fall back to what they used before
it existed (as runc does). Compiling takes about 4 ms, so results are cached by profile and capabilities.

Source: moby `profiles/seccomp`, runc `libcontainer/seccomp/patchbpf`, seccomp(2), seccomp_rule_add(3).
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from wherry.linux import bpf
from wherry.linux.capabilities import DEFAULT

ALLOW: Final = 0x7FFF0000
LOG: Final = 0x7FFC0000
_ERRNO: Final = 0x00050000
_TRACE: Final = 0x7FF00000
_ACTIONS: Final = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
}
_OPERATORS: Final = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_ARCHITECTURES: Final = {
    "SCMP_ARCH_X86": 0x40000003,
    "SCMP_ARCH_X86_64": 0xC000003E,
    "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028,
    "SCMP_ARCH_AARCH64": 0xC00000B7,
}
_X32_BIT: Final = 0x40000000
_NATIVE: Final = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}.get(os.uname().machine, "")
_GO_NAME: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "")
_UNKNOWN: Final = -1
_OPTIMIZE: Final = 8
"""SCMP_FLTATR_CTL_OPTIMIZE; libseccomp before 2.5 refuses it, and makes a list."""
_LARGEST: Final = 1 << 20
"""Bytes of a profile; Docker's default has 13,000."""

_compiled: dict[str, bytes] = {}


class _Comparison(ctypes.Structure):
    _fields_ = [("argument", ctypes.c_uint), ("operator", c_int), ("a", c_uint64), ("b", c_uint64)]


# ---- for the caller ------------------------------------------------------------------------------------------------
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
        program = _compile(parse(document), held)
        if saved is not None:
            saved.parent.mkdir(parents=True, exist_ok=True)
            aside = saved.with_suffix(f".{os.getpid()}")
            aside.write_bytes(program)
            aside.rename(saved)
    _compiled[key] = program
    return program


def warm() -> None:
    """Compile the default profile for Docker's default capabilities, once, for all processes forked from this one."""
    compile_profile(default_profile(), DEFAULT)


def parse(document: str) -> dict[str, Any]:
    """A profile's JSON, checked for what `compile_profile` relies on. ValueError says what is wrong."""
    if len(document) > _LARGEST:
        raise ValueError(f"the seccomp profile has {len(document)} characters; at most {_LARGEST} are read")
    try:
        profile = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the seccomp profile is not JSON: {error}") from error
    if not isinstance(profile, dict):
        raise ValueError("the seccomp profile is not a JSON object")
    return profile


# ---- from profile to rules -----------------------------------------------------------------------------------------
@lru_cache(maxsize=64)
def _key(document: str, held: frozenset[str]) -> str:
    text = "\0".join([document, *sorted(held), os.uname().release, _NATIVE])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _compile(profile: Mapping[str, Any], held: frozenset[str]) -> bytes:
    library = _library()
    default = _action(profile.get("defaultAction"), profile.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    if not context:
        raise ValueError(f"libseccomp refuses the default action {profile.get('defaultAction')}")
    try:
        # Ordered as a tree: the kernel asks the filter about each system call when it is set, 0.8 ms for a list.
        library.seccomp_attr_set(context, _OPTIMIZE, 2)
        architectures = _architectures(profile)
        for name in architectures:
            if name != _NATIVE:
                _check(
                    library.seccomp_arch_add(context, _ARCHITECTURES[name]),
                    f"architecture {name}",
                    exists=True,
                )
        newest = dict.fromkeys(architectures, 0)
        for rule in _list(profile, "syscalls"):
            if not isinstance(rule, dict):
                raise ValueError("a rule of the seccomp profile is not an object")
            names = _names(rule)
            if not _holds(rule, held):
                continue
            for called in names:
                for architecture in architectures:
                    number = library.seccomp_syscall_resolve_name_arch(_ARCHITECTURES[architecture], called)
                    newest[architecture] = max(newest[architecture], number)
            action = _action(rule.get("action"), rule.get("errnoRet"))
            if action != default:
                _add(library, context, action, names, _comparisons(rule))
        program = _export(library, context)
    finally:
        library.seccomp_release(context)
    if default in (ALLOW, LOG, _ERRNO | errno.ENOSYS):
        return program
    return _newer_is_unknown(newest) + program


def _add(
    library: Any, context: int, action: int, names: Iterable[bytes], comparisons: list[_Comparison]
) -> None:
    # libseccomp takes one comparison for each argument of a rule; several of one argument mean "or".
    several = len({comparison.argument for comparison in comparisons}) < len(comparisons)
    sets = [[comparison] for comparison in comparisons] if several else [comparisons]
    for name in names:
        number = library.seccomp_syscall_resolve_name(name)
        if number == _UNKNOWN:
            continue  # newer than this libseccomp, or of another architecture
        for chosen in sets:
            array = (_Comparison * len(chosen))(*chosen)
            done = library.seccomp_rule_add_array(context, action, number, len(chosen), array)
            _check(done, f"system call {name.decode(errors='replace')}", exists=True)


def _holds(rule: Mapping[str, Any], held: frozenset[str]) -> bool:
    """Whether a rule applies to these capabilities, this architecture and this kernel."""
    includes, excludes = _object(rule, "includes"), _object(rule, "excludes")
    wanted, unwanted = _list(includes, "caps"), _list(excludes, "caps")
    arches, other = _list(includes, "arches"), _list(excludes, "arches")
    if not all(name in held for name in wanted) or any(name in held for name in unwanted):
        return False
    if (arches and _GO_NAME not in arches) or _GO_NAME in other:
        return False
    smallest, barred = includes.get("minKernel"), excludes.get("minKernel")
    if smallest and _kernel() < _version(smallest):
        return False
    return not (barred and _kernel() >= _version(barred))


def _architectures(profile: Mapping[str, Any]) -> list[str]:
    """Names of the architectures to filter, this machine's own first."""
    listed = [name for name in _list(profile, "architectures") if name in _ARCHITECTURES]
    for entry in _list(profile, "archMap"):
        if isinstance(entry, dict) and entry.get("architecture") == _NATIVE:
            listed += [name for name in _list(entry, "subArchitectures") if name in _ARCHITECTURES]
    return list(dict.fromkeys([_NATIVE, *listed]))


def _names(rule: Mapping[str, Any]) -> list[bytes]:
    names = [*_list(rule, "names"), *([rule["name"]] if rule.get("name") else [])]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("the name of a system call in the seccomp profile is not a string")
    return [name.encode("ascii", "replace") for name in names]


def _comparisons(rule: Mapping[str, Any]) -> list[_Comparison]:
    found = []
    for item in _list(rule, "args"):
        if not isinstance(item, dict) or item.get("op") not in _OPERATORS:
            raise ValueError("an argument in the seccomp profile has no operator that is known")
        index, first, second = (item.get(key, 0) for key in ("index", "value", "valueTwo"))
        if not all(type(number) is int and 0 <= number < 1 << 64 for number in (index, first, second)):
            raise ValueError("an argument in the seccomp profile is no number of 64 bits")
        if index > 5:
            raise ValueError(f"a system call has 6 arguments; the seccomp profile names number {index}")
        found.append(_Comparison(index, _OPERATORS[item["op"]], first, second))
    return found


def _action(name: Any, number: Any) -> int:
    if name not in _ACTIONS:
        raise ValueError(f"the seccomp profile has an action that is not supported: {name}")
    action = _ACTIONS[name]
    if action not in (_ERRNO, _TRACE):
        return action
    if number is None:
        number = errno.EPERM
    if type(number) is not int or not 0 <= number < 4096:
        raise ValueError(f"the seccomp profile has an errnoRet that is none: {number}")
    return action | number


def _newer_is_unknown(newest: Mapping[str, int]) -> bytes:
    """ENOSYS for numbers above the newest of each architecture; else on to what follows."""
    unknown = bpf.instruction(bpf.RETURN, _ERRNO | errno.ENOSYS)
    blocks = []
    for name, number in newest.items():
        if name == "SCMP_ARCH_X32" or number <= 0:
            continue
        block = [bpf.instruction(bpf.LOAD, bpf.NUMBER)]
        if name == "SCMP_ARCH_X86_64":
            x32 = newest.get("SCMP_ARCH_X32", 0)
            over = [bpf.instruction(bpf.JUMP_GREATER, x32, 0, 1), unknown] if x32 > 0 else []
            # A number with the bit of x32 is compared with x32's newest, or left to the filter.
            block.append(bpf.instruction(bpf.JUMP_GREATER_EQUAL, _X32_BIT, 0, len(over) + 1 if over else 1))
            block += over
            block.append(bpf.instruction(bpf.JUMP, 2))
        block += [bpf.instruction(bpf.JUMP_GREATER, number, 0, 1), unknown]
        blocks.append((_ARCHITECTURES[name], block))
    program: list[bytes] = []
    for architecture, block in blocks:
        program.append(bpf.instruction(bpf.LOAD, bpf.ARCHITECTURE))
        program.append(bpf.instruction(bpf.JUMP_EQUAL, architecture, 0, len(block)))
        program += block
    return b"".join(program)


# ---- small parts ---------------------------------------------------------------------------------------------------
def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise ValueError(f'"{key}" in the seccomp profile is not a list')
    return found


def _object(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f'"{key}" in the seccomp profile is not an object')
    return found


def _version(text: Any) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"the seccomp profile has a minKernel that is none: {text}")
    return int(match[1]), int(match[2])


@lru_cache(maxsize=1)
def _kernel() -> tuple[int, int]:
    return _version(os.uname().release)


# ---- libseccomp ----------------------------------------------------------------------------------------------------
@lru_cache(maxsize=1)
def _library() -> Any:
    """libseccomp2. OSError where it is not installed."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = c_void_p
    library.seccomp_init.argtypes = [c_uint32]
    library.seccomp_release.argtypes = [c_void_p]
    library.seccomp_release.restype = None
    library.seccomp_attr_set.argtypes = [c_void_p, c_int, c_uint32]
    library.seccomp_arch_add.argtypes = [c_void_p, c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [c_char_p]
    library.seccomp_syscall_resolve_name_arch.argtypes = [c_uint32, c_char_p]
    library.seccomp_rule_add_array.argtypes = [c_void_p, c_uint32, c_int, ctypes.c_uint, POINTER(_Comparison)]
    library.seccomp_export_bpf.argtypes = [c_void_p, c_int]
    return library


def _export(library: Any, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(library.seccomp_export_bpf(context, fd), "export")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _check(done: int, about: str, exists: bool = False) -> None:
    if done == 0 or (exists and -done == errno.EEXIST):
        return
    raise ValueError(f"libseccomp refuses the profile ({about}): {os.strerror(-done)}")
