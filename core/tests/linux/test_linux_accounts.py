"""Users of a root whose files lead anywhere; see also the tests of who a container's process is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wherry.linux import accounts, mounts


def test_a_file_that_acts_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passwd file that a container has made a link into its procfs is not read: /proc/kmsg forgets what it has shown."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").touch()
    read = os.read
    reads: list[int] = []

    def watched(descriptor: int, size: int) -> bytes:
        reads.append(stat.S_IFMT(os.fstat(descriptor).st_mode))
        return read(descriptor, size)

    def look() -> accounts.User:
        root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
        try:
            mounts.move_mount(mounts.clone_tree("/proc/version"), tmp_path / "etc" / "passwd")
            monkeypatch.setattr(os, "read", watched)
            return accounts.user(root, "7")
        finally:
            monkeypatch.undo()
            os.close(root)

    assert mounts.apart(look) == accounts.User(uid=7)
    assert reads == []
