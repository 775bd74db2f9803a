"""Where the files of a copy go, and what they are called there: docker's rules for `cp`, which are nearly `cp -r`'s.

An archive holds one thing, its *top*, which may be a directory with all below it, or `.`: a directory's contents.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from wherry.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The directory to unpack in, and what the top is to be called there; None: as in the archive."""

    directory: str
    name: str | None = None


def target(path: str, *, exists: bool, is_directory: bool, from_directory: bool) -> Target:
    """Where to put what comes from a directory, or from something else. InvalidRequest, in docker's words."""
    if exists and is_directory:
        return Target(directory=path)
    if exists and from_directory:
        raise InvalidRequest("cannot copy directory")
    if not exists and not from_directory and asserts_directory(path):
        raise InvalidRequest("no such directory")
    directory, name = posixpath.split(_clean(path))
    return Target(directory=directory or ".", name=name)


def renamed(name: str, old: str, new: str) -> str:
    """A name in an archive whose top, `old`, is to be called `new`."""
    if old == "/":
        return f"{new}/{name.lstrip('/')}"
    if name.rstrip("/") == old:
        return new
    return f"{new}/{name[len(old) + 1 :]}" if name.startswith(f"{old}/") else name


def split(text: str) -> tuple[str, str]:
    """(container, path) of `container:path`; ("", path) of what is here: `./a:b` and `/a:b` too."""
    container, colon, path = text.partition(":")
    return (container, path) if colon and not text.startswith(("/", ".")) else ("", text)


def asserts_directory(path: str) -> bool:
    """Whether the path says by its end that it is one of a directory: `/` or `/.`."""
    return path.endswith("/") or posixpath.basename(path) == "."


def base(path: str) -> str:
    """What the top of an archive of this path is called."""
    return posixpath.basename(_clean(path)) or "/"


def _clean(path: str) -> str:
    """Without a `/` at its end; one that ends in `.` keeps that."""
    cleaned = posixpath.normpath(path)
    return f"{cleaned.rstrip('/')}/." if posixpath.basename(path.rstrip("/")) == "." else cleaned
