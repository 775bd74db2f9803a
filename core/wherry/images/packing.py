"""`docker save`: images as one archive that is a docker-archive and an OCI layout at once, as docker's own are.

Blobs lie in `blobs/sha256/`, layers uncompressed, so that a layer's digest is its diff id. The same images give the same
bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import msgspec

from wherry.errors import Unavailable
from wherry.images.document import digest_of
from wherry.images.layers import Layers
from wherry.images.reference import Reference
from wherry.images.streams import CHUNK
from wherry.linux.tar import Entry, Writer

_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX: Final = "application/vnd.oci.image.index.v1+json"


@dataclass(slots=True, kw_only=True)
class Chosen:
    """An image to save: its configuration, its layers, and the names to save it under (perhaps none)."""

    config: bytes
    diff_ids: list[str]
    references: list[Reference] = field(default_factory=list)


def save(chosen: Sequence[Chosen], layers: Layers, archive: BinaryIO) -> None:
    """Write the archive. NotFound if the blob of a layer is lost, after part of the archive is written."""
    out = _Archive(archive)
    manifests: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image in chosen:
        config = out.document(image.config)
        for diff_id in image.diff_ids:
            out.layer(layers, diff_id)
        sources = [
            {"mediaType": _LAYER, "size": layers.tar_size(diff_id), "digest": diff_id}
            for diff_id in image.diff_ids
        ]
        content = _json({
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": config, "size": len(image.config)},
            "layers": sources,
        })  # fmt: skip
        manifest = {"mediaType": _MANIFEST, "digest": out.document(content), "size": len(content)}
        manifests += [{**manifest, "annotations": _annotations(name)} for name in image.references] or [
            manifest
        ]
        items.append({
            "Config": _path(config),
            "RepoTags": [reference.familiar for reference in image.references] or None,
            "Layers": [_path(diff_id) for diff_id in image.diff_ids],
            "LayerSources": {str(source["digest"]): source for source in sources},
        })  # fmt: skip
        for reference in image.references:
            if image.diff_ids:
                top = image.diff_ids[-1].removeprefix("sha256:")
                repositories.setdefault(reference.familiar_name, {})[reference.tag] = top
    out.file("index.json", _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}))
    out.file("manifest.json", _json(items))
    out.file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
    if repositories:
        out.file("repositories", _json(repositories))
    out.writer.finish()


class _Archive:
    """The tar, with each blob in it once."""

    def __init__(self, archive: BinaryIO) -> None:
        self.writer = Writer(archive)
        self._written: set[str] = set()
        for directory in ("blobs/", "blobs/sha256/"):
            self.writer.add(Entry(directory, mode=stat.S_IFDIR | 0o755))

    def file(self, path: str, content: bytes) -> None:
        self.writer.add(Entry(path, mode=stat.S_IFREG | 0o644, size=len(content)))
        self.writer.data(content)
        self.writer.pad(len(content))

    def document(self, content: bytes) -> str:
        """Write a document as a blob; answers its digest."""
        digest = digest_of(content)
        if digest not in self._written:
            self._written.add(digest)
            self.file(_path(digest), content)
        return digest

    def layer(self, layers: Layers, diff_id: str) -> None:
        if diff_id in self._written:
            return
        self._written.add(diff_id)
        size = layers.tar_size(diff_id)
        with layers.archive(diff_id) as tar:
            self.writer.add(Entry(_path(diff_id), mode=stat.S_IFREG | 0o644, size=size))
            left = size
            while left and (data := tar.read(min(CHUNK, left))):
                self.writer.data(data)
                left -= len(data)
            if left:
                raise Unavailable(f"the archive of layer {diff_id} is cut short; load the image again")
            self.writer.pad(size)


def _annotations(reference: Reference) -> dict[str, str]:
    return {"io.containerd.image.name": str(reference), "org.opencontainers.image.ref.name": reference.tag}


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
