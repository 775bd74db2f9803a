"""Images. Source: API 1.51 /images; moby `router/image/image_routes.go`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, Final

from wherry.errors import Conflict, InvalidRequest, NotFound, Unsupported
from wherry.spec.frontend import Engine, ImageView
from wherry_docker_api.answer import CREATED, JSON, Answer, json, line
from wherry_docker_api.call import Call, Route
from wherry_docker_api.flow import download, upload
from wherry_docker_api.query import check_flag
from wherry_docker_api.render import image as render

_FILTERS: Final = frozenset({"before", "dangling", "label", "reference", "since", "until"})
_PRUNE_FILTERS: Final = frozenset({"dangling", "label"})
_FALSE: Final = frozenset({"false", "False", "0", "f"})
_TAR: Final = b"application/x-tar"


async def list_(call: Call) -> Answer:
    filters = call.query.filters(_FILTERS)
    check_flag(filters, "dangling")
    if reference := call.query.text("filter"):  # what it was called before 1.25
        filters.setdefault("reference", []).append(reference)
    found = await call.door.read(call.engine.images, call.query.flag("all"), filters)
    return json([render.summary(image, call.version) for image in found])


async def inspect(call: Call) -> Answer:
    return json(render.inspect(await call.door.read(call.engine.image, call.name), call.version))


async def history(call: Call) -> Answer:
    return json([render.history(entry) for entry in await call.door.read(call.engine.history, call.name)])


async def tag(call: Call) -> Answer:
    reference = _reference(call)
    if not reference:
        raise InvalidRequest("the parameter repo is missing: it must name the image anew")
    await call.door.work(call.engine.tag, call.name, reference)
    return CREATED


async def remove(call: Call) -> Answer:
    force, prune = call.query.flag("force"), not call.query.flag("noprune")
    return json(list(await call.door.work(call.engine.remove_image, call.name, force, prune)))


async def create(call: Call) -> Answer:
    """`docker import`; a pull is refused so that `docker run` of an image that is not here says what to do."""
    query = call.query
    if image := query.text("fromImage"):
        reference = _joined(_familiar(image), query.text("tag", "latest"))
        raise Unsupported(
            f'image "{reference}" is not here, and this engine cannot pull from a registry yet: '
            "bring it with `docker load` or `docker import`"
        )
    if (source := query.text("fromSrc")) != "-":
        raise Unsupported(f'cannot import from "{source}": send the archive itself (docker import - …)')
    consume = partial(_import, call.engine, _reference(call), query.text("message"), query.texts("changes"))
    return Answer(200, line({"status": await upload(call, consume)}), JSON)


def _import(engine: Engine, reference: str, message: str, changes: Sequence[str], archive: BinaryIO) -> str:
    return engine.import_image(archive, reference, message, changes)


async def load(call: Call) -> Answer:
    lines = await upload(call, lambda archive: list(call.engine.load_images(archive)))
    return Answer(200, b"".join(line({"stream": text.rstrip("\n") + "\n"}) for text in lines), JSON)


async def save_one(call: Call) -> None:
    await _save(call, [call.name])


async def save(call: Call) -> None:
    names = call.query.texts("names")
    if not names:
        raise InvalidRequest("the parameter names is missing: it must name the images to save")
    await _save(call, names)


async def _save(call: Call, names: Sequence[str]) -> None:
    for name in names:  # before the head of the answer is out
        await call.door.read(call.engine.image, name)
    await download(call, partial(call.engine.save_images, names), _TAR)


async def prune(call: Call) -> Answer:
    filters = call.query.filters(_PRUNE_FILTERS)
    check_flag(filters, "dangling")
    every = bool(_FALSE.intersection(filters.pop("dangling", ())))
    deleted, freed = await call.door.work(_prune, call.engine, filters, every)
    return json({"ImagesDeleted": deleted or None, "SpaceReclaimed": freed})


def _prune(engine: Engine, filters: Mapping[str, Sequence[str]], every: bool) -> tuple[list[Any], int]:
    """Remove images that no container uses and, unless `every`, that have no name."""
    used = {container.image_id for container in engine.containers(all=True)}
    deleted: list[Mapping[str, str]] = []
    freed = 0
    for image in engine.images(False, filters):
        if image.id in used or (image.references and not every):
            continue
        try:
            done = _remove_wholly(engine, image)
        except (Conflict, NotFound):
            continue  # somebody needs it after all, or was faster
        deleted += done
        freed += image.size if any("Deleted" in entry for entry in done) else 0
    return deleted, freed


def _remove_wholly(engine: Engine, image: ImageView) -> list[Mapping[str, str]]:
    done: list[Mapping[str, str]] = []
    for name in image.references or [image.id]:
        done += engine.remove_image(name)
    return done


def _reference(call: Call) -> str:
    return _joined(call.query.text("repo"), call.query.text("tag"))


def _familiar(name: str) -> str:
    """`docker.io/library/busybox` → `busybox`: new clients send whole names."""
    return name.removeprefix("docker.io/").removeprefix("library/")


def _joined(repository: str, tag: str) -> str:
    """`busybox` and `1.36` → `busybox:1.36`; a digest is joined by @. A tag that is in the name already is left."""
    if not repository or not tag:
        return repository
    if tag.startswith("sha256:"):
        return f"{repository}@{tag}"
    return repository if ":" in repository.rpartition("/")[2] else f"{repository}:{tag}"


ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/images/json", list_),
    ("GET", "/images/get", save),
    ("POST", "/images/create", create),
    ("POST", "/images/load", load),
    ("POST", "/images/prune", prune),
    ("GET", "/images/{name}/json", inspect),
    ("GET", "/images/{name}/history", history),
    ("GET", "/images/{name}/get", save_one),
    ("POST", "/images/{name}/tag", tag),
    ("DELETE", "/images/{name}", remove),
)
