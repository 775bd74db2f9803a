"""Whose a file is, on either side of a map of ids: its owners, and those that its attributes name.

On a mount that shows other owners than are on the disk, the host sees ids that stand for those *inside*. What leaves such
a tree is to be as it is inside, and what comes into it is said as it is to be inside.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, Protocol

_NOBODY: Final = 65534
"""What the kernel shows for an id that is not mapped: /proc/sys/kernel/overflowuid."""
_CAPABILITY: Final = "security.capability"
_ACCESS_LISTS: Final = ("system.posix_acl_access", "system.posix_acl_default")
_OF_ROOT: Final = struct.Struct("<5I")
"""<linux/capability.h> struct vfs_cap_data: revision and flags, two words each of permitted and inheritable."""
_OF_SOMEBODY: Final = struct.Struct("<6I")
"""struct vfs_ns_cap_data: the same, and whose root may have them."""
_REVISION_2: Final = 0x02000000
_REVISION_3: Final = 0x03000000
_REVISION: Final = 0xFF000000
_ENTRY: Final = struct.Struct("<HHI")
"""<linux/posix_acl_xattr.h>: tag, permissions, id."""
_USER: Final = 0x02
_GROUP: Final = 0x08


class Owners(Protocol):
    """A map of ids: `wherry.spec.command.IdMaps` is one."""

    def uid_inside(self, uid: int) -> int | None: ...
    def gid_inside(self, gid: int) -> int | None: ...
    def uid_outside(self, uid: int) -> int | None: ...
    def gid_outside(self, gid: int) -> int | None: ...


def inside(owners: Owners, uid: int, gid: int) -> tuple[int, int]:
    """Whose a file is inside; nobody's if it belongs to whoever is not mapped."""
    found = owners.uid_inside(uid), owners.gid_inside(gid)
    return found[0] if found[0] is not None else _NOBODY, found[1] if found[1] is not None else _NOBODY


def outside(owners: Owners, uid: int, gid: int) -> tuple[int, int]:
    """The ids that stand for those inside. LookupError names one that has none."""
    found = owners.uid_outside(uid), owners.gid_outside(gid)
    if found[0] is None:
        raise LookupError(f"user {uid} is not mapped in the container's user namespace")
    if found[1] is None:
        raise LookupError(f"group {gid} is not mapped in the container's user namespace")
    return found[0], found[1]


def attributes_inside(owners: Owners, attributes: dict[str, bytes]) -> dict[str, bytes]:
    """Extended attributes as they are inside: capabilities of the root there, access lists of users there."""
    found = _with_lists(attributes, owners.uid_inside, owners.gid_inside)
    value = found.get(_CAPABILITY, b"")
    if len(value) == _OF_SOMEBODY.size:
        head, *words, whose = _OF_SOMEBODY.unpack(value)
        root = owners.uid_inside(whose)
        if root is None:
            del found[_CAPABILITY]
        elif root == 0:
            found[_CAPABILITY] = _OF_ROOT.pack(head & ~_REVISION | _REVISION_2, *words)
        else:
            found[_CAPABILITY] = _OF_SOMEBODY.pack(head, *words, root)
    return found


def attributes_outside(owners: Owners, attributes: dict[str, bytes]) -> dict[str, bytes]:
    """What to set for attributes that are said as they are to be inside. LookupError names an id that has none."""
    found = _with_lists(attributes, owners.uid_outside, owners.gid_outside)
    value = found.get(_CAPABILITY, b"")
    if len(value) == _OF_SOMEBODY.size:
        head, *words, whose = _OF_SOMEBODY.unpack(value)
        root = owners.uid_outside(whose)
        if root is None:
            raise LookupError(f"user {whose} is not mapped in the container's user namespace")
        found[_CAPABILITY] = _OF_SOMEBODY.pack(head & ~_REVISION | _REVISION_3, *words, root)
    return found


def _with_lists(
    attributes: dict[str, bytes], uid: Callable[[int], int | None], gid: Callable[[int], int | None]
) -> dict[str, bytes]:
    found = dict(attributes)
    for name in _ACCESS_LISTS:
        if name in found:
            found[name] = _access_list(found[name], uid, gid)
    return found


def _access_list(value: bytes, uid: Callable[[int], int | None], gid: Callable[[int], int | None]) -> bytes:
    """Entries of whoever has no id on the other side are left out."""
    if (len(value) - 4) % _ENTRY.size:
        return value  # none that the kernel would take either
    entries = [value[:4]]
    for tag, permissions, number in _ENTRY.iter_unpack(value[4:]):
        other: int | None = number
        if tag == _USER:
            other = uid(number)
        elif tag == _GROUP:
            other = gid(number)
        if other is not None:
            entries.append(_ENTRY.pack(tag, permissions, other))
    return b"".join(entries)
