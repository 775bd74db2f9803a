"""How images are shown: one, those that a filter lets through, and the history of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from wherry import clock
from wherry.errors import InvalidRequest
from wherry.images import reference
from wherry.images.document import Document, Step
from wherry.images.picture import Image
from wherry.spec.container import Config
from wherry.spec.frontend import Filters, ImageView

Look = Callable[[str], ImageView]


def view(image: Image, names: Sequence[str], size: int, driver: str, data: dict[str, str]) -> ImageView:
    """An image as front and engine see it."""
    found = image.document
    return ImageView(
        id=image.id,
        references=list(names),
        created=found.created or "",
        size=size,
        config=found.config or Config(),
        layers=list(image.diff_ids),
        architecture=found.architecture,
        os=found.os or "linux",
        variant=found.variant,
        author=found.author or "",
        comment=found.comment or "",
        docker_version=found.docker_version,
        history=msgspec.to_builtins(found.history or []),
        storage_driver=driver,
        storage_data=data,
    )


def chosen(images: Sequence[ImageView], filters: Filters, look: Look) -> list[ImageView]:
    """Newest first. `look` finds an image by name. InvalidRequest for a filter that is unknown or makes no sense."""
    found = list(images)
    for key, values in filters.items():
        try:
            holds = _FILTERS[key]
        except KeyError as error:
            raise InvalidRequest(f"invalid filter '{key}'") from error
        found = holds(found, list(values), look)
    return sorted(found, key=lambda image: (_time(image), image.id), reverse=True)


def _time(image: ImageView) -> int:
    try:
        return clock.parse(image.created)
    except ValueError:  # another zone than UTC, or no time at all: the document came from elsewhere
        return 0


def _dangling(images: list[ImageView], values: list[str], look: Look) -> list[ImageView]:
    wanted = set()
    for value in values:
        if value.lower() not in ("true", "1", "false", "0"):
            raise InvalidRequest(f"invalid filter 'dangling=[{value}]'")
        wanted.add(value.lower() in ("true", "1"))
    return [image for image in images if (not image.references) in wanted]


def _reference(images: list[ImageView], values: list[str], look: Look) -> list[ImageView]:
    found = []
    for image in images:
        names = [
            name
            for name in image.references
            if any(reference.matches(pattern, reference.parse(name)) for pattern in values)
        ]
        if names:
            found.append(image)
    return found


def _label(images: list[ImageView], values: list[str], look: Look) -> list[ImageView]:
    def has(image: ImageView, wanted: str) -> bool:
        name, equals, value = wanted.partition("=")
        labels = image.config.labels or {}
        return name in labels and (not equals or labels[name] == value)

    return [image for image in images if all(has(image, value) for value in values)]


def _before(images: list[ImageView], values: list[str], look: Look) -> list[ImageView]:
    border = min(_time(look(value)) for value in values)
    return [image for image in images if _time(image) < border]


def _since(images: list[ImageView], values: list[str], look: Look) -> list[ImageView]:
    border = max(_time(look(value)) for value in values)
    return [image for image in images if _time(image) > border]


def _until(images: list[ImageView], values: list[str], look: Look) -> list[ImageView]:
    border = min(_moment(value) for value in values)
    return [image for image in images if _time(image) <= border]


def _moment(text: str) -> int:
    """A time in seconds since the epoch, or as RFC 3339 in UTC."""
    try:
        return (
            int(float(text) * 1_000_000_000) if text[:1].isdigit() and "-" not in text else clock.parse(text)
        )
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"invalid filter 'until=[{text}]'") from error


_FILTERS: Mapping[str, Callable[[list[ImageView], list[str], Look], list[ImageView]]] = {
    "before": _before, "dangling": _dangling, "label": _label, "reference": _reference, "since": _since,
    "until": _until,
}  # fmt: skip


def history(view: ImageView, document: Document, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Newest first: API HistoryResponseItem. `sizes` of the layers, bottom first, go to the steps that made one."""
    left = list(sizes)
    items: list[dict[str, Any]] = []
    for step in document.history or [Step() for _ in sizes]:
        items.append({
            "Id": "<missing>",
            "Created": _seconds(step.created),
            "CreatedBy": step.created_by or "",
            "Tags": None,
            "Size": left.pop(0) if left and not step.empty_layer else 0,
            "Comment": step.comment or "",
        })  # fmt: skip
    if items:
        items[-1] |= {"Id": view.id, "Tags": list(view.references) or None}
    items.reverse()
    return items


def _seconds(text: str | None) -> int:
    try:
        return clock.parse(text or "") // 1_000_000_000
    except (ValueError, OverflowError):
        return 0
