"""Mounts by descriptor: made, attached, changed, and gone when closed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wherry.linux import mounts


def listing(fd: int) -> list[str]:
    return sorted(os.listdir(fd))


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    for name in ("top", "bottom", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "top" / "both").write_text("top")
    (tmp_path / "bottom" / "both").write_text("bottom")
    (tmp_path / "bottom" / "below").write_text("")
    return tmp_path


@pytest.mark.parametrize("one_by_one", [None, False], ids=["as-this-kernel-can", "as-before-6.7"])
def test_overlay(layers: Path, monkeypatch: pytest.MonkeyPatch, one_by_one: bool | None) -> None:
    """Layers topmost first, by either way; nothing of it is in the mount table."""
    monkeypatch.setattr(mounts, "_lowers_one_by_one", one_by_one)
    fd = mounts.overlay([layers / "top", layers / "bottom"], layers / "upper", layers / "work", ["index=on"])
    try:
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        assert listing(root) == ["below", "both"]
        assert Path(f"/proc/self/fd/{root}/both").read_text() == "top"
        Path(f"/proc/self/fd/{root}/new").write_text("")
        os.close(root)
    finally:
        os.close(fd)
    assert (layers / "upper" / "new").exists()
    assert str(layers) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("one_by_one", [None, False], ids=["as-this-kernel-can", "as-before-6.7"])
def test_overlay_of_what_is_not_there(
    layers: Path, monkeypatch: pytest.MonkeyPatch, one_by_one: bool | None
) -> None:
    """The error names the layer."""
    monkeypatch.setattr(mounts, "_lowers_one_by_one", one_by_one)
    with pytest.raises(FileNotFoundError, match="missing"):
        mounts.overlay([layers / "missing"], None, None)


@pytest.mark.parametrize("one_by_one", [None, False], ids=["as-this-kernel-can", "as-before-6.7"])
def test_many_layers_with_long_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_by_one: bool | None
) -> None:
    """Neither the number of layers nor the length of their paths is bounded by what one option may hold."""
    monkeypatch.setattr(mounts, "_lowers_one_by_one", one_by_one)
    lowers = []
    for number in range(60):
        lower = tmp_path / ("x" * 200) / f"{'y' * 90}:{number}"
        lower.mkdir(parents=True)
        (lower / str(number)).write_text("")
        lowers.append(lower)
    fd = mounts.overlay(lowers, None, None)
    try:
        root = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        assert len(os.listdir(root)) == 60
        os.close(root)
    finally:
        os.close(fd)


def test_attributes() -> None:
    """Words of mount(8); an unknown one is named."""
    assert mounts.attributes(["ro", "nosuid", "rw", "noatime"]) == (
        mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOATIME,
        mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_ATIME,
    )
    with pytest.raises(ValueError, match="fancy"):
        mounts.attributes(["fancy"])


def test_the_kernels_words() -> None:
    """An option that a file system does not know is named in the error."""
    with pytest.raises(OSError, match="nonsense"):
        mounts.new("tmpfs", [("nonsense", "1")])


def test_read_only(tmp_path: Path) -> None:
    """A clone can be made read-only while its source is not."""
    fd = mounts.clone_tree(tmp_path)
    try:
        mounts.mount_setattr(fd, add=mounts.MOUNT_ATTR_RDONLY)
        with pytest.raises(OSError, match="Read-only"):
            os.mkdir("x", dir_fd=fd)
        (tmp_path / "x").mkdir()
    finally:
        os.close(fd)
