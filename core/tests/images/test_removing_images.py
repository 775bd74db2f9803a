"""What `docker rmi` answers, and what is left."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from wherry.errors import Conflict, NotFound
from wherry.images import Images
from wherry.plugins import Driver
from wherry.testing.images import tar_of

from .conftest import config_of, docker_archive, imported

CONTAINER = "c0de" * 16
ONE, TWO, THREE = tar_of({"one": "1"}), tar_of({"two": "2"}), tar_of({"three": "3"})


def used(image_id: str, running: bool = False) -> Callable[[str], Sequence[tuple[str, bool]]]:
    return lambda asked: [(CONTAINER, running)] if asked == image_id else []


def test_a_name_is_taken_away_before_the_image(images: Images, storage: Driver, tmp_path: Path) -> None:
    """As long as it has another name; with the last one the image goes, and all its files."""
    image_id = imported(images, "one")
    images.tag("one", "two:2")
    layer = images.top_layer(image_id)
    assert images.remove("one") == [{"Untagged": "one:latest"}]
    assert images.get(image_id).references == ["two:2"]
    assert images.remove("two:2") == [
        {"Untagged": "two:2"}, {"Deleted": image_id}, {"Deleted": f"sha256:{layer}"}
    ]  # fmt: skip
    with pytest.raises(NotFound):
        images.get(image_id)
    assert storage.call("owned") == []
    assert [path.name for path in (tmp_path / "images").rglob("*") if path.is_file()] == ["references.json"]


def test_by_id_all_names_go(images: Images) -> None:
    """If there are several, only by force."""
    image_id = imported(images, "one")
    images.tag("one", "two:2")
    with pytest.raises(Conflict) as caught:
        images.remove(image_id[7:19])
    assert str(caught.value) == (
        f"conflict: unable to delete {image_id[7:19]} (must be forced) - image is referenced in multiple repositories"
    )
    done = images.remove(image_id[7:19], force=True)
    assert done[:3] == [{"Untagged": "one:latest"}, {"Untagged": "two:2"}, {"Deleted": image_id}]


def test_an_image_in_use_is_kept(images: Images) -> None:
    """Docker's words for a stopped and a running container, by name and by id."""
    image_id = imported(images, "app")
    digits = image_id[7:19]
    for name, running, words in (
        ("app", False, f'conflict: unable to remove repository reference "app" (must force) - container '
                       f"{CONTAINER[:12]} is using its referenced image {digits}"),
        (digits, False, f"conflict: unable to delete {digits} (must be forced) - "
                        f"image is being used by stopped container {CONTAINER[:12]}"),
        (digits, True, f"conflict: unable to delete {digits} (cannot be forced) - "
                       f"image is being used by running container {CONTAINER[:12]}"),
    ):  # fmt: skip
        with pytest.raises(Conflict) as caught:
            images.remove(name, in_use=used(image_id, running))
        assert str(caught.value) == words
    with pytest.raises(Conflict, match="cannot be forced"):
        images.remove(digits, force=True, in_use=used(image_id, running=True))
    assert images.get("app").id == image_id


def test_by_force_a_running_container_loses_the_name_only(images: Images) -> None:
    """The image stays, without a name."""
    image_id = imported(images, "app")
    done = images.remove("app", force=True, in_use=used(image_id, running=True))
    assert done == [{"Untagged": "app:latest"}]
    assert images.get(image_id).references == []


def test_a_stopped_container_keeps_its_layers(
    images: Images, storage: Driver, reopen: Callable[[], Images]
) -> None:
    """By force the image goes, and the container can still start, also after a restart; then the layers go too."""
    image_id = imported(images, "app")
    layer = images.top_layer(image_id)
    storage.call("create", layer=CONTAINER, parent=layer)
    done = images.remove("app", force=True, in_use=used(image_id))
    assert {"Deleted": image_id} in done
    with pytest.raises(NotFound):
        images.get(image_id)
    other = imported(images, "other", other="1")
    images.remove(other, in_use=used(image_id))
    following = reopen()
    assert layer in storage.call("owned") and following.owns_layer(str(layer))
    following.sweep(used(image_id))
    assert layer in storage.call("owned")
    storage.call("remove", layer=CONTAINER)
    following.sweep(lambda image: [])
    assert storage.call("owned") == []


def test_a_removed_image_can_come_back(images: Images, reopen: Callable[[], Images]) -> None:
    """Loaded again while a container still stands on its layers, it is an image like any other."""
    archive = docker_archive(config_of(ONE), ONE, tags=["app"])
    list(images.load(archive))
    image_id = images.get("app").id
    images.remove("app", force=True, in_use=used(image_id))
    archive.seek(0)
    list(images.load(archive))
    assert images.get("app").id == image_id
    following = reopen()
    following.sweep(lambda image: [])
    assert following.get("app").id == image_id and following.top_layer(image_id)


def test_shared_layers_stay(images: Images, storage: Driver) -> None:
    """Until the last image that has them."""
    for name, layers in (("a", [ONE]), ("ab", [ONE, TWO]), ("abc", [ONE, TWO, THREE])):
        list(images.load(docker_archive(config_of(*layers), *layers, tags=[name])))
    assert len(storage.call("owned")) == 3
    removed = images.remove("ab")
    assert [entry for entry in removed if "Deleted" in entry] == [{"Deleted": removed[1]["Deleted"]}]
    assert len(storage.call("owned")) == 3
    images.remove("abc")
    assert storage.call("owned") == [images.top_layer(images.get("a").id)]
    images.remove("a")
    assert storage.call("owned") == []


def test_layers_go_topmost_first(images: Images) -> None:
    """As docker lists them."""
    list(images.load(docker_archive(config_of(ONE, TWO), ONE, TWO, tags=["app"])))
    image_id = images.get("app").id
    top = images.top_layer(image_id)
    done = images.remove("app")
    assert done[2] == {"Deleted": f"sha256:{top}"} and len(done) == 4


def test_an_unknown_image_is_not_found(images: Images) -> None:
    """In docker's words."""
    images.import_image(io.BytesIO(tar_of({"a": "1"})))
    with pytest.raises(NotFound, match=r"^No such image: app:latest$"):
        images.remove("app")
