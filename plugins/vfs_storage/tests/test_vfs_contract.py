"""vfs keeps what a storage driver promises, and what it promises alone."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from wherry.spec.storage import Bind
from wherry.testing.storage import (
    BASE,
    CONTAINER,
    OTHER,
    TOP,
    StorageDriverContract,
    hard_link,
    member,
    mounted,
)
from wherry_vfs_storage import VfsStorage


class TestVfs(StorageDriverContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> VfsStorage:
        return VfsStorage(root=tmp_path / "vfs")

    def test_a_layer_is_a_directory(self, driver: VfsStorage) -> None:
        """Its root file system is mounted by a bind."""
        driver.create(layer=BASE, parent=None)
        assert isinstance(driver.rootfs(layer=BASE, writable=True), Bind)

    def test_a_copy_is_whole(self, driver: VfsStorage) -> None:
        """Hard links stay links, holes stay holes, and the copy has everything else too."""
        self.fill(driver, BASE, None, member("one", b"1"), hard_link("two", "one"), member("d/three", uid=5))
        with mounted(driver.rootfs(layer=BASE, writable=True)) as root:
            with (root / "sparse").open("wb") as file:
                file.write(b"begin")
                file.seek(50_000_000)
                file.write(b"end")
        driver.create(layer=CONTAINER, parent=BASE)
        assert self.seen(driver, CONTAINER) == self.seen(driver, BASE)
        with mounted(driver.rootfs(layer=CONTAINER, writable=True)) as root:
            assert (root / "one").stat().st_nlink == 2
            assert (root / "sparse").stat().st_blocks * 512 < 1_000_000

    def test_a_change_that_keeps_size_and_time_is_found(self, driver: VfsStorage) -> None:
        """Whatever a program in the container sets, it cannot set when it did so."""
        self.fill(driver, BASE, None, member("file", b"one"), member("same", b"one"))
        driver.create(layer=CONTAINER, parent=BASE)
        with mounted(driver.rootfs(layer=CONTAINER, writable=True)) as root:
            for name, content in (("file", b"two"), ("same", b"one")):
                before = (root / name).stat()
                (root / name).write_bytes(content)
                os.utime(root / name, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert [change.path for change in driver.changes(layer=CONTAINER)] == ["/file"]

    def test_a_crash_leaves_nothing(self, driver: VfsStorage, tmp_path: Path) -> None:
        """Half-made and half-removed layers are no layers, and the next start deletes them and says so."""
        root = tmp_path / "vfs"
        driver.create(layer=BASE, parent=None)
        (root / f".new-{TOP}-1-1/fs/deep").mkdir(parents=True)
        (root / f".gone-{OTHER}-1-2/fs/deep").mkdir(parents=True)
        following: Any = VfsStorage(root=root)
        assert following.owned() == [BASE]
        assert sorted(following.recover()) == [f"half-made layer {TOP}", f"half-removed layer {OTHER}"]
        end = time.monotonic() + 10
        while os.listdir(root) != [BASE]:
            assert time.monotonic() < end
            time.sleep(0.005)
