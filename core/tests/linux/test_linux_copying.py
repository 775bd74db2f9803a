"""Trees copied whole, and into a directory where somebody hostile lives."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from wherry.linux import copying, mounts


def copy(source: Path, target: Path) -> None:
    ends = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, target)]
    try:
        copying.copy_tree(*ends)
    finally:
        for fd in ends:
            os.close(fd)


def looks(path: Path) -> tuple[int, int, int, int]:
    found = path.lstat()
    return found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "dir" / "inner").mkdir(parents=True)
    (top / "dir" / "file").write_text("content")
    (top / "dir" / "file").chmod(0o4751)
    os.chown(top / "dir" / "file", 5, 6)
    (top / "dir" / "inner").chmod(0o1777)
    os.link(top / "dir" / "file", top / "dir" / "inner" / "same")
    (top / "link").symlink_to("/etc/passwd")
    os.mkfifo(top / "pipe", 0o640)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(top / "dir" / "file", "user.mine", b"kept")
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(1, 1_000_000_007), follow_symlinks=False)
    return top


@pytest.mark.parametrize("elsewhere", [False, True], ids=["same-file-system", "another-file-system"])
def test_copy_is_the_same(source: Path, tmp_path: Path, elsewhere: bool) -> None:
    """Kinds, owners, modes, times, attributes and hard links; also from another file system, as an image's overlay is."""
    target = tmp_path / "target"
    target.mkdir()
    kept = True
    if elsewhere:
        fd = mounts.tmpfs()
        kept = keeps_attributes(fd)
        inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        from_there = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        copying.copy_tree(from_there, inner)
        to = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        copying.copy_tree(inner, to)
        for each in (fd, inner, from_there, to):
            os.close(each)
    else:
        copy(source, target)
    paths = sorted(path.relative_to(source) for path in source.rglob("*"))
    assert sorted(path.relative_to(target) for path in target.rglob("*")) == paths
    for path in paths:
        assert looks(target / path) == looks(source / path), path
    assert (target / "dir" / "file").read_text() == "content"
    assert (target / "dir" / "file").samefile(target / "dir" / "inner" / "same")
    assert (target / "link").readlink() == Path("/etc/passwd")
    assert not kept or os.getxattr(target / "dir" / "file", "user.mine") == b"kept"


def keeps_attributes(directory: int) -> bool:
    """Whether a file system keeps user's attributes: a tmpfs does since 6.6."""
    probe = os.open("probe", os.O_WRONLY | os.O_CREAT, dir_fd=directory)
    try:
        os.setxattr(probe, "user.mine", b"")
        return True
    except OSError:
        return False
    finally:
        os.close(probe)
        os.unlink("probe", dir_fd=directory)


def test_what_a_file_system_cannot_keep_is_left_out(source: Path) -> None:
    """Where there are no attributes, the rest is copied all the same."""
    plain = mounts.new("ramfs")
    inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=plain)
    from_there = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
    copying.copy_tree(from_there, inner)
    there = Path(f"/proc/self/fd/{inner}")
    assert looks(there / "dir/file") == looks(source / "dir/file")
    assert (there / "dir/file").read_text() == "content"
    assert os.listxattr(there / "dir/file") == []
    for each in (plain, inner, from_there):
        os.close(each)


def test_nothing_outside_of_the_target_is_touched(source: Path, tmp_path: Path) -> None:
    """Whoever swaps what was made for links as fast as they can gets no file outside written, made, owned or opened up."""
    for number in range(20):
        (source / f"d{number}").mkdir()
        (source / f"d{number}" / "secret").write_text("overwritten")
        (source / f"d{number}" / "secret").chmod(0o666)
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "secret").write_text("secret")
    (outside / "secret").chmod(0o600)
    target = tmp_path / "target"
    target.mkdir()
    ended = threading.Event()

    def attack() -> None:
        while not ended.is_set():
            for number in range(20):
                place = target / f"d{number}"
                with contextlib.suppress(OSError):
                    if place.is_dir() and not place.is_symlink():
                        inner = place / "secret"
                        inner.unlink(missing_ok=True)
                        inner.symlink_to(outside / "secret")
                        place.rename(target / f".aside{number}")
                        place.symlink_to(outside)

    attacker = threading.Thread(target=attack)
    attacker.start()
    won = 0
    try:
        for _ in range(60):
            try:
                copy(source, target)
            except OSError:
                won += 1
            for entry in target.iterdir():
                if entry.is_symlink() or not entry.is_dir():
                    entry.unlink(missing_ok=True)
                else:
                    shutil.rmtree(entry, ignore_errors=True)
    finally:
        ended.set()
        attacker.join()
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert stat.S_IMODE((outside / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700
    assert won, "the attacker was never in time: this proved nothing"
