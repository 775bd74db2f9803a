"""Import, commit and tag: where images come from."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.errors import InvalidRequest, NotFound
from wherry.images import Images
from wherry.plugins import Driver
from wherry.spec.container import Config
from wherry.testing.images import busybox_tar, tar_of
from wherry.testing.storage import mounted

from .conftest import imported

CONTAINER = "c0de" * 16


def test_a_root_file_system_becomes_an_image(opened: tuple[Images, Driver]) -> None:
    """`docker import`: one layer, mountable, with busybox in it."""
    images, storage = opened
    image_id = images.import_image(
        io.BytesIO(busybox_tar()), "busybox", "from a test", ['CMD ["sh"]', "ENV A=1"]
    )
    image = images.get("busybox")
    assert image.id == image_id and image.references == ["busybox:latest"]
    assert (image.config.cmd, image.config.env, image.comment) == (["sh"], ["A=1"], "from a test")
    assert image.os == "linux" and image.architecture and image.size > 1_000_000
    layer = images.top_layer(image_id)
    assert layer is not None and storage.call("owned") == [layer] and images.owns_layer(layer)
    with mounted(storage.call("rootfs", layer=layer, writable=False)) as root:
        assert os.readlink(root / "bin/sh") == "/bin/busybox"


@pytest.mark.parametrize(
    "compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gzip", "bzip2", "xz"]
)
def test_a_compressed_archive_is_imported(images: Images, compress: Callable[[bytes], bytes]) -> None:
    """However it is compressed, the layer is the same."""
    plain = images.get(images.import_image(io.BytesIO(tar_of({"a": "1"}))))
    packed = images.get(images.import_image(io.BytesIO(compress(tar_of({"a": "1"})))))
    assert plain.layers == packed.layers


def test_a_pipe_is_imported(images: Images) -> None:
    """What cannot be rewound, and comes in small pieces, is read once."""
    reader, writer = os.pipe()
    data = gzip.compress(tar_of({"a": "1" * 10_000}))
    if os.fork() == 0:
        for start in range(0, len(data), 100):
            os.write(writer, data[start : start + 100])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb", buffering=0) as stream:
        assert images.get(images.import_image(stream)).layers
    os.wait()


@pytest.mark.parametrize(
    "archive",
    [
        b"no archive at all" * 100, gzip.compress(b"x" * 3000), gzip.compress(tar_of({"a": "1"}))[:-20],
        b"\x1f\x8b" + os.urandom(1000), tar_of({"../a": "1"}), b"\x28\xb5\x2f\xfd" + b"\0" * 50,
    ],
    ids=["noise", "compressed noise", "cut", "no gzip", "hostile", "zstd"],
)  # fmt: skip
def test_a_bad_archive_leaves_nothing(
    images: Images, storage: Driver, tmp_path: Path, archive: bytes
) -> None:
    """A fault of the sender's, and afterwards no layer, no blob, no file."""
    from wherry.errors import Unsupported, WherryError

    with pytest.raises(WherryError) as caught:
        images.import_image(io.BytesIO(archive), "bad")
    assert isinstance(caught.value, InvalidRequest | Unsupported)
    assert storage.call("owned") == [] and images.list() == []
    assert [path for path in (tmp_path / "images").rglob("*") if path.is_file()] == []


def test_a_bad_name_is_refused_before_the_archive_is_read(images: Images) -> None:
    """Nobody uploads a gigabyte to learn that."""
    archive = io.BytesIO(busybox_tar())
    for name in ("UPPER", "a b", f"x@sha256:{'0' * 64}"):
        with pytest.raises(InvalidRequest):
            images.import_image(archive, name)
    with pytest.raises(InvalidRequest):
        images.import_image(archive, "x", changes=["RUN ls"])
    assert archive.tell() == 0


def test_a_container_becomes_an_image(opened: tuple[Images, Driver]) -> None:
    """`commit`: what the container changed is a layer on top of its image's."""
    images, storage = opened
    base = imported(images, "base", kept="1", gone="2")
    storage.call("create", layer=CONTAINER, parent=images.top_layer(base))
    with mounted(storage.call("rootfs", layer=CONTAINER, writable=True)) as root:
        (root / "gone").unlink()
        (root / "new").write_bytes(b"3")
    image_id = images.commit(CONTAINER, base, Config(cmd=["x"]), reference="made", author="me", comment="why")
    image = images.get("made:latest")
    assert (image.id, image.author, image.comment, image.config.cmd) == (image_id, "me", "why", ["x"])
    assert image.layers[:1] == images.get(base).layers and len(image.layers) == 2
    with mounted(storage.call("rootfs", layer=images.top_layer(image_id), writable=False)) as root:
        assert sorted(os.listdir(root)) == ["kept", "new"]
    assert [step["Id"] for step in images.history("made")] == [image_id, "<missing>"]
    with pytest.raises(NotFound):
        images.commit(CONTAINER, f"sha256:{'0' * 64}", Config())


