"""From `--userns-remap` to maps of ids: users and groups of the host, and the ranges that they may use.

    default          dockremap:dockremap, which is made where there is no such user
    name | uid       its ranges of uids, and those of the group of the same name or number
    user:group       each by name or number

Ranges are lines `name:first:count` of /etc/subuid and /etc/subgid, subuid(5). A user's lines follow each other in a map,
which begins at 0 inside. Source: moby `parseRemappedRoot`, `setupRemappedRoot`, whose words clients know.
"""

from __future__ import annotations

import grp
import pwd
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from wherry.errors import ConfigurationError
from wherry.spec.command import IdMap, IdMaps

DEFAULT: Final = "default"
DEFAULT_USER: Final = "dockremap"
SUBUID: Final = Path("/etc/subuid")
SUBGID: Final = Path("/etc/subgid")
_COUNT: Final = 65536
_FIRST: Final = 100_000
_HIGHEST: Final = (1 << 32) - 2
_MOST_LINES: Final = 340
"""Of a map: user_namespaces(7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A user or group: its ranges are under either."""

    name: str
    number: int


def maps(remap: str) -> IdMaps | None:
    """The maps for a `--userns-remap`; None where it is root itself: that remaps nothing.

    ConfigurationError says what is missing in which file.
    """
    words = remap.split(":")
    if len(words) > 2 or not all(words):
        raise ConfigurationError(f'invalid user/group specification in --userns-remap: "{remap}"')
    if words == [DEFAULT]:
        _have_default_user()
        words = [DEFAULT_USER]
    user = _user(words[0])
    group = _group(words[1]) if len(words) == 2 else _group_of(user, words[0])
    if user.name == "root":
        return None
    return IdMaps(uids=_ranges(SUBUID, user, "uid"), gids=_ranges(SUBGID, group, "gid"))


def _user(word: str) -> Name:
    try:
        found = pwd.getpwuid(int(word)) if word.isdigit() else pwd.getpwnam(word)
    except (KeyError, OverflowError):
        if word.isdigit():
            raise ConfigurationError(f"Uid {word} has no entry in /etc/passwd") from None
        raise ConfigurationError(
            f'Error during uid lookup for "{word}": no such user; "{DEFAULT}" stands for {DEFAULT_USER}'
        ) from None
    return Name(name=found.pw_name, number=found.pw_uid)


def _group(word: str) -> Name:
    try:
        found = grp.getgrgid(int(word)) if word.isdigit() else grp.getgrnam(word)
    except (KeyError, OverflowError):
        if word.isdigit():
            raise ConfigurationError(f"Gid {word} has no entry in /etc/group") from None
        raise ConfigurationError(f'Error during gid lookup for "{word}": no such group') from None
    return Name(name=found.gr_name, number=found.gr_gid)


def _group_of(user: Name, word: str) -> Name:
    return _group(str(user.number) if word.isdigit() else user.name)


def _ranges(file: Path, whose: Name, kind: str) -> tuple[IdMap, ...]:
    found: list[IdMap] = []
    inside = 0
    for number, name, first, count in _lines(file):
        if name not in (whose.name, str(whose.number)):
            continue
        if first == 0 or count == 0 or first + count - 1 > _HIGHEST:
            reason = "holds root of the host" if first == 0 else "is no range of ids"
            raise ConfigurationError(f"{file}:{number}: {name}:{first}:{count} {reason}")
        found.append(IdMap(inside=inside, outside=first, size=count))
        inside += count
    if not found:
        raise ConfigurationError(
            f'Can\'t create ID mappings: No sub{kind} ranges found for user "{whose.name}" in {file}; '
            f"add one: echo {whose.name}:{_FIRST}:{_COUNT} >>{file}"
        )
    if len(found) > _MOST_LINES:
        raise ConfigurationError(
            f"{file}: {len(found)} ranges for {whose.name}; at most {_MOST_LINES} make a map"
        )
    taken = sorted((each.outside, each.size) for each in found)
    for (first, size), (following, _) in pairwise(taken):
        if first + size > following:
            raise ConfigurationError(f"{file}: ranges of {whose.name} overlap at {following}")
    return tuple(found)


def _lines(file: Path) -> list[tuple[int, str, int, int]]:
    """(line, name, first id, count); lines that make no sense are passed over, as shadow's own programs do."""
    try:
        text = file.read_text("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().split(":")
        if (
            len(words) == 3
            and words[0]
            and all(w.isascii() and w.isdigit() and len(w) < 12 for w in words[1:])
        ):
            found.append((number, words[0], int(words[1]), int(words[2])))
    return found


# ---- the user that is made ------------------------------------------------------------------------------------------
def _have_default_user() -> None:
    """Make dockremap, and give it a range of each kind above all that are there, where it has none."""
    try:
        user = pwd.getpwnam(DEFAULT_USER)
    except KeyError:
        _call("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
              "--shell", "/usr/sbin/nologin", DEFAULT_USER)  # fmt: skip
        user = pwd.getpwnam(DEFAULT_USER)
    whose = (DEFAULT_USER, str(user.pw_uid))
    for file, flag in ((SUBUID, "--add-subuids"), (SUBGID, "--add-subgids")):
        lines = _lines(file)
        if not any(name in whose for _, name, _, _ in lines):
            first = max([_FIRST, *(start + count for _, _, start, count in lines)])
            _call("usermod", flag, f"{first}-{first + _COUNT - 1}", DEFAULT_USER)


def _call(*argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        words = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        done, words = None, str(error)
    if done is None or done.returncode:
        raise ConfigurationError(
            f'Error during "{DEFAULT_USER}" user creation: {argv[0]}: {words}; make it yourself, with ranges in '
            f"{SUBUID} and {SUBGID}, or name another user"
        )
