"""overlay2 keeps what a storage driver promises, and what it promises alone."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import Unsupported
from wherry.spec.storage import Overlay
from wherry.testing.storage import (
    BASE,
    CONTAINER,
    OTHER,
    TOP,
    StorageDriverContract,
    archive,
    directory,
    member,
    mounted,
)
from wherry_overlay_storage import OverlayStorage


def until(done: Any, deadline: float = 10.0) -> None:
    """Wait for what a thread of the driver does."""
    end = time.monotonic() + deadline
    while not done():
        assert time.monotonic() < end
        time.sleep(0.005)


class TestOverlay(StorageDriverContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> OverlayStorage:
        return OverlayStorage(root=tmp_path / "overlay2")

    def test_nothing_is_copied(self, driver: OverlayStorage) -> None:
        """A container's layer is empty, whatever it stands on."""
        self.fill(driver, BASE, None, member("big", b"x" * 1_000_000))
        driver.create(layer=CONTAINER, parent=BASE)
        rootfs = driver.rootfs(layer=CONTAINER, writable=True)
        assert isinstance(rootfs, Overlay) and rootfs.upper is not None
        assert list(rootfs.upper.iterdir()) == []

    def test_no_redirect_is_followed(self, driver: OverlayStorage) -> None:
        """The mount says so to the kernel, whatever its defaults are."""
        driver.create(layer=BASE, parent=None)
        rootfs = driver.rootfs(layer=BASE, writable=True)
        assert {"redirect_dir=nofollow", "metacopy=off"} <= set(rootfs.options)

    def test_removed_layers_leave_the_disk(self, driver: OverlayStorage, tmp_path: Path) -> None:
        """Removal is a rename; a thread deletes what is aside."""
        self.fill(driver, BASE, None, *(member(f"d{number % 7}/f{number}") for number in range(500)))
        driver.remove(layer=BASE)
        until(lambda: not [name for name in os.listdir(tmp_path / "overlay2") if name != "nothing"])

    def test_a_crash_leaves_nothing(self, driver: OverlayStorage, tmp_path: Path) -> None:
        """Half-made and half-removed layers are no layers, and the next start deletes them and says so."""
        root = tmp_path / "overlay2"
        driver.create(layer=BASE, parent=None)
        (root / f".new-{TOP}-1-1/diff/deep").mkdir(parents=True)
        (root / f".gone-{OTHER}-1-2/diff/deep").mkdir(parents=True)
        following = OverlayStorage(root=root)
        assert following.owned() == [BASE]
        assert sorted(following.recover()) == [f"half-made layer {TOP}", f"half-removed layer {OTHER}"]
        until(lambda: os.listdir(root) == [BASE])

    def test_a_file_system_that_cannot_is_named(self, tmp_path: Path) -> None:
        """An overlay on an overlay's upper directory: Unsupported, with what to do."""
        lower, upper, work = tmp_path / "lower", tmp_path / "upper", tmp_path / "work"
        for path in (lower, upper, work):
            path.mkdir()
        with mounted(Overlay(lowers=(lower,), upper=upper, work=work)) as root:
            driver = OverlayStorage(root=root / "storage")
            with pytest.raises(Unsupported, match="vfs"):
                driver.status()
            assert os.listdir(root / "storage") == []

    def test_many_layers_are_one_root(self, driver: OverlayStorage) -> None:
        """A hundred layers, each with a file, are mounted together."""
        parent = None
        for number in range(100):
            layer = f"{number:064x}"
            self.fill(driver, layer, parent, member(f"file{number}", b"x"))
            parent = layer
        assert len(self.seen(driver, f"{99:064x}")) == 101

    def test_an_opaque_directory_below_another(self, driver: OverlayStorage) -> None:
        """What an opaque directory hides at any depth is told as deleted, once."""
        self.fill(driver, BASE, None, member("d/sub/old"), member("d/sub/same"), member("d/file"))
        self.fill(
            driver,
            TOP,
            BASE,
            directory("d"),
            member("d/.wh..wh..opq"),
            directory("d/sub"),
            member("d/sub/same", b"2"),
        )
        assert [(change.path, change.kind) for change in driver.changes(layer=TOP)] == [
            ("/d", "modified"), ("/d/file", "deleted"), ("/d/sub", "modified"), ("/d/sub/old", "deleted"),
            ("/d/sub/same", "modified"),
        ]  # fmt: skip
        buffer = io.BytesIO()
        driver.diff(layer=TOP, archive=buffer)
        driver.create(layer=OTHER, parent=BASE)
        buffer.seek(0)
        driver.apply(layer=OTHER, archive=buffer)
        assert (
            set(self.seen(driver, OTHER)) == set(self.seen(driver, TOP)) == {".", "d", "d/sub", "d/sub/same"}
        )

    def test_creating_is_cheap(self, driver: OverlayStorage) -> None:
        """On the path of `run`: well below a millisecond (0.1 ms measured; the bound forgives a busy machine)."""
        driver.create(layer=BASE, parent=None)
        driver.apply(layer=BASE, archive=archive(member("x")))
        times = []
        for number in range(50):
            layer = f"{number:064x}"
            begin = time.perf_counter()
            driver.create(layer=layer, parent=BASE)
            driver.rootfs(layer=layer, writable=True)
            driver.remove(layer=layer)
            times.append(time.perf_counter() - begin)
        assert sorted(times)[10] < 0.002
