"""Users are looked up in files that may hold anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.errors import StartFailed
from wherry_native_exec.users import Identity, look_up

Fill = Callable[[bytes, bytes], int]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Fill]:
    (tmp_path / "etc").mkdir()
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)

    def fill(passwd: bytes, group: bytes) -> int:
        (tmp_path / "etc" / "passwd").write_bytes(passwd)
        (tmp_path / "etc" / "group").write_bytes(group)
        return fd

    yield fill
    os.close(fd)


PASSWD = b"# comment\nroot:x:0:0:r:/root:/bin/sh\n\nbob:x:7:8::/home/bob\nshort:x:9\n5:x:0:0::/five:\nbob:x:99:99::/other:\n"
GROUP = b"wheel:x:10:bob,eve\nempty:x:11:\nbobs:x:8:bob\nbad:x:y:bob\n77:x:0:\n"


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("", (), Identity(groups=(0,), home="/root")),
        ("bob", (), Identity(uid=7, gid=8, groups=(8, 10), home="/home/bob")),
        ("7", (), Identity(uid=7, gid=8, groups=(8, 10), home="/home/bob")),
        ("5", (), Identity(uid=5, gid=0, groups=(0,), home="/")),
        ("5:77", (), Identity(uid=5, gid=77, groups=(77,), home="/")),
        ("bob:", (), Identity(uid=7, gid=8, groups=(8, 10), home="/home/bob")),
        (":wheel", (), Identity(uid=0, gid=10, groups=(10,), home="/root")),
        ("1234:empty", ("wheel", "77", "77"), Identity(uid=1234, gid=11, groups=(11, 10, 77))),
    ],
)
def test_look_up(root: Fill, user: str, groups: tuple[str, ...], expected: Identity) -> None:
    """The first entry that matches by name or number is the user; an entry whose name is a number is nobody's."""
    assert look_up(root(PASSWD, GROUP), user, groups) == expected


@pytest.mark.parametrize(
    "user", ["short", "nobody", "-1", "0x10", "bob:nogroup", "2147483648", "1:2147483648", "٣"]
)
def test_refused(root: Fill, user: str) -> None:
    """What is not there, and no number, is refused."""
    with pytest.raises(StartFailed):
        look_up(root(PASSWD, GROUP), user)


def test_too_large(root: Fill) -> None:
    """A file larger than the bound is refused by its size, not read."""
    fd = root(b"", b"")
    os.truncate(f"/proc/self/fd/{fd}/etc/passwd", 1 << 40)
    with pytest.raises(StartFailed, match="at most"):
        look_up(fd, "bob")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.binary(max_size=200), st.text(max_size=12))
def test_any_bytes(root: Fill, passwd: bytes, group: bytes, user: str) -> None:
    """Whatever the files hold, there is an identity with numbers in range, or a sentence."""
    try:
        found = look_up(root(passwd, group), user)
    except StartFailed:
        return
    assert all(0 <= number < 1 << 31 for number in (found.uid, found.gid, *found.groups))
