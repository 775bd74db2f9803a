"""Whatever a crash leaves, the next start finds a store that is whole."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.images import Images
from wherry.plugins import Driver
from wherry.testing.images import tar_of
from wherry.testing.storage import mounted

from .conftest import config_of, docker_archive, imported, open_images, saved

_BUSY = """
import io, sys
sys.path.insert(0, sys.argv[2])
from conftest import imported, open_images, saved
from pathlib import Path
from wherry.testing.images import tar_of
images, _ = open_images(Path(sys.argv[1]))
print("open", flush=True)
number = 0
while True:
    number += 1
    name = f"app{number % 5}"
    imported(images, name, **{f"file{i}": str(number) * 1000 for i in range(30)})
    archive = saved(images, name)
    images.remove(name)
    list(images.load(io.BytesIO(archive)))
    images.tag(name, "newest")
    print(name, flush=True)
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_store_killed_at_work_opens_whole(tmp_path: Path, seed: int) -> None:
    """SIGKILL at any moment: every image that is listed is complete, and nothing else is left."""
    busy = subprocess.Popen(
        [sys.executable, "-c", _BUSY, tmp_path, Path(__file__).parent], stdout=subprocess.PIPE, text=True
    )
    assert busy.stdout is not None
    try:
        assert busy.stdout.readline() == "open\n"
        time.sleep(random.Random(seed).uniform(0, 0.4))  # the moment of the kill is what is varied here
    finally:
        busy.kill()
        busy.wait()
        busy.stdout.close()
    images, storage = open_images(tmp_path)
    storage.call("recover")
    chains = set()
    for image in images.list():
        layer = images.top_layer(image.id)
        assert layer is not None
        chains.add(layer)
        with mounted(storage.call("rootfs", layer=layer, writable=False)) as root:
            assert len(os.listdir(root)) == 30
            assert {(root / name).stat().st_size for name in os.listdir(root)} <= {1000, 2000, 3000}
        assert saved(images, image.id)
    assert set(storage.call("owned")) == chains
    blobs = {path.name for path in (tmp_path / "images/blobs/sha256").iterdir()}
    assert blobs == {diff_id.removeprefix("sha256:") for image in images.list() for diff_id in image.layers}
    assert list((tmp_path / "images/tmp").iterdir()) == []
    # And it works on.
    imported(images, "after")


def test_the_store_outlives_the_process(images: Images, reopen: Callable[[], Images]) -> None:
    """Everything that a reader sees is the same after a restart."""
    list(images.load(docker_archive(config_of(tar_of({"a": "1"})), tar_of({"a": "1"}), tags=["a:1", "b:2"])))
    imported(images, "c")
    imported(images)
    following = reopen()
    assert following.list() == images.list()
    assert following.history("c") == images.history("c")
    assert saved(following, "a:1", "c") == saved(images, "a:1", "c")


def test_a_layer_that_was_lost_is_made_again(
    images: Images, storage: Driver, reopen: Callable[[], Images]
) -> None:
    """From the archive that it came as, when a container needs it."""
    image_id = imported(images, "app", file="content")
    layer = images.top_layer(image_id)
    storage.call("remove", layer=layer)
    following = reopen()
    assert following.top_layer(image_id) == layer
    with mounted(storage.call("rootfs", layer=layer, writable=False)) as root:
        assert (root / "file").read_bytes() == b"content"
    assert following.get("app").size == len(b"content")


def test_another_storage_driver_takes_over(tmp_path: Path) -> None:
    """The images are still there after a change of the daemon's driver."""
    images, _ = open_images(tmp_path, "overlay2")
    image_id = imported(images, "app", file="content")
    other, storage = open_images(tmp_path, "vfs")
    layer = other.top_layer(image_id)
    assert storage.call("owned") == [layer]
    assert other.get("app").size == images.get("app").size


def test_a_half_loaded_layer_is_removed(
    images: Images, storage: Driver, tmp_path: Path, reopen: Callable[[], Images]
) -> None:
    """Its intention stands in a file; without a record it is not a layer of an image."""
    half = "ha1f".replace("h", "0") * 16
    storage.call("create", layer=half, parent=None)
    (tmp_path / f"images/layers/overlay2/{half}.loading").touch()
    (tmp_path / "images/tmp/1-1").write_bytes(b"half a spool")
    following = reopen()
    assert not following.owns_layer(half) and storage.call("owned") == []
    assert list((tmp_path / "images/tmp").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 500, b"null", b'{"os": "linux"}'])
def test_a_damaged_document_stops_nothing(
    images: Images, tmp_path: Path, reopen: Callable[[], Images], damage: bytes
) -> None:
    """It is set aside; every other image is there."""
    bad, good = imported(images, "bad"), imported(images, "good")
    path = tmp_path / "images/config/sha256" / bad.removeprefix("sha256:")
    path.write_bytes(damage)
    following = reopen()
    assert [image.id for image in following.list()] == [good]
    assert path.with_suffix(".damaged").exists()
    assert [image.id for image in reopen().list()] == [good]


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"a": 1}', b'{"nonsense": "sha256:0"}', b'{"A B": "x"}']
)
def test_damaged_names_stop_nothing(
    images: Images, tmp_path: Path, reopen: Callable[[], Images], damage: bytes
) -> None:
    """The images are there by their ids, and can be named again."""
    image_id = imported(images, "app")
    (tmp_path / "images/references.json").write_bytes(damage)
    following = reopen()
    assert following.get(image_id).references == []
    following.tag(image_id, "app")
    assert reopen().get("app").id == image_id


def test_a_damaged_record_is_made_again(images: Images, tmp_path: Path, reopen: Callable[[], Images]) -> None:
    """The layer it spoke of is not trusted any more."""
    image_id = imported(images, "app")
    layer = images.top_layer(image_id)
    (tmp_path / f"images/layers/overlay2/{layer}.json").write_bytes(b"{")
    following = reopen()
    assert following.top_layer(image_id) == layer
    assert following.owns_layer(str(layer))


def test_readers_do_not_wait_for_a_load(images: Images) -> None:
    """While somebody sends an archive slowly, everything else goes on."""
    import threading

    imported(images, "there")
    reader, writer = os.pipe()
    archive = tar_of({"a": "1"})
    os.write(writer, archive[:600])
    with open(reader, "rb", buffering=0) as stream:
        loading = threading.Thread(target=lambda: images.import_image(stream, "slow"))
        loading.start()
        try:
            assert images.get("there")
            assert imported(images, "meanwhile")
            assert images.remove("meanwhile")
        finally:
            os.write(writer, archive[600:])
            os.close(writer)
            loading.join(10)
        assert not loading.is_alive()
    assert images.get("slow")


def test_many_hands_at_once(images: Images, storage: Driver) -> None:
    """Imports, loads and removals from several threads end in what each of them was told."""
    from concurrent.futures import ThreadPoolExecutor

    archive = docker_archive(config_of(tar_of({"a": "1"})), tar_of({"a": "1"}), tags=["shared"]).getvalue()

    def work(number: int) -> None:
        for round_ in range(5):
            imported(images, f"own{number}", file=f"{number} {round_}")
            list(images.load(io.BytesIO(archive)))
            images.remove(f"own{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    # A name that was imported again left its image without one; those are what is left besides the shared one.
    assert [image.references for image in images.list()] == [["shared:latest"]]
    assert storage.call("owned") == [images.top_layer(images.get("shared").id)]
