"""What an archive of images holds: a docker-archive (`manifest.json`), an OCI layout (`index.json`), or both.

The archive lies in a file and is read where it lies: its table of contents first, then each document and layer by its
place. Paths in it are names in that table, and never touch the file system.
Source: Docker image specification v1.2, "Combined Image JSON"; OCI image-spec `image-layout.md`.
"""

from __future__ import annotations

import hashlib
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import msgspec

from wherry.errors import InvalidRequest
from wherry.images import document, reference
from wherry.images.streams import Section
from wherry.linux.tar import BadArchive
from wherry.linux.tar_reading import read

_MOST_MEMBERS: Final = 100_000
_MOST_LINKS: Final = 10
_MOST_DEPTH: Final = 4
_MOST_IMAGES: Final = 1000
_REFERENCE_NAMES: Final = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSource:
    """A layer's place in the archive; `digest` is that of the bytes there, if the archive says."""

    path: str
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """An image in the archive: the bytes of its configuration, its layers bottom first, and what it is to be called."""

    config: bytes
    layers: tuple[LayerSource, ...]
    names: tuple[str, ...]


class _DockerItem(msgspec.Struct, frozen=True, rename="pascal"):
    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


class _Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class _Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    size: int = 0
    media_type: str = ""
    annotations: dict[str, str] | None = None
    platform: _Platform | None = None


class _Index(msgspec.Struct, frozen=True):
    manifests: list[_Descriptor]


class _Manifest(msgspec.Struct, frozen=True):
    """Either an index (`manifests`) or a manifest (`config` and `layers`)."""

    manifests: list[_Descriptor] | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None


_decode_items: Final = msgspec.json.Decoder(list[_DockerItem])
_decode_index: Final = msgspec.json.Decoder(_Index)
_decode_manifest: Final = msgspec.json.Decoder(_Manifest)


class Contents:
    """The table of contents of an archive in a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self._places: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        file.seek(0)
        try:
            reader = read(file)
            for number, entry in enumerate(reader):
                if number >= _MOST_MEMBERS:
                    raise InvalidRequest(f"the archive has more than {_MOST_MEMBERS} members")
                path = posixpath.normpath(entry.name.lstrip("/"))
                if entry.hard_link:
                    self._links[path] = posixpath.normpath(entry.link.lstrip("/"))
                elif stat.S_ISLNK(entry.mode):
                    self._links[path] = posixpath.normpath(
                        posixpath.join(posixpath.dirname(path), entry.link)
                    )
                elif stat.S_ISREG(entry.mode) and entry.pieces is None:
                    self._places[path] = (reader.offset, entry.size)
        except BadArchive as error:
            raise InvalidRequest(f"the archive of images cannot be read: {error}") from error

    def __contains__(self, path: str) -> bool:
        return self._place(path) is not None

    def open(self, path: str) -> BinaryIO:
        """The member at `path`. InvalidRequest if there is none."""
        place = self._place(path)
        if place is None:
            raise InvalidRequest(f'the archive names "{path[:200]}" and does not hold it')
        section: Any = Section(self._descriptor, *place)
        return section  # type: ignore[no-any-return]

    def document(self, path: str) -> bytes:
        """A small member, whole."""
        place = self._place(path)
        if place is not None and place[1] > document.MAX_DOCUMENT:
            raise InvalidRequest(
                f'"{path[:200]}" in the archive is {place[1]} bytes long; too long for a document'
            )
        return self.open(path).read()

    def _place(self, path: str) -> tuple[int, int] | None:
        path = posixpath.normpath(path.lstrip("/"))
        for _ in range(_MOST_LINKS):
            if path in self._places:
                return self._places[path]
            if path not in self._links:
                return None
            path = self._links[path]
        return None


def images(contents: Contents) -> Iterator[ImageSource]:
    """Every image in the archive. InvalidRequest if it is none that this engine knows."""
    if "manifest.json" in contents:
        yield from _docker(contents)
    elif "index.json" in contents:
        yield from _oci(contents)
    else:
        raise InvalidRequest(
            "this is neither a docker-archive (manifest.json) nor an OCI layout (index.json); "
            "for a tar of a root file system use import"
        )


def _docker(contents: Contents) -> Iterator[ImageSource]:
    items = document.decode(contents.document("manifest.json"), _decode_items, "manifest.json")
    if len(items) > _MOST_IMAGES:
        raise InvalidRequest(f"the archive has {len(items)} images; {_MOST_IMAGES} are allowed")
    for item in items:
        yield ImageSource(
            config=contents.document(item.config),
            layers=tuple(LayerSource(path=path) for path in item.layers or ()),
            names=tuple(item.repo_tags or ()),
        )


def _oci(contents: Contents) -> Iterator[ImageSource]:
    index = document.decode(contents.document("index.json"), _decode_index, "index.json")
    if len(index.manifests) > _MOST_IMAGES:
        raise InvalidRequest(f"the archive has {len(index.manifests)} images; {_MOST_IMAGES} are allowed")
    # One image may be listed once per name.
    found: dict[str, list[str]] = {}
    for descriptor in index.manifests:
        names = found.setdefault(descriptor.digest, [])
        annotations = descriptor.annotations or {}
        name = next((annotations[key] for key in _REFERENCE_NAMES if annotations.get(key)), "")
        if name not in names and _is_reference(name):
            names.append(name)
    for digest, names in found.items():
        yield _oci_image(contents, digest, tuple(names), 0)


def _is_reference(name: str) -> bool:
    """In a layout a name may be anything; a single word is a tag there (umoci), not an image's name."""
    if ":" not in name and "/" not in name:
        return False
    try:
        return not reference.parse(name).digest
    except InvalidRequest:
        return False


def _oci_image(contents: Contents, digest: str, names: tuple[str, ...], depth: int) -> ImageSource:
    manifest = document.decode(_checked(contents, digest), _decode_manifest, f"manifest {digest}")
    if manifest.manifests is not None:
        if depth >= _MOST_DEPTH:
            raise InvalidRequest("the indexes in the archive are nested too deep")
        return _oci_image(contents, _ours(contents, manifest.manifests).digest, names, depth + 1)
    if manifest.config is None:
        raise InvalidRequest(f"manifest {digest} has no configuration")
    return ImageSource(
        config=_checked(contents, manifest.config.digest),
        layers=tuple(
            LayerSource(path=_blob(layer.digest), digest=layer.digest) for layer in manifest.layers or ()
        ),
        names=names,
    )


def _ours(contents: Contents, descriptors: list[_Descriptor]) -> _Descriptor:
    """Of an image for several machines, the one for this."""
    here = [descriptor for descriptor in descriptors if _blob(descriptor.digest) in contents]
    for descriptor in here:
        platform = descriptor.platform or _Platform()
        if (platform.os, platform.architecture) == ("linux", document.architecture()):
            return descriptor
    if len(here) == 1 and here[0].platform is None:
        return here[0]
    raise InvalidRequest(f"the archive has no image for linux/{document.architecture()}")


def _blob(digest: str) -> str:
    if not document.DIGEST.fullmatch(digest):
        raise InvalidRequest(f'"{digest[:200]}" is no sha256 digest')
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _checked(contents: Contents, digest: str) -> bytes:
    data = contents.document(_blob(digest))
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != digest:
        raise InvalidRequest(f"a document in the archive has the digest {found}, and should have {digest}")
    return data
