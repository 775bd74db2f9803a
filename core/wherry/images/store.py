"""`Images`: which images there are and what they are called.

    config/sha256/<id>    an image's configuration document, as it came: an image is there while this file is
    ghosts/sha256/<id>    the document of an image that was removed while stopped containers still stand on its layers
    references.json       name → id

Everything else (chains of layers, who needs which) follows from the documents and is worked out at start-up. An
operation is done when its last file is synced: layers first, then the document, then the reference; so what a crash
leaves is at most layers that nobody needs, which the next start removes.

Readers take the last published picture and never wait; one operation changes it at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import msgspec

from wherry import clock
from wherry.errors import Conflict, InvalidRequest, NotFound, WherryError
from wherry.images import amend, document, listing, packing, reference, streams, unpacking
from wherry.images.layers import Layers, SpoolWriter, Taken
from wherry.images.picture import Image, Picture, find, image_of, is_id, short, to_save, to_tag
from wherry.images.reference import Reference
from wherry.plugins import Driver
from wherry.spec.container import Config
from wherry.spec.frontend import Filters, ImageView
from wherry.spec.services import Log
from wherry.spec.storage import Overlay, Rootfs
from wherry.state import atomic

InUse = Callable[[str], Sequence[tuple[str, bool]]]
"""The containers made from an image (by id): (container id, whether it runs)."""
History: TypeAlias = list[dict[str, Any]]
Ids: TypeAlias = list[str]
Views: TypeAlias = list[ImageView]
Done: TypeAlias = list[dict[str, str]]
"""[{"Untagged": …}, {"Deleted": …}, …]."""

_decode_references: Final = msgspec.json.Decoder(dict[str, str])


class Images:
    """`root` is its own; `storage` holds the layers. Thread-safe."""

    def __init__(self, root: Path, storage: Driver, log: Log) -> None:
        self._storage, self._log = storage, log
        self._configs, self._ghosts_at = root / "config" / "sha256", root / "ghosts" / "sha256"
        self._references = root / "references.json"
        for directory in (self._configs, self._ghosts_at):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._changing = threading.RLock()
        self._picture = Picture()
        self._layers = Layers(root, storage, log)
        images = self._read(self._configs)
        self._ghosts = self._read(self._ghosts_at)
        self._publish(images, self._read_references(images))
        self._prune()

    # -- looking

    def list(self, all: bool = False, filters: Filters | None = None) -> Views:
        """Newest first. (`all` would add the steps of a build, of which there are none.)"""
        return listing.chosen(list(self._picture.views.values()), filters or {}, self.get)

    def get(self, name: str) -> ImageView:
        """By reference, id, or a prefix of an id. NotFound in docker's words."""
        picture = self._picture
        return picture.views[find(picture, name)]

    def top_layer(self, image_id: str) -> str | None:
        """The layer that a container of this image stands on; None for an image without layers.

        Layers that the storage driver has lost are made again from their blobs first.
        """
        image = self._picture.images.get(image_id)
        if image is None:
            raise NotFound("image", image_id)
        if not image.chain:
            return None
        if not all(self._layers.get(layer) for layer in image.chain):
            with self._changing:
                self._layers.ensure(image.chain, image.diff_ids)
                self._publish(dict(self._picture.images), dict(self._picture.names))
        return image.chain[-1]

    def owns_layer(self, layer: str) -> bool:
        """Whether a layer of the storage driver belongs to images."""
        return self._layers.owns(layer)

    def history(self, name: str) -> History:
        """API HistoryResponseItem, newest first."""
        view = self.get(name)
        image = self._picture.images[view.id]
        return listing.history(view, image.document, [self._size(layer) for layer in image.chain])

    # -- making

    def import_image(
        self, archive: BinaryIO, reference: str = "", message: str = "", changes: Sequence[str] = ()
    ) -> str:
        """One tar of a root file system, perhaps compressed, becomes an image of one layer; answers its id.

        `archive` is read to its end and may be a pipe.
        """
        name = to_tag(reference) if reference else None
        config = amend.amend(Config(), changes)
        opened, _ = streams.opened(archive)
        with self._layers.spool() as spool:
            while data := opened.read(streams.CHUNK):
                spool(data)
            comment = message or "Imported from -"
            with self._changing:
                taken = self._layers.keep(spool)
                return self._add_layer(taken, None, config, name, author="", comment=comment, created_by="")

    def commit(
        self, layer: str, parent: str, config: Config, *, reference: str = "", author: str = "", comment: str = "",
        created_by: str = "", changes: Sequence[str] = (),
    ) -> str:  # fmt: skip
        """A container's layer becomes an image on top of `parent` (an image id, or "" for none); answers its id."""
        name = to_tag(reference) if reference else None
        config = amend.amend(config, changes)
        base = self._picture.images.get(parent) if parent else None
        if parent and base is None:
            raise NotFound("image", parent)
        with self._layers.spool() as spool:
            self._storage.call("diff", layer=layer, archive=SpoolWriter(spool))
            with self._changing:
                taken = self._layers.keep(spool)
                return self._add_layer(
                    taken, base, config, name, author=author, comment=comment, created_by=created_by
                )

    def _add_layer(
        self, taken: Taken, base: Image | None, config: Config, name: Reference | None, *, author: str, comment: str,
        created_by: str,
    ) -> str:  # fmt: skip
        created = clock.now()
        steps: History = []
        if base is not None:
            steps = msgspec.to_builtins(base.document.history or [])
        step = {"created": created, "created_by": created_by, "author": author, "comment": comment}
        steps.append({key: value for key, value in step.items() if value})
        raw = document.write(
            config=config, diff_ids=[*(base.diff_ids if base else []), taken.diff_id], history=steps, created=created,
            author=author, comment=comment,
        )  # fmt: skip
        return self._add(raw, [name] if name is not None else [])

    def load(self, archive: BinaryIO) -> Iterator[str]:
        """Images of a docker-archive or an OCI layout; yields the lines that docker prints.

        The archive may be a pipe: it is first read into a file. Images before a faulty one stay loaded.
        """
        opened, _ = streams.opened(archive)
        with self._layers.scratch() as (_, file):
            self._layers.copy(opened, file)
            contents = unpacking.Contents(file)
            for source in unpacking.images(contents):
                yield from self._load(contents, source)

    def _load(self, contents: unpacking.Contents, source: unpacking.ImageSource) -> Iterator[str]:
        found = document.read(source.config)
        diff_ids = found.rootfs.diff_ids
        if len(source.layers) != len(diff_ids):
            raise InvalidRequest(
                f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(source.layers)}"
            )
        names = [to_tag(name) for name in source.names]
        with self._changing:
            try:
                for layer, diff_id in zip(source.layers, diff_ids, strict=True):
                    if not self._layers.has_blob(diff_id):
                        self._layers.take(contents.open(layer.path), digest=layer.digest, diff_id=diff_id)
                lines = [
                    f"The image {name.familiar} already exists, renaming the old one with ID {old} to empty string"
                    for name in names
                    if (old := self._picture.names.get(str(name)))
                    and old != document.digest_of(source.config)
                ]
                image_id = self._add(source.config, names)
            except BaseException:
                self._prune()
                raise
        yield from lines
        if names:
            yield from (f"Loaded image: {name.familiar}" for name in names)
        else:
            yield f"Loaded image ID: {image_id}"

    def _add(self, raw: bytes, names: Sequence[Reference]) -> str:
        """Layers, document, references, in this order; their blobs are there."""
        image = image_of(raw)
        try:
            self._layers.ensure(image.chain, image.diff_ids)
        except BaseException:
            self._prune()
            raise
        path = self._configs / image.id.removeprefix("sha256:")
        if not path.exists():
            atomic.promise(path, raw)
            atomic.sync_directory(self._configs)
        (self._ghosts_at / path.name).unlink(missing_ok=True)
        self._ghosts.pop(image.id, None)
        references = dict(self._picture.names) | {str(name): image.id for name in names}
        if names:
            self._write_references(references)
        self._publish({**self._picture.images, image.id: image}, references)
        return image.id

    def tag(self, name: str, reference: str) -> None:
        """Give an image one more name; a name that another image has is taken from it."""
        wanted = to_tag(reference)
        with self._changing:
            image_id = find(self._picture, name)
            names = {**self._picture.names, str(wanted): image_id}
            self._write_references(names)
            self._publish(dict(self._picture.images), names)

    def save(self, names: Sequence[str], archive: BinaryIO) -> None:
        """Write images as an archive that docker, and any reader of OCI layouts, can load.

        A name without a tag means all tags of its repository. NotFound before anything is written.
        """
        if not names:
            raise InvalidRequest("no image to save was named")
        picture = self._picture
        chosen: dict[str, packing.Chosen] = {}
        for name in names:
            for image_id, found in to_save(picture, name):
                image = picture.images[image_id]
                entry = chosen.setdefault(image_id, packing.Chosen(config=image.raw, diff_ids=image.diff_ids))
                entry.references += [one for one in found if one not in entry.references]
        for entry in chosen.values():
            for diff_id in entry.diff_ids:
                if not self._layers.has_blob(diff_id):
                    raise NotFound(
                        "layer", diff_id, f"the archive of layer {diff_id} is lost; load the image again"
                    )
        packing.save(list(chosen.values()), self._layers, archive)

    # -- removing

    def remove(self, name: str, force: bool = False, in_use: InUse | None = None, prune: bool = True) -> Done:
        """Take a name away, or an image with all its names: docker's list of what was untagged and deleted.

        Conflict in docker's words while containers use it; `force` goes over stopped ones.
        Source: moby `daemon/images/image_delete.go`.
        """
        using = in_use or (lambda image_id: [])
        with self._changing:
            picture = self._picture
            image_id = find(picture, name)
            mine = [full for full, owner in picture.names.items() if owner == image_id]
            done: Done = []
            if is_id(image_id, name):
                if not force and len(mine) > 1:
                    raise _cannot(image_id, "image is referenced in multiple repositories", forced=True)
                self._check(image_id, using, force)
            else:
                wanted = str(reference.parse(name).tagged())
                if not force and len(mine) == 1:
                    for container, _ in using(image_id):
                        raise Conflict(
                            f'conflict: unable to remove repository reference "{name}" (must force) - container '
                            f"{container[:12]} is using its referenced image {short(image_id)}"
                        )
                if len(mine) > 1 or any(running for _, running in using(image_id)):
                    # Other names keep it; or a running container does, which then has an image without a name.
                    self._untag([wanted], done)
                    return done
                self._check(image_id, using, force)
            self._untag(mine, done)
            self._delete(image_id, keep=bool(using(image_id)), done=done)
            self.sweep(using)
            return done

    def _check(self, image_id: str, using: InUse, force: bool) -> None:
        for container, running in using(image_id):
            if running:
                raise _cannot(
                    image_id, f"image is being used by running container {container[:12]}", forced=False
                )
            if not force:
                raise _cannot(
                    image_id, f"image is being used by stopped container {container[:12]}", forced=True
                )

    def _untag(self, names: Sequence[str], done: Done) -> None:
        if not names:
            return
        left = {full: owner for full, owner in self._picture.names.items() if full not in names}
        self._write_references(left)
        done += [{"Untagged": reference.parse(full).familiar} for full in names]
        self._publish(dict(self._picture.images), left)

    def _delete(self, image_id: str, *, keep: bool, done: Done) -> None:
        images = dict(self._picture.images)
        image = images.pop(image_id)
        path = self._configs / image_id.removeprefix("sha256:")
        if keep:
            path.rename(self._ghosts_at / path.name)
            atomic.sync_directory(self._ghosts_at)
            self._ghosts[image_id] = image
        else:
            path.unlink(missing_ok=True)
        atomic.sync_directory(self._configs)
        self._publish(images, dict(self._picture.names))
        done.append({"Deleted": image_id})
        done += [{"Deleted": f"sha256:{layer}"} for layer in self._prune()]

    def sweep(self, in_use: InUse) -> None:
        """Let go of the layers of removed images on which no container stands any more.

        For the engine: at start-up, and when a container of an image that is gone was removed.
        """
        with self._changing:
            gone = [image_id for image_id in self._ghosts if not in_use(image_id)]
            for image_id in gone:
                (self._ghosts_at / image_id.removeprefix("sha256:")).unlink(missing_ok=True)
                del self._ghosts[image_id]
            if gone:
                self._prune()

    def _prune(self) -> Ids:
        """Remove what no image and no ghost needs."""
        images = [*self._picture.images.values(), *self._ghosts.values()]
        return self._layers.prune(
            {layer for image in images for layer in image.chain},
            {diff_id for image in images for diff_id in image.diff_ids},
        )

    # -- on disk

    def _read(self, directory: Path) -> dict[str, Image]:
        images = {}
        for path in sorted(directory.iterdir()):
            if path.name.endswith(".tmp"):
                path.unlink()
                continue
            if path.suffix == ".damaged":
                continue
            try:
                image = image_of(path.read_bytes())
                if image.id != f"sha256:{path.name}":
                    raise InvalidRequest("its content is not what its name says")
                images[image.id] = image
            except WherryError as error:
                self._log.warning(f"a damaged image is set aside: {error}", image=path.name[:12])
                path.rename(path.with_suffix(".damaged"))
        return images

    def _read_references(self, images: Mapping[str, Image]) -> dict[str, str]:
        try:
            found = document.decode(self._references.read_bytes(), _decode_references, "references.json")
        except FileNotFoundError:
            return {}
        except InvalidRequest as error:
            self._log.error(f"the names of the images are lost: {error}; the images are there by their ids")
            self._references.rename(self._references.with_suffix(".damaged"))
            return {}
        for full in [full for full, image_id in found.items() if image_id not in images]:
            self._log.warning("a name of an image that is not there is dropped", name=full)
            del found[full]
        return dict(found)

    def _write_references(self, names: Mapping[str, str]) -> None:
        atomic.promise(self._references, msgspec.json.encode(dict(sorted(names.items()))))
        atomic.sync_directory(self._references.parent)

    # -- the picture

    def _publish(self, images: Mapping[str, Image], names: Mapping[str, str]) -> None:
        of: dict[str, Ids] = {}
        for full, image_id in sorted(names.items()):
            of.setdefault(image_id, []).append(reference.parse(full).familiar)
        views = {image_id: self._view(image, of.get(image_id, [])) for image_id, image in images.items()}
        self._picture = Picture(images, names, views)

    def _view(self, image: Image, names: Sequence[str]) -> ImageView:
        old = self._picture.views.get(image.id)
        size = sum(self._size(layer) for layer in image.chain)
        if old is not None and old.references == list(names) and old.size == size:
            return old
        return listing.view(image, names, size, self._storage.name, self._storage_data(image))

    def _size(self, layer: str) -> int:
        record = self._layers.get(layer)
        return record.size if record is not None else 0

    def _storage_data(self, image: Image) -> dict[str, str]:
        """What `inspect` shows under GraphDriver.Data."""
        if not image.chain or self._layers.get(image.chain[-1]) is None:
            return {}
        try:
            rootfs: Rootfs = self._storage.call("rootfs", layer=image.chain[-1], writable=False)
        except WherryError as error:
            self._log.warning(f"the layers of an image cannot be found: {error}", image=image.id)
            return {}
        if not isinstance(rootfs, Overlay):
            return {"MergedDir": str(rootfs.path)}
        upper, *lowers = rootfs.lowers
        data = {"UpperDir": str(upper)}
        return data | {"LowerDir": ":".join(map(str, lowers))} if len(image.chain) > 1 else data


def _cannot(image_id: str, why: str, *, forced: bool) -> Conflict:
    how = "must be forced" if forced else "cannot be forced"
    return Conflict(f"conflict: unable to delete {short(image_id)} ({how}) - {why}")
