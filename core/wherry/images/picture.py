"""What readers of the store see, and how a name that a user gives leads to an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wherry.errors import InvalidRequest, NotFound
from wherry.images import document, reference
from wherry.images.document import Document
from wherry.images.reference import Reference
from wherry.spec.frontend import ImageView


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image as the store knows it. `id` with `sha256:`; `chain` are the ids of its layers, bottom first."""

    id: str
    raw: bytes
    document: Document
    chain: tuple[str, ...]

    @property
    def diff_ids(self) -> list[str]:
        return self.document.rootfs.diff_ids


@dataclass(frozen=True, slots=True)
class Picture:
    """What readers see: never changed, only replaced. `names` has references in full form, `views` one per image."""

    images: Mapping[str, Image] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    views: Mapping[str, ImageView] = field(default_factory=dict)


def image_of(raw: bytes) -> Image:
    """An image from its document. InvalidRequest if it is none that can run here."""
    found = document.read(raw)
    return Image(
        id=document.digest_of(raw),
        raw=raw,
        document=found,
        chain=tuple(document.chain(found.rootfs.diff_ids)),
    )


def find(picture: Picture, name: str) -> str:
    """An image's id by whatever a user may call it. A reference wins over a prefix of an id."""
    if name in picture.images:
        return name
    digits = name.removeprefix("sha256:")
    try:
        wanted = reference.parse(name)
    except InvalidRequest:
        if not _looks_like_id(digits):
            raise
        wanted = None
    if wanted is not None:
        found = picture.names.get(str(wanted.tagged()))
        if found is not None:
            return found
        if wanted.digest in picture.images:
            return wanted.digest
    if _looks_like_id(digits):
        matches = [image_id for image_id in picture.images if image_id.startswith(f"sha256:{digits}")]
        if len(matches) == 1:
            return matches[0]
    shown = name if wanted is None or name.startswith("sha256:") else wanted.tagged().familiar
    raise NotFound("image", shown)


def _looks_like_id(digits: str) -> bool:
    return 0 < len(digits) <= 64 and all(digit in "0123456789abcdef" for digit in digits)


def is_id(image_id: str, name: str) -> bool:
    """Whether a name that led to an image was its id, or the beginning of it."""
    return image_id.startswith((name, f"sha256:{name}"))


def to_tag(text: str) -> Reference:
    """A reference that an image can be given: no digest, `latest` if it has no tag."""
    found = reference.parse(text)
    if found.digest:
        raise InvalidRequest("refusing to create a tag with a digest reference")
    return found.tagged()


def to_save(picture: Picture, name: str) -> list[tuple[str, list[Reference]]]:
    """(image id, the names to save it under) for what a user named: a reference, a repository with all tags, an id."""
    try:
        wanted = reference.parse(name)
    except InvalidRequest:
        wanted = None  # perhaps an id
    if wanted is not None and not wanted.tag and not wanted.digest:
        all_of = [
            (owner, [reference.parse(full)])
            for full, owner in sorted(picture.names.items())
            if reference.parse(full).name == wanted.name
        ]
        if all_of:
            return all_of
    image_id = find(picture, name)
    if wanted is not None and str(wanted) in picture.names:
        return [(image_id, [wanted])]
    return [(image_id, [])]


def short(image_id: str) -> str:
    """Twelve digits, as messages show them."""
    return image_id.removeprefix("sha256:")[:12]
