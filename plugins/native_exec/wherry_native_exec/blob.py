"""What wherry-init is told, packed as `struct blob` of init/wherry-init.c has it; change both together."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from wherry.errors import InvalidRequest
from wherry.linux import capabilities, limits
from wherry.spec.command import Process
from wherry_native_exec import program
from wherry_native_exec.filters import with_gate
from wherry_native_exec.users import Identity

_MAGIC: Final = 0x59524857
_VERSION: Final = 2
_HEAD: Final = struct.Struct("=5I4i4i5Ii4I22II7Q")
_UNLIMITED: Final = (1 << 64) - 1
_UMASK: Final = 0o022
EVERYTHING: Final = (1 << 64) - 1
"""Every capability: whoever enters a user namespace has them all in there."""


class Mode(IntEnum):
    """How process 1, or an exec, comes into its pid namespace."""

    OWN = 0
    HOST = 1
    JOINED = 2
    EXEC = 3


class Flag(IntFlag):
    NEW_CGROUP_NAMESPACE = 1
    TTY = 2
    INIT = 4
    NO_NEW_PRIVILEGES = 8
    SEARCH = 16
    SHARED_KEYRING = 32
    SET_OOM = 64


_NONE: Final = Flag(0)


@dataclass(slots=True, kw_only=True)
class Blob:
    """The fields that do not follow from a `Process`; descriptors are numbers that the program inherits."""

    mode: Mode
    flags: Flag = _NONE
    control: int
    streams: tuple[int, int, int]
    proc: int
    target: int = -1
    into: int = -1
    user: int = -1
    """The user namespace that the process is to be in; -1 for the host's."""
    owner: int = 0
    """What the process's user is on the host."""
    join: int = 0
    tasks: Sequence[int] = ()
    filter: bytes = b""
    procs: Sequence[tuple[str, int]] = ()
    """(target, MOUNT_ATTR_*)."""
    attach: Sequence[tuple[int, str]] = ()
    masked: Sequence[str] = ()
    readonly: Sequence[str] = ()
    extra_environment: Sequence[str] = ()
    usable: int = EVERYTHING
    """Capabilities that the engine has itself: others cannot be given."""

    def pack(self, process: Process, identity: Identity) -> bytes:
        """The whole blob. InvalidRequest: a string with a NUL, an unknown capability or limit."""
        data = _Data()
        flags = self.flags
        paths, search = program.candidates(process.argv[0], process.env)
        if search:
            flags |= Flag.SEARCH
        if process.tty:
            flags |= Flag.TTY
        if process.no_new_privileges:
            flags |= Flag.NO_NEW_PRIVILEGES
        flags |= Flag.SET_OOM
        cwd = data.string(process.cwd or "/")
        lsm_file, lsm_value = _label(process)
        label = (data.string(lsm_file), data.string(lsm_value)) if lsm_file else (0, 0)
        # In a pid namespace of its own nobody is there yet, and the clone comes first.
        filter, key = (self.filter, (0, 0)) if self.mode is Mode.OWN else with_gate(self.filter)
        lists = (
            *data.list("I", identity.groups),
            *data.list("i", self.tasks),
            *data.limits(process),
            *data.raw(filter, 8),
            *data.strings(process.argv, end=True),
            *data.strings([*process.env, *self.extra_environment], end=True),
            *data.strings(paths, end=False),
            *data.pairs("=II", ((data.string(target), attributes) for target, attributes in self.procs)),
            *data.pairs("=iI", ((fd, data.string(target)) for fd, target in self.attach)),
            *data.list("I", [data.string(path) for path in self.masked]),
            *data.list("I", [data.string(path) for path in self.readonly]),
        )
        sets = process.capabilities
        try:
            masks = [
                capabilities.mask(names) & self.usable
                for names in (sets.bounding, sets.effective, sets.permitted, sets.inheritable, sets.ambient)
            ]
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        # The kernel takes no ambient without both permitted and inheritable, and no effective without permitted. Who is
        # not root keeps only what is ambient, as after an execve: with more, it could execute what it may not read.
        masks[4] &= masks[2] & masks[3]
        if identity.uid:
            masks[2] = masks[4]
        masks[1] &= masks[2]
        head = _HEAD.pack(
            _MAGIC,
            _VERSION,
            len(data.bytes),
            self.mode,
            flags,
            self.control,
            *self.streams,
            self.proc,
            self.target,
            self.into,
            self.user,
            self.join,
            identity.uid,
            identity.gid,
            self.owner,
            _UMASK if process.umask is None else process.umask,
            process.oom_score_adj,
            capabilities.last(),
            cwd,
            *label,
            *lists,
            process.personality,
            *masks,
            *key,
        )
        data.bytes[: len(head)] = head
        return bytes(data.bytes)


class _Data:
    """Everything of variable length, behind the head, lists at multiples of 8; offsets count from the head's first byte."""

    def __init__(self) -> None:
        self.bytes = bytearray(_HEAD.size)

    def _add(self, content: bytes) -> int:
        self.bytes += b"\0" * (-len(self.bytes) % 8)
        offset = len(self.bytes)
        self.bytes += content
        return offset

    def string(self, text: str) -> int:
        encoded = os.fsencode(text)
        if b"\0" in encoded:
            raise InvalidRequest(f"{text!r} holds a NUL, which no argument, name or path may")
        offset = len(self.bytes)
        self.bytes += encoded + b"\0"
        return offset

    def raw(self, content: bytes, size: int) -> tuple[int, int]:
        return self._finish(content, len(content) // size)

    def list(self, item: str, values: Iterable[int]) -> tuple[int, int]:
        found = list(values)
        return self._finish(struct.pack(f"={len(found)}{item}", *found), len(found))

    def pairs(self, item: str, values: Iterable[tuple[int, int]]) -> tuple[int, int]:
        packed = [struct.pack(item, *pair) for pair in values]
        return self._finish(b"".join(packed), len(packed))

    def strings(self, texts: Sequence[str], end: bool) -> tuple[int, int]:
        """Slots of 64 bits, each an offset that the program turns into an address; `end` adds the 0 of argv."""
        offsets = [self.string(text) for text in texts] + ([0] if end else [])
        return self._finish(struct.pack(f"={len(offsets)}Q", *offsets), len(offsets))

    def limits(self, process: Process) -> tuple[int, int]:
        packed = []
        for limit in process.rlimits:
            number = limits.NUMBERS.get(limit.name)
            if number is None:
                raise InvalidRequest(f'invalid ulimit type: "{limit.name}"')
            soft, hard = (_UNLIMITED if value == -1 else value for value in (limit.soft, limit.hard))
            packed.append(struct.pack("=3Q", number, soft, hard))
        return self._finish(b"".join(packed), len(packed))

    def _finish(self, content: bytes, count: int) -> tuple[int, int]:
        return self._add(content), count


def _label(process: Process) -> tuple[str, str]:
    """(file below /proc, what to write there) by which a security module changes the profile at execve."""
    if process.apparmor and process.apparmor != "unconfined":
        new = "self/attr/apparmor/exec"
        return new if os.path.exists(f"/proc/{new}") else "self/attr/exec", f"exec {process.apparmor}"
    if process.selinux_label:
        return "self/attr/exec", process.selinux_label
    return "", ""
