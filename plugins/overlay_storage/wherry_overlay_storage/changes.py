"""What an overlay's upper directory changes against the layers below it, read without mounting anything.

The upper directory is walked; beside it goes, for each of its directories, the list of those lower directories that the
overlay would merge with it (topmost first): that is the kernel's own algorithm, done by hand.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wherry.linux import tree, xattrs
from wherry_overlay_storage.marks import is_opaque, is_whiteout

Lowers = tuple[tuple[int, str], ...]
"""(descriptor of a layer's directory, path below it) of each directory that is merged at one place."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One path that differs. `found`, of what is added or modified, is open until the next difference is asked for."""

    path: str
    kind: Literal["added", "modified", "deleted"]
    found: tree.Found | None = None


@contextmanager
def opened(directories: Sequence[Path]) -> Iterator[list[int]]:
    """The directories as descriptors."""
    with ExitStack() as stack:
        descriptors = []
        for directory in directories:
            descriptors.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            stack.callback(os.close, descriptors[-1])
        yield descriptors


def differences(upper: int, lowers: Sequence[int]) -> Iterator[Difference]:
    """Every difference, a directory before what is in it.

    A directory of the upper layer is there also when only something in it changed, as `docker diff` shows it.
    """
    merged: dict[str, Lowers] = {"": tuple((lower, "") for lower in lowers)}
    for found in tree.walk(upper):
        place, _, name = found.path.rpartition("/")
        below = merged[place]
        under, same = _look_up(below, name)
        if is_whiteout(found.stat):
            if same is not None:
                yield Difference(found.path, "deleted")
            continue
        yield Difference(found.path, "added" if same is None else "modified", found)
        if not found.is_directory:
            continue
        hides = is_opaque(found.parent, found.name)
        if hides or _is_hidden(below):
            # Nothing shows through: what was below and is not made again is deleted, one by one.
            yield from _hidden(found, under)
            under = (*_HIDDEN, *under)
        merged[found.path] = under


_HIDDEN: Lowers = ((-1, ""),)
"""Before the lowers of a directory that shows nothing of them: they are only there to compare with."""


def _is_hidden(lowers: Lowers) -> bool:
    return lowers[:1] == _HIDDEN


def _hidden(found: tree.Found, under: Lowers) -> Iterator[Difference]:
    directory = tree.open_below(found.parent, found.name)
    try:
        here = set(os.listdir(directory))
    finally:
        os.close(directory)
    for name in sorted(_names(under) - here):
        yield Difference(f"{found.path}/{name}", "deleted")


def _names(lowers: Lowers) -> set[str]:
    """The names that are seen in a merged directory."""
    names: set[str] = set()
    gone: set[str] = set()
    for top, path in lowers:
        directory = tree.open_below(top, path)
        try:
            for name in os.listdir(directory):
                if name in names or name in gone:
                    continue
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                (gone if is_whiteout(found) else names).add(name)
        finally:
            os.close(directory)
    return names


def _look_up(lowers: Lowers, name: str) -> tuple[Lowers, os.stat_result | None]:
    """(the lower directories merged at `name`, what is seen there)."""
    merged: list[tuple[int, str]] = []
    seen: os.stat_result | None = None
    for top, place in lowers:
        if top < 0:
            continue
        try:
            directory = tree.open_below(top, place)
        except FileNotFoundError:
            continue
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if is_whiteout(found):
                break
            if seen is None:
                seen = found
            if not stat.S_ISDIR(found.st_mode):
                break
            merged.append((top, f"{place}/{name}" if place else name))
            if is_opaque(directory, name):
                break
        except FileNotFoundError:
            continue
        finally:
            os.close(directory)
    return tuple(merged), seen


def seen_below(lowers: Sequence[int], path: str) -> tuple[os.stat_result, dict[str, bytes]] | None:
    """The directory that the layers below show at `path`, with its extended attributes; None: no directory."""
    under: Lowers = tuple((lower, "") for lower in lowers)
    seen: os.stat_result | None = None
    for name in path.split("/"):
        under, seen = _look_up(under, name)
        if seen is None or not under:
            return None
    if seen is None or not stat.S_ISDIR(seen.st_mode):
        return None
    top, place = under[0]
    parent, _, name = place.rpartition("/")
    directory = tree.open_below(top, parent)
    try:
        return seen, xattrs.read(directory, name)
    finally:
        os.close(directory)
