"""Paths inside a root that belongs to somebody else never lead out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
