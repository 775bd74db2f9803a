"""A store of images on a real storage driver, opened as often as a test likes: each time as by a new process."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wherry.images import Images
from wherry.plugins import Driver, Resolved, load
from wherry.services import EngineServices
from wherry.testing.images import tar_of

DRIVERS = {
    "overlay2": ("wherry_overlay_storage", "OverlayStorage"),
    "vfs": ("wherry_vfs_storage", "VfsStorage"),
}


def open_storage(name: str, root: Path) -> Driver:
    module, attribute = DRIVERS[name]
    resolved = Resolved(kind="storage", name=name, module=module, attribute=attribute, root=str(root / name))
    return load(resolved, None)


def open_images(root: Path, driver: str = "overlay2") -> tuple[Images, Driver]:
    storage = open_storage(driver, root / "storage")
    log = EngineServices(engine_id="00000000", cgroup_parent="/none").log
    return Images(root / "images", storage, log), storage


@pytest.fixture
def reopen(tmp_path: Path) -> Callable[[], Images]:
    """The store as the next process finds it."""
    return lambda: open_images(tmp_path)[0]


@pytest.fixture(params=["overlay2", "vfs"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Images, Driver]:
    """The store with its storage driver, on each driver."""
    return open_images(tmp_path, request.param)


@pytest.fixture
def store(tmp_path: Path) -> tuple[Images, Driver]:
    """The store with its storage driver, on overlay2."""
    return open_images(tmp_path)


@pytest.fixture
def images(store: tuple[Images, Driver]) -> Images:
    return store[0]


@pytest.fixture
def storage(store: tuple[Images, Driver]) -> Driver:
    return store[1]


def imported(images: Images, name: str = "", **files: bytes | str) -> str:
    """An image of one layer of a few files; answers its id."""
    return images.import_image(io.BytesIO(tar_of(dict(files) or {"file": name})), name)


def saved(images: Images, *names: str) -> bytes:
    buffer = io.BytesIO()
    images.save(names, buffer)
    return buffer.getvalue()


def config_of(*layers: bytes, **fields: Any) -> bytes:
    """A configuration document for these layer tars."""
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    return json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        | fields
    ).encode()


def docker_archive(
    config: bytes, *layers: bytes, tags: list[str] | None = None, manifest: Any = None, **extra: bytes
) -> io.BytesIO:
    """A docker-archive as docker of 2015 to 2023 wrote it, one directory per layer."""
    files = {"config.json": config, **extra}
    files |= {f"layer{number}/layer.tar": layer for number, layer in enumerate(layers)}
    items = [
        {
            "Config": "config.json",
            "RepoTags": tags,
            "Layers": [f"layer{n}/layer.tar" for n in range(len(layers))],
        }
    ]
    files["manifest.json"] = json.dumps(items if manifest is None else manifest).encode()
    return io.BytesIO(tar_of(files))


def oci_archive(
    config: bytes, *layers: bytes, name: str = "", compress: bool = True, **annotations: str
) -> io.BytesIO:
    """An OCI layout in a tar, with compressed layers."""
    files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        files[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data), "mediaType": "application/octet-stream"}

    packed = [gzip.compress(layer) if compress else layer for layer in layers]
    manifest = json.dumps(
        {"schemaVersion": 2, "config": blob(config), "layers": [blob(layer) for layer in packed]}
    ).encode()
    descriptor = blob(manifest)
    if name:
        descriptor["annotations"] = {"io.containerd.image.name": name}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
    return io.BytesIO(tar_of(files))


def members(archive: bytes) -> dict[str, bytes]:
    """The regular files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {info.name: tar.extractfile(info) for info in tar if info.isreg()}
        return {name: file.read() for name, file in found.items() if file is not None}
