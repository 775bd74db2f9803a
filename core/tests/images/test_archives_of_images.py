"""Load and save: archives that others write are read, and what is written others read."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import InvalidRequest, NotFound
from wherry.images import Images
from wherry.plugins import Driver
from wherry.testing.images import busybox_tar, tar_of

from .conftest import config_of, docker_archive, imported, members, oci_archive, open_images, saved

ONE, TWO = tar_of({"one": "1"}), tar_of({"two": "2", ".wh.one": ""})
PEERS = not os.environ.get("WHERRY_NO_PEERS")


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def elsewhere(tmp_path: Path) -> Images:
    """Another engine's images."""
    return open_images(tmp_path / "elsewhere")[0]


def test_what_is_saved_is_loaded(opened: tuple[Images, Driver], elsewhere: Images) -> None:
    """The same ids and names on another engine, whatever driver it has."""
    images, _ = opened
    image_id = images.import_image(io.BytesIO(busybox_tar()), "busybox")
    images.tag("busybox", "team/app:2")
    lines = list(elsewhere.load(io.BytesIO(saved(images, "busybox", "team/app:2"))))
    assert lines == ["Loaded image: busybox:latest", "Loaded image: team/app:2"]
    assert elsewhere.get(image_id).references == ["busybox:latest", "team/app:2"]
    assert elsewhere.get(image_id).size == images.get(image_id).size
    assert saved(elsewhere, "busybox", "team/app:2") == saved(images, "busybox", "team/app:2")


def test_a_repository_without_a_tag_means_all(images: Images, elsewhere: Images) -> None:
    """`docker save app` has every tag of it; by id it has none."""
    image_id = imported(images, "app:1")
    images.tag(image_id, "app:2")
    images.tag(image_id, "other")
    assert len(list(elsewhere.load(io.BytesIO(saved(images, "app"))))) == 2
    assert json.loads(members(saved(images, image_id))["manifest.json"])[0]["RepoTags"] is None
    assert list(elsewhere.load(io.BytesIO(saved(images, image_id)))) == [f"Loaded image ID: {image_id}"]


def test_saving_what_is_not_there_writes_nothing(images: Images) -> None:
    """NotFound before the first byte."""
    imported(images, "here")
    buffer = io.BytesIO()
    with pytest.raises(NotFound, match="No such image: nowhere:latest"):
        images.save(["here", "nowhere"], buffer)
    assert buffer.getvalue() == b""


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_docker_archive_is_loaded(images: Images, pack: Callable[[bytes], bytes]) -> None:
    """As docker wrote them for ten years."""
    config = config_of(ONE, TWO, config={"Cmd": ["x"], "Unknown": {"y": 1}}, unknown=True)
    archive = docker_archive(config, ONE, TWO, tags=["app:1", "quay.io/team/app:2"])
    lines = list(images.load(io.BytesIO(pack(archive.getvalue()))))
    assert lines == ["Loaded image: app:1", "Loaded image: quay.io/team/app:2"]
    image = images.get("app:1")
    assert image.config.cmd == ["x"] and len(image.layers) == 2


