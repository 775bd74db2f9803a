"""The words of --tmpfs and of TmpfsOptions, as the kernel is asked for them."""

from __future__ import annotations

import pytest

from wherry.errors import InvalidRequest
from wherry.spec.container import TmpfsOptions
from wherry.volumes.tmpfs import parse, words_of


@pytest.mark.parametrize(
    ("words", "flags", "data", "read_only"),
    [
        ("", "noexec nosuid nodev", "", False),
        ("defaults,rw", "noexec nosuid nodev", "", False),
        ("exec", "nosuid nodev", "", False),
        ("exec,suid,dev", "", "", False),
        ("exec,noexec", "nosuid nodev noexec", "", False),
        ("noexec,exec", "nosuid nodev", "", False),
        ("ro", "noexec nosuid nodev", "", True),
        ("ro,rw", "noexec nosuid nodev", "", False),
        ("size=1m,mode=1770,uid=5,gid=6,nr_inodes=9", "noexec nosuid nodev", "size=1m,mode=1770,uid=5,gid=6,nr_inodes=9",
         False),
        ("size=1m,size=2m", "noexec nosuid nodev", "size=2m", False),
        ("noatime,strictatime", "noexec nosuid nodev strictatime", "", False),
        ("sync,nodiratime", "noexec nosuid nodev nodiratime", "sync", False),
    ],
)  # fmt: skip
def test_words(words: str, flags: str, data: str, read_only: bool) -> None:
    """The last about one thing counts; what nobody says is noexec, nosuid, nodev."""
    parsed = parse(words)
    assert (" ".join(parsed.flags), parsed.data, parsed.read_only) == (flags, data, read_only)


def test_propagation_is_a_word_too() -> None:
    assert parse("shared,rslave").propagation == "rslave"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("bogus", '["bogus"]'), ("bogus=1", '["bogus" "1"]'), ("size", '["size"]'), ("exec=1", '["exec" "1"]'),
        ("remount", '["remount"]'), ("bind", '["bind"]'), ("lowerdir=/etc", '["lowerdir" "/etc"]'),
        ("usrquota", '["usrquota"]'), ("source=x", '["source" "x"]'),
    ],
)  # fmt: skip
def test_unknown_words(words: str, shown: str) -> None:
    """Refused in Docker's words; no option of another file system, and none that changes a mount, gets through."""
    with pytest.raises(InvalidRequest) as caught:
        parse(words)
    assert str(caught.value) == f"invalid tmpfs option {shown}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (None, ""),
        (TmpfsOptions(size_bytes=1 << 20), "size=1m"),
        (TmpfsOptions(size_bytes=(1 << 20) + 1), "size=1048577"),
        (TmpfsOptions(size_bytes=3 << 10, mode=0o1777), "mode=1777,size=3k"),
        (TmpfsOptions(options=[["exec"]]), "exec"),
    ],
)
def test_options(options: TmpfsOptions | None, words: str) -> None:
    assert words_of(options, read_only=False) == words
