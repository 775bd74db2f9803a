"""Paths inside a root that belongs to somebody else never lead out of it."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inotify_simple import INotify, flags

from wherry.linux import paths


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root").mkdir()
    fd = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("link", "target", "path", "made"),
    [
        ("plain", "nothing", "/a/b", "a/b"),
        ("out", "/outside", "/out/x", "outside/x"),
        ("up", "../../../outside", "/up/x", "outside/x"),
        ("chain", "/second/third", "/chain/x", "second/third/x"),
        ("dots", "nothing", "/a/../b/./c", "b/c"),
    ],
)
def test_directories_are_made_inside(
    tmp_path: Path, root: int, link: str, target: str, path: str, made: str
) -> None:
    """Links that dangle are followed as the container would, and what they name is made inside."""
    os.symlink(target, link, dir_fd=root)
    paths.make_directories_in_root(root, path)
    assert (tmp_path / "root" / made).is_dir()
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_loop_of_links_is_refused(root: int) -> None:
    """A link to itself is an error, and soon."""
    os.symlink("loop", "loop", dir_fd=root)
    with pytest.raises(OSError, match="symbolic links"):
        paths.make_directories_in_root(root, "/loop/x")
    with pytest.raises(OSError, match="symbolic links"):
        paths.make_file_in_root(root, "/loop")


def test_a_file_in_the_way(root: int) -> None:
    """A file where a directory is wanted stays as it is."""
    os.close(paths.make_file_in_root(root, "/file"))
    with pytest.raises(NotADirectoryError):
        paths.make_directories_in_root(root, "/file/x")


def test_files_are_made_where_links_point(tmp_path: Path, root: int) -> None:
    """A dangling link to a file makes that file; one to a file of the host makes one inside."""
    os.symlink("../../outside/file", "link", dir_fd=root)
    os.close(paths.make_file_in_root(root, "/link"))
    assert (tmp_path / "root" / "outside" / "file").is_file()
    assert list((tmp_path / "outside").iterdir()) == []


def test_what_is_no_file_is_not_even_opened(tmp_path: Path, root: int) -> None:
    """A pipe's writer would wake, a device would act; links of /proc are not followed."""
    os.mkfifo(tmp_path / "root" / "pipe")
    os.mknod(tmp_path / "root" / "device", stat.S_IFCHR | 0o600, os.makedev(10, 130))
    os.symlink("/proc/self/exe", "link", dir_fd=root)
    os.mkdir("directory", dir_fd=root)
    (tmp_path / "root" / "file").touch()
    with INotify() as watch:
        watch.add_watch(tmp_path / "root", flags.OPEN)
        for name in ("pipe", "device", "directory", "link", "nothing"):
            with pytest.raises(OSError):
                paths.open_regular_in_root(root, name)
        os.close(paths.open_regular_in_root(root, "file"))
        assert [event.name for event in watch.read(timeout=0)] == ["file"]


def test_a_lease_does_not_hold_up(tmp_path: Path, root: int) -> None:
    """Who owns a file may ask to be heard before it is opened, and have 45 s for his answer: we do not wait."""
    (tmp_path / "root" / "file").write_text("text")
    with (tmp_path / "root" / "file").open("r+") as held:
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        try:
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            with pytest.raises(BlockingIOError):
                paths.open_regular_in_root(root, "/file")
        finally:
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            signal.signal(signal.SIGIO, before)
    fd = paths.open_regular_in_root(root, "/file")
    assert os.read(fd, 10) == b"text"
    os.close(fd)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["a", "b", "..", ".", "", "link", "abs"]), max_size=8))
def test_nothing_leads_out(tmp_path: Path, root: int, words: list[str]) -> None:
    """Whatever the words, what is opened or made lies inside."""
    for name, target in (("link", "../.."), ("abs", "/")):
        if name not in os.listdir(tmp_path / "root"):
            os.symlink(target, name, dir_fd=root)
    fd = paths.open_directory_in_root(root, "/".join(words))
    try:
        assert os.readlink(f"/proc/self/fd/{fd}").startswith(str(tmp_path / "root"))
    finally:
        os.close(fd)
