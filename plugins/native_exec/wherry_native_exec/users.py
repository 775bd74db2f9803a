"""Who a process is: names looked up in the container's own /etc/passwd and /etc/group.

Both files belong to the container and may be anything: a link out, a pipe that blocks, a device, endless, nonsense.
They are opened inside the container's root, must be regular files, and are read up to a bound; a line that makes no
sense is passed over. Source: moby/sys `user.GetExecUser`, whose words clients know.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wherry.errors import StartFailed
from wherry.linux import paths

_LARGEST: Final = 4 << 20
"""Bytes of a file that are read: some 60,000 users."""
_HIGHEST: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Numbers that a process runs with, and where its user is at home."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def look_up(root: int, user: str, more_groups: tuple[str, ...] = ()) -> Identity:
    """The identity for `name|uid[:group|gid]` in the container whose root directory is `root`.

    What is a number is an id, whatever entry is called like it: an image must not choose who `--user 1000` is. StartFailed
    names a user or group that is not there; a number needs no entry. The group itself is among the supplementary ones,
    first, so that setting another does not escape permissions that are denied to it.
    """
    name, _, group = user.partition(":")
    uid, gid, home, known_as = _user(root, name)
    supplementary: list[int] = []
    if group:
        gid = _group(root, group, "unable to find group")
    elif known_as:
        supplementary = [number for _, number, members in _groups(root) if known_as in members]
    supplementary += [_group(root, each, "Unable to find group") for each in more_groups]
    return Identity(uid=uid, gid=gid, groups=tuple(dict.fromkeys([gid, *supplementary])), home=home)


def _user(root: int, name: str) -> tuple[int, int, str, str]:
    """(uid, gid, home, name in passwd or "")."""
    number = _number(name, "0")
    for entry, uid, gid, home in _passwd(root):
        if (entry == name) if number is None else (uid == number):
            return uid, gid, home or "/", entry
    if number is None:
        raise StartFailed(f"unable to find user {name}: no matching entries in passwd file")
    return _in_range(number), 0, "/", ""


def _group(root: int, name: str, complaint: str) -> int:
    number = _number(name)
    if number is not None:
        return _in_range(number)
    for entry, gid, _ in _groups(root):
        if entry == name:
            return gid
    raise StartFailed(f"{complaint} {name}: no matching entries in group file")


def _number(text: str, default: str = "") -> int | None:
    text = text or default
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _in_range(number: int) -> int:
    if number > _HIGHEST:
        raise StartFailed(f"uids and gids must be in range 0-{_HIGHEST}: {number}")
    return number


def _passwd(root: int) -> Iterator[tuple[str, int, int, str]]:
    for line in _lines(root, "/etc/passwd"):
        words = line.split(":")
        if len(words) >= 4 and words[0]:
            uid, gid = _number(words[2]), _number(words[3])
            if uid is not None and gid is not None and uid <= _HIGHEST and gid <= _HIGHEST:
                yield words[0], uid, gid, words[5] if len(words) > 5 else ""


def _groups(root: int) -> Iterator[tuple[str, int, list[str]]]:
    for line in _lines(root, "/etc/group"):
        words = line.split(":")
        if len(words) >= 3 and words[0]:
            gid = _number(words[2])
            if gid is not None and gid <= _HIGHEST:
                yield words[0], gid, words[3].split(",") if len(words) > 3 else []


def _lines(root: int, path: str) -> list[str]:
    """The lines of a file in the container; none where it is missing or no file to be read."""
    try:
        fd = paths.open_regular_in_root(root, path)
    except OSError:
        return []
    try:
        size = os.fstat(fd).st_size
        if size > _LARGEST:
            raise StartFailed(f"{path} of the container has {size} bytes; at most {_LARGEST} are read")
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
