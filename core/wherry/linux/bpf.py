"""Classic BPF, as seccomp(2) runs it: instructions as bytes, and a run of them here to ask what a filter would say."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Final

LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP: Final = 0x05  # BPF_JMP | BPF_JA
JUMP_EQUAL: Final = 0x15
JUMP_GREATER: Final = 0x25
JUMP_GREATER_EQUAL: Final = 0x35
JUMP_BITS: Final = 0x45  # BPF_JSET
RETURN: Final = 0x06
AND: Final = 0x54

NUMBER: Final = 0
"""Where `struct seccomp_data` has the system call's number."""
ARCHITECTURE: Final = 4

_INSTRUCTION: Final = struct.Struct("=HBBI")
_DATA: Final = struct.Struct("=iIQ6Q")
NATIVE: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(os.uname().machine, 0)
"""This machine's own architecture: AUDIT_ARCH_*."""


def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One `struct sock_filter`."""
    return _INSTRUCTION.pack(code, if_true, if_false, value)


def argument(index: int) -> int:
    """Where `struct seccomp_data` has the lower half of an argument, on a little-endian machine; the upper is 4 on."""
    return 16 + 8 * index


def run(program: bytes, number: int, arguments: Sequence[int] = (), architecture: int = 0) -> int:
    """What a seccomp filter answers to a system call: SECCOMP_RET_*. `architecture`: AUDIT_ARCH_*, or 0 for this machine's.

    Knows what libseccomp emits; ValueError for anything else.
    """
    data = _DATA.pack(number, architecture or NATIVE, 0, *(list(arguments) + [0] * 6)[:6])
    instructions = list(_INSTRUCTION.iter_unpack(program))
    accumulator = position = 0
    while position < len(instructions):
        code, if_true, if_false, value = instructions[position]
        position += 1
        if code == LOAD:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == AND:
            accumulator &= value
        elif code == JUMP:
            position += value
        elif code == JUMP_EQUAL:
            position += if_true if accumulator == value else if_false
        elif code == JUMP_GREATER:
            position += if_true if accumulator > value else if_false
        elif code == JUMP_GREATER_EQUAL:
            position += if_true if accumulator >= value else if_false
        elif code == JUMP_BITS:
            position += if_true if accumulator & value else if_false
        elif code == RETURN:
            return int(value)
        else:
            raise ValueError(f"instruction {code:#x} is not one that seccomp filters are made of")
    raise ValueError("the filter ends without an answer")
