"""Users and groups by a root's own /etc/passwd and /etc/group: passwd(5), group(5).

Both files belong to somebody else and may be anything: a link out, a pipe that blocks, a device, endless, nonsense.
They are opened inside the root, must be regular files, and are read up to a bound; a line that makes no sense is passed
over. What is a number is an id, whatever entry is called like it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wherry.linux import paths

_LARGEST: Final = 4 << 20
"""Bytes of a file that are read: some 60,000 users."""
_HIGHEST: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """`name` is "" where the passwd file has no entry for a number."""

    uid: int
    gid: int = 0
    home: str = "/"
    name: str = ""


def user(root: int, name: str) -> User:
    """The user of this name or number, "" being 0. LookupError: no such name; ValueError: a number that cannot be."""
    number = _number(name or "0")
    for entry in _passwd(root):
        if (entry.name == name) if number is None else (entry.uid == number):
            return entry
    if number is None:
        raise LookupError(f"user {name}: no matching entries in passwd file")
    return User(uid=_in_range(number))


def group(root: int, name: str) -> int:
    """The id of the group of this name or number. LookupError: no such name; ValueError: a number that cannot be."""
    number = _number(name)
    if number is not None:
        return _in_range(number)
    for entry, gid, _ in _groups(root):
        if entry == name:
            return gid
    raise LookupError(f"group {name}: no matching entries in group file")


def groups_of(root: int, name: str) -> list[int]:
    """The groups that name this user as a member."""
    return [gid for _, gid, members in _groups(root) if name in members]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _in_range(number: int) -> int:
    if number > _HIGHEST:
        raise ValueError(f"uids and gids must be in range 0-{_HIGHEST}: {number}")
    return number


def _passwd(root: int) -> Iterator[User]:
    for line in _lines(root, "/etc/passwd"):
        words = line.split(":")
        if len(words) >= 4 and words[0]:
            uid, gid = _number(words[2]), _number(words[3])
            if uid is not None and gid is not None and uid <= _HIGHEST and gid <= _HIGHEST:
                home = words[5] if len(words) > 5 else ""
                yield User(uid=uid, gid=gid, home=home or "/", name=words[0])


def _groups(root: int) -> Iterator[tuple[str, int, list[str]]]:
    for line in _lines(root, "/etc/group"):
        words = line.split(":")
        if len(words) >= 3 and words[0]:
            gid = _number(words[2])
            if gid is not None and gid <= _HIGHEST:
                yield words[0], gid, words[3].split(",") if len(words) > 3 else []


def _lines(root: int, path: str) -> list[str]:
    """The lines of a file in the root; none where it is missing or no file to be read."""
    try:
        fd = paths.open_regular_in_root(root, path)
    except OSError:
        return []
    try:
        size = os.fstat(fd).st_size
        if size == 0:
            return []  # also a file of procfs, to read from which may act: /proc/kmsg forgets what it has shown
        if size > _LARGEST:
            raise ValueError(f"{path} of the container has {size} bytes; at most {_LARGEST} are read")
        parts: list[bytes] = []
        left = _LARGEST
        while left > 0 and (part := os.read(fd, min(left, 65536))):
            parts.append(part)
            left -= len(part)
    except OSError:
        return []
    finally:
        os.close(fd)
    text = b"".join(parts).decode("utf-8", "surrogateescape")
    return [line.strip() for line in text.split("\n") if line.strip() and not line.startswith("#")]