def test_an_archive_with_links_for_layers_is_loaded(images: Images) -> None:
    """docker wrote a link where a layer came twice."""
    config = config_of(ONE, ONE)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (("c.json", config), ("a/layer.tar", ONE)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("b/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../a/layer.tar"
        tar.addfile(link)
        manifest = json.dumps([{"Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"]}]).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(manifest)
        tar.addfile(info, io.BytesIO(manifest))
    buffer.seek(0)
    (line,) = images.load(buffer)
    assert line.startswith("Loaded image ID: sha256:")


@pytest.mark.parametrize("compress", [True, False], ids=["gzip", "plain"])
def test_an_oci_layout_is_loaded(images: Images, compress: bool) -> None:
    """With its name, if it says one that is one."""
    archive = oci_archive(config_of(ONE, TWO), ONE, TWO, name="docker.io/library/app:1", compress=compress)
    assert list(images.load(archive)) == ["Loaded image: app:1"]
    (line,) = images.load(oci_archive(config_of(TWO), TWO, name="Not A Name"))
    assert line.startswith("Loaded image ID: sha256:")


def test_a_name_that_is_taken_moves(images: Images) -> None:
    """The old image stays, without it; docker's line says so."""
    old = imported(images, "app:1")
    lines = list(images.load(docker_archive(config_of(ONE), ONE, tags=["app:1"])))
    assert lines == [
        f"The image app:1 already exists, renaming the old one with ID {old} to empty string",
        "Loaded image: app:1",
    ]
    assert images.get(old).references == []


def test_layers_are_shared(images: Images, storage: Driver) -> None:
    """Two images on one base have its layer once."""
    list(images.load(docker_archive(config_of(ONE), ONE, tags=["base"])))
    list(images.load(docker_archive(config_of(ONE, TWO), ONE, TWO, tags=["top"])))
    assert len(storage.call("owned")) == 2


@pytest.mark.skipif(not PEERS, reason="no peers wanted")
def test_skopeo_reads_what_is_saved(images: Images, tmp_path: Path) -> None:
    """As a docker-archive, and as an OCI layout."""
    images.import_image(io.BytesIO(busybox_tar()), "team/app:7", changes=["CMD sh"])
    (tmp_path / "saved.tar").write_bytes(saved(images, "team/app:7"))
    for source in (f"docker-archive:{tmp_path}/saved.tar:team/app:7", f"oci-archive:{tmp_path}/saved.tar:7"):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        run("skopeo", "--insecure-policy", "copy", source, f"oci:{tmp_path}/out:x")
        found = json.loads(run("skopeo", "inspect", "--config", f"oci:{tmp_path}/out:x"))
        assert found["rootfs"]["diff_ids"] == images.get("team/app:7").layers


@pytest.mark.skipif(not PEERS, reason="no peers wanted")
def test_what_skopeo_writes_is_loaded(images: Images, elsewhere: Images, tmp_path: Path) -> None:
    """Both of its archives."""
    image_id = images.import_image(io.BytesIO(busybox_tar()), "team/app:7")
    (tmp_path / "saved.tar").write_bytes(saved(images, "team/app:7"))
    source = f"docker-archive:{tmp_path}/saved.tar:team/app:7"
    for name, target in (
        ("a.tar", f"docker-archive:{tmp_path}/a.tar:x/y:1"), ("b.tar", f"oci-archive:{tmp_path}/b.tar:x/y:2")
    ):  # fmt: skip
        run("skopeo", "--insecure-policy", "copy", source, target)
        with (tmp_path / name).open("rb") as archive:
            (line,) = elsewhere.load(archive)
        assert line == f"Loaded image: x/y:{1 if name == 'a.tar' else 2}"
    assert elsewhere.get("x/y:1").layers == images.get(image_id).layers == elsewhere.get("x/y:2").layers


@pytest.mark.skipif(not PEERS, reason="no peers wanted")
def test_umoci_unpacks_the_same_tree(images: Images, storage: Driver, tmp_path: Path) -> None:
    """A second opinion on what a root file system of two layers is; and what umoci packs is loaded."""
    from wherry.testing.storage import mounted, tree_of

    base = tar_of({"d/kept": "1", "d/gone": "2", "file": "3"})
    top = tar_of({"d/.wh.gone": "", "d/new": "4", "file": "5"})
    list(images.load(docker_archive(config_of(base, top), base, top, tags=["app:1"])))
    (tmp_path / "layout").mkdir()
    archive = io.BytesIO(saved(images, "app:1"))
    with tarfile.open(fileobj=archive) as tar:
        tar.extractall(tmp_path / "layout", filter="data")
    run("umoci", "unpack", "--image", f"{tmp_path}/layout:1", tmp_path / "bundle")
    with mounted(
        storage.call("rootfs", layer=images.top_layer(images.get("app:1").id), writable=False)
    ) as root:
        ours = {path: (about[0], about[1], about[3]) for path, about in tree_of(root).items() if path != "."}
    theirs = {
        path: (about[0], about[1], about[3])
        for path, about in tree_of(tmp_path / "bundle/rootfs").items()
        if path != "."
    }
    assert ours == theirs
    (tmp_path / "bundle/rootfs/added").write_bytes(b"by umoci")
    run("umoci", "repack", "--image", f"{tmp_path}/layout:2", tmp_path / "bundle")
    (tmp_path / "layout/manifest.json").unlink()  # of the first image; the layout now says more
    run("tar", "-C", tmp_path / "layout", "-cf", tmp_path / "repacked.tar", ".")
    with (tmp_path / "repacked.tar").open("rb") as repacked:
        lines = list(images.load(repacked))
    # umoci keeps the name in the annotations of what it packs anew: the later one has it.
    assert lines[-1] == "Loaded image: app:1"
    assert len(images.get("app:1").layers) == 3


# -- hostile archives


def bomb(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "archive",
    [
        lambda: io.BytesIO(b""),
        lambda: io.BytesIO(b"\0" * 20480),
        lambda: io.BytesIO(os.urandom(20000)),
        lambda: io.BytesIO(tar_of({"rootfs/etc/passwd": "root"})),
        lambda: docker_archive(b"{", ONE),
        lambda: docker_archive(b"null", ONE),
        lambda: docker_archive(bomb(100_000), ONE),
        lambda: docker_archive(config_of(ONE, config=json.loads(bomb(400))), ONE),
        lambda: docker_archive(config_of(ONE), TWO),
        lambda: docker_archive(config_of(ONE, TWO), ONE),
        lambda: docker_archive(config_of(ONE), ONE, TWO),
        lambda: docker_archive(config_of(ONE, os="windows"), ONE),
        lambda: docker_archive(config_of(ONE, rootfs={"type": "layers", "diff_ids": ["sha256:../../etc"]}), ONE),
        lambda: docker_archive(config_of(ONE, config={"User": 1}), ONE),
        lambda: docker_archive(config_of(ONE, config={"Env": "A=B"}), ONE),
        lambda: docker_archive(config_of(ONE, config={"Env": ["A", None]}), ONE),
        lambda: docker_archive(config_of(ONE), ONE, tags=["UPPER"]),
        lambda: docker_archive(config_of(ONE), ONE, manifest={"Config": "config.json"}),
        lambda: docker_archive(config_of(ONE), ONE, manifest=[{"Config": "../../etc/passwd", "Layers": []}]),
        lambda: docker_archive(config_of(ONE), ONE, manifest=[{"Config": 1}]),
        lambda: docker_archive(config_of(ONE), ONE, manifest=[{}]),
        lambda: docker_archive(config_of(ONE), ONE, manifest=[{"Config": "x" * 10_000_000}]),
        lambda: oci_archive(config_of(ONE), TWO),
        lambda: io.BytesIO(oci_archive(config_of(ONE), ONE).getvalue().replace(b"blobs", b"blubs")),
        lambda: io.BytesIO(tar_of({"index.json": json.dumps({"manifests": [{"digest": "sha256:/etc/passwd"}]})})),
        lambda: io.BytesIO(tar_of({"index.json": '{"manifests": 1}'})),
        lambda: docker_archive(config_of(tar_of({"../x": "1"})), tar_of({"../x": "1"})),
        lambda: io.BytesIO(docker_archive(config_of(ONE), ONE).getvalue()[:3000]),
    ],
)  # fmt: skip
def test_a_hostile_archive_is_refused(
    images: Images, storage: Driver, tmp_path: Path, archive: Callable[[], io.BytesIO]
) -> None:
    """One clear line, the sender's fault; nothing stays: no image, layer, blob or spool."""
    with pytest.raises(InvalidRequest) as caught:
        list(images.load(archive()))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert images.list() == [] and storage.call("owned") == []
    assert [path for path in (tmp_path / "images").rglob("*") if path.is_file()] == []


def test_an_index_that_names_itself_ends(images: Images) -> None:
    """Indexes may be nested, but not without end."""
    import hashlib

    files: dict[str, Any] = {}
    inner = {"digest": "sha256:" + "0" * 64}
    for _ in range(20):
        data = json.dumps({"manifests": [inner]}).encode()
        inner = {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}"}
        files[f"blobs/sha256/{inner['digest'][7:]}"] = data
    files["index.json"] = json.dumps({"manifests": [inner]})
    with pytest.raises(InvalidRequest):
        list(images.load(io.BytesIO(tar_of(files))))


def test_links_in_an_archive_go_round(images: Images) -> None:
    """A link to itself is no document, and the engine's own files are none either."""
    for target in ("manifest.json", "/etc/passwd", "../../../../etc/passwd"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            link = tarfile.TarInfo("manifest.json")
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        buffer.seek(0)
        with pytest.raises(InvalidRequest):
            list(images.load(buffer))


def test_images_before_a_faulty_one_stay(images: Images) -> None:
    """As docker: what was said to be loaded is loaded."""
    files = {"one.json": config_of(ONE), "bad.json": b"{}", "layer.tar": ONE}
    files["manifest.json"] = json.dumps([
        {"Config": "one.json", "RepoTags": ["one:1"], "Layers": ["layer.tar"]},
        {"Config": "bad.json", "RepoTags": ["bad:1"], "Layers": []},
    ]).encode()  # fmt: skip
    lines = images.load(io.BytesIO(tar_of(dict(files))))
    assert next(lines) == "Loaded image: one:1"
    with pytest.raises(InvalidRequest):
        next(lines)
    assert [image.references for image in images.list()] == [["one:1"]]