def test_a_tag_is_one_more_name(images: Images, reopen: Callable[[], Images]) -> None:
    """And a name taken by another image is taken from it."""
    one, other = imported(images, "one"), imported(images, "other")
    images.tag("one", "team/app:2")
    assert images.get("team/app:2").id == one
    images.tag(other, "team/app:2")
    assert images.get("team/app:2").id == other
    assert images.get(one).references == ["one:latest"]
    assert images.get("other").references == ["other:latest", "team/app:2"]
    assert reopen().list() == images.list()
    with pytest.raises(NotFound, match=r"^No such image: nobody:latest$"):
        images.tag("nobody", "x")


def test_an_image_is_found_by_what_users_write(images: Images) -> None:
    """Reference, id with and without `sha256:`, unique prefix; a reference wins."""
    image_id = imported(images, "localhost:5000/team/app:1")
    digits = image_id.removeprefix("sha256:")
    for name in ("localhost:5000/team/app:1", image_id, digits, digits[:12], image_id[:20], digits[:3]):
        assert images.get(name).id == image_id
    for name, shown in (("app", "app:latest"), ("team/app:1", "team/app:1"), ("sha256:" + "0" * 64, None)):
        with pytest.raises(NotFound) as caught:
            images.get(name)
        assert str(caught.value) == f"No such image: {shown or name}"
    for name in ("", "A B", "UPPER"):
        with pytest.raises(InvalidRequest):
            images.get(name)


def test_images_are_listed_newest_first(images: Images) -> None:
    """With docker's filters; an unknown one is refused."""
    first = images.import_image(io.BytesIO(tar_of({"a": "1"})), "a/first:1", changes=["LABEL x=1 y=2"])
    second = images.import_image(io.BytesIO(tar_of({"a": "2"})), "second")
    nameless = images.import_image(io.BytesIO(tar_of({"a": "3"})))

    def ids(**filters: list[str]) -> list[str]:
        return [image.id for image in images.list(filters=filters)]

    assert ids() == [nameless, second, first]
    assert ids(dangling=["true"]) == [nameless]
    assert ids(dangling=["false"]) == [second, first]
    assert (
        ids(reference=["*/first"])
        == ids(reference=["a/*:1"])
        == ids(label=["x"])
        == ids(label=["x=1", "y"])
        == [first]
    )
    assert ids(label=["x=2"]) == []
    assert ids(before=["second"]) == [first] and ids(since=["second"]) == [nameless]
    assert ids(until=["2100-01-01T00:00:00Z"]) == ids() and ids(until=["1"]) == []
    for wrong in ({"size": ["1"]}, {"dangling": ["maybe"]}, {"until": ["soon"]}):
        with pytest.raises(InvalidRequest, match="invalid filter"):
            images.list(filters=wrong)


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ("CMD echo hi", "cmd", ["/bin/sh", "-c", "echo hi"]),
        ('cmd ["a", "b"]', "cmd", ["a", "b"]),
        ('ENTRYPOINT ["/x"]', "entrypoint", ["/x"]),
        ("ENV a=1 b='2 3'", "env", ["a=1", "b=2 3"]),
        ("ENV a b c", "env", ["a=b c"]),
        (
            "EXPOSE 80 53/udp 8000-8001",
            "exposed_ports",
            {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}},
        ),
        ('LABEL "a.b"="c d"', "labels", {"a.b": "c d"}),
        ("USER me:us", "user", "me:us"),
        ("WORKDIR a/../b", "working_dir", "/b"),
        ("VOLUME /a /b", "volumes", {"/a": {}, "/b": {}}),
        ('VOLUME ["/a b"]', "volumes", {"/a b": {}}),
        ("STOPSIGNAL SIGINT", "stop_signal", "SIGINT"),
        ("ONBUILD RUN x", "on_build", ["RUN x"]),
    ],
)
def test_a_change_sets_configuration(images: Images, change: str, field: str, value: object) -> None:
    """The instructions of `--change`."""
    image = images.get(images.import_image(io.BytesIO(tar_of({"a": "1"})), changes=[change]))
    assert getattr(image.config, field) == value


@pytest.mark.parametrize(
    "change", ["", "RUN x", "CMD", "EXPOSE x", "EXPOSE 0", "EXPOSE 99999", "ENV a", "LABEL a='b"]
)
def test_a_bad_change_is_refused(images: Images, change: str) -> None:
    """InvalidRequest, before anything is made."""
    with pytest.raises(InvalidRequest):
        images.import_image(io.BytesIO(tar_of({"a": "1"})), changes=[change])
    assert images.list() == []
