"""From `--userns-remap` to maps of ids."""

from __future__ import annotations

import grp
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wherry.errors import ConfigurationError
from wherry.spec.command import IdMap
from wherry.userns import ranges

USERS = {"root": 0, "bob": 7, "dockremap": 995, "lonely": 9, "odd": 10}
GROUPS = {"root": 0, "bob": 8, "dockremap": 995, "bobs": 7, "odd": 10}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with users, groups and ranges of its own."""

    def user(key: Any) -> SimpleNamespace:
        return next(
            SimpleNamespace(pw_name=name, pw_uid=uid) for name, uid in USERS.items() if key in (name, uid)
        )

    def group(key: Any) -> SimpleNamespace:
        return next(
            SimpleNamespace(gr_name=name, gr_gid=gid) for name, gid in GROUPS.items() if key in (name, gid)
        )

    def known(look: Any) -> Any:
        def call(key: Any) -> Any:
            try:
                return look(key)
            except StopIteration:
                raise KeyError(key) from None

        return call

    monkeypatch.setattr(pwd, "getpwnam", known(user))
    monkeypatch.setattr(pwd, "getpwuid", known(user))
    monkeypatch.setattr(grp, "getgrnam", known(group))
    monkeypatch.setattr(grp, "getgrgid", known(group))
    monkeypatch.setattr(ranges, "SUBUID", tmp_path / "subuid")
    monkeypatch.setattr(ranges, "SUBGID", tmp_path / "subgid")
    (tmp_path / "subuid").write_text(
        "# comment\nbob:100000:65536\nnonsense\nbob:-1:5\ndockremap:200000:1000\n7:300000:10\nodd:0:10\n"
    )
    (tmp_path / "subgid").write_text("bob:400000:65536\nbobs:500000:3\n995:600000:7\nodd:5:10\nodd:10:10\n")
    return tmp_path


BOB = (IdMap(inside=0, outside=100_000, size=65536), IdMap(inside=65536, outside=300_000, size=10))
DOCKREMAP = (IdMap(inside=0, outside=200_000, size=1000),)


@pytest.mark.parametrize(
    ("remap", "uids", "gids"),
    [
        ("default", DOCKREMAP, (IdMap(inside=0, outside=600_000, size=7),)),
        ("bob", BOB, (IdMap(inside=0, outside=400_000, size=65536),)),
        ("7", BOB, (IdMap(inside=0, outside=500_000, size=3),)),
        ("bob:bobs", BOB, (IdMap(inside=0, outside=500_000, size=3),)),
        ("7:8", BOB, (IdMap(inside=0, outside=400_000, size=65536),)),
        ("dockremap:bob", DOCKREMAP, (IdMap(inside=0, outside=400_000, size=65536),)),
    ],
)
def test_ranges_of_a_user(host: Path, remap: str, uids: tuple[IdMap, ...], gids: tuple[IdMap, ...]) -> None:
    """By name or number; several lines follow each other from 0; a lone number is the group's too, a name its name."""
    found = ranges.maps(remap)
    assert found is not None
    assert (found.uids, found.gids) == (uids, gids)


@pytest.mark.parametrize(
    ("remap", "words"),
    [
        ("a:b:c", 'invalid user/group specification in --userns-remap: "a:b:c"'),
        ("bob:", "invalid user/group specification"),
        ("nobody-here", 'Error during uid lookup for "nobody-here"'),
        ("4711", "Uid 4711 has no entry in /etc/passwd"),
        ("99999999999999999999", "Uid 99999999999999999999 has no entry"),
        ("bob:nobody-here", 'Error during gid lookup for "nobody-here"'),
        ("bob:4711", "Gid 4711 has no entry in /etc/group"),
        ("lonely", 'Error during gid lookup for "lonely"'),
        (
            "lonely:bob",
            'No subuid ranges found for user "lonely" in .*subuid; add one: echo lonely:100000:65536',
        ),
        ("bob:root", 'No subgid ranges found for user "root"'),
        ("odd", r"subuid:7: odd:0:10 holds root of the host"),
        ("bob:odd", "ranges of odd overlap at 10"),
    ],
)
def test_what_is_missing_is_named(host: Path, remap: str, words: str) -> None:
    """Docker's words, and where to look."""
    with pytest.raises(ConfigurationError, match=words):
        ranges.maps(remap)


def test_root_is_not_remapped(host: Path) -> None:
    """To itself, that would be nothing."""
    assert ranges.maps("root") is None
