"""Which devices a cgroup of version 2 may use: an eBPF program attached to it, made from rules. bpf(2)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from ctypes import c_int, c_uint
from typing import Final

from wherry.linux import numbers
from wherry.linux.calls import last_error, syscall
from wherry.linux.cgroup_files import Rule

_PROG_LOAD: Final = 5
_PROG_ATTACH: Final = 8
_TYPE_CGROUP_DEVICE: Final = 15
_ATTACH_CGROUP_DEVICE: Final = 6
_ALLOW_MULTI: Final = 2

_KIND: Final = {"b": 1, "c": 2}
_ACCESS: Final = {"m": 1, "r": 2, "w": 4}

_LOAD: Final = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_COPY: Final = 0xBC  # BPF_ALU | BPF_MOV | BPF_X
_SET: Final = 0xB7  # BPF_ALU64 | BPF_MOV | BPF_K
_AND: Final = 0x54
_SHIFT_RIGHT: Final = 0x74
_UNLESS_EQUAL: Final = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_IF_EQUAL: Final = 0x15
_EXIT: Final = 0x95

_CONTEXT, _KIND_REGISTER, _ACCESS_REGISTER, _MAJOR, _MINOR, _SCRATCH = 1, 2, 3, 4, 5, 6

_Device = tuple[str, int | None, int | None]


def settle(rules: Iterable[Rule]) -> tuple[bool, dict[_Device, int]]:
    """What ordered rules come to, as version 1 keeps it: (allowed by default, exceptions to that as access bits)."""
    allowed = False
    exceptions: dict[_Device, int] = {}
    for rule in rules:
        bits = sum(_ACCESS[letter] for letter in set(rule.access))
        if rule.kind == "a":
            allowed, exceptions = rule.allow, {}
            continue
        device = (rule.kind, rule.major, rule.minor)
        if rule.allow == allowed:
            left = exceptions.get(device, 0) & ~bits
            exceptions.pop(device, None)
            if left:
                exceptions[device] = left
        else:
            exceptions[device] = exceptions.get(device, 0) | bits
    return allowed, exceptions


def program(rules: Iterable[Rule]) -> bytes:
    """The eBPF instructions for rules; the kernel's state before the first is: everything denied."""
    allowed, exceptions = settle(rules)
    code = [
        _instruction(_LOAD, _KIND_REGISTER, _CONTEXT, 0),
        _instruction(_COPY, _ACCESS_REGISTER, _KIND_REGISTER),
        _instruction(_AND, _KIND_REGISTER, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, _ACCESS_REGISTER, value=16),
        _instruction(_LOAD, _MAJOR, _CONTEXT, 4),
        _instruction(_LOAD, _MINOR, _CONTEXT, 8),
    ]
    for (kind, major, minor), bits in exceptions.items():
        tests: list[tuple[int, int, int]] = [(_UNLESS_EQUAL, _KIND_REGISTER, _KIND[kind])]
        tests += [(_UNLESS_EQUAL, _MAJOR, major)] if major is not None else []
        tests += [(_UNLESS_EQUAL, _MINOR, minor)] if minor is not None else []
        # An exception that allows must cover all that is asked for; one that denies, any of it.
        covered = ~bits & 7 if not allowed else bits
        verdict = [_instruction(_SET, 0, value=int(not allowed)), _instruction(_EXIT)]
        last = _instruction(_UNLESS_EQUAL if not allowed else _IF_EQUAL, _SCRATCH, offset=len(verdict))
        tail = [
            _instruction(_COPY, _SCRATCH, _ACCESS_REGISTER),
            _instruction(_AND, _SCRATCH, value=covered),
            last,
            *verdict,
        ]
        for index, (operation, register, value) in enumerate(tests):
            skip = len(tests) - index - 1 + len(tail)
            code.append(_instruction(operation, register, offset=skip, value=value))
        code += tail
    return b"".join([*code, _instruction(_SET, 0, value=int(allowed)), _instruction(_EXIT)])


def attach(directory: str, rules: Iterable[Rule]) -> None:
    """Hold the cgroup at `directory` to `rules`, besides what holds for those above it."""
    code = program(rules)
    instructions = ctypes.create_string_buffer(code, len(code))
    license_name = ctypes.create_string_buffer(b"Apache-2.0")
    request = struct.pack(
        "=IIQQ24x",
        _TYPE_CGROUP_DEVICE,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_name),
    )
    loaded = _bpf(_PROG_LOAD, request)
    try:
        cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _bpf(_PROG_ATTACH, struct.pack("=4I", cgroup, loaded, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
        finally:
            os.close(cgroup)
    finally:
        os.close(loaded)


def _bpf(command: int, request: bytes) -> int:
    buffer = ctypes.create_string_buffer(request, len(request))
    result = syscall(numbers.BPF, c_int(command), ctypes.byref(buffer), c_uint(len(request)))
    if result == -1:
        raise last_error("bpf")
    return result


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)
