"""What a storage driver is: it keeps layers, and says how a stack of them becomes a root file system.

A *layer* has an id (64 hexadecimal digits) and at most one parent; the driver remembers the parent. Read-only layers
are filled once, by `apply`, and then only read. A writable layer belongs to one container. The driver never mounts:
`rootfs` answers a value, and the core makes a detached mount descriptor of it, at most one at a time for a writable
layer (mounting an upper directory twice succeeds silently and corrupts it).

    create(layer, parent)  →  apply(layer, tar)     a read-only layer of an image
    create(layer, parent)  →  rootfs(layer, True)   a container's layer
    changes, diff, usage, remove

`root` is a directory of the driver's own below the data root; it survives everything. What a crash leaves half-made
must not be visible in `owned()` as a whole layer: `create` makes a layer aside and renames it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from wherry.spec.command import IdMaps
from wherry.spec.markers import hookspec

SPEC = (1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """A root file system not yet mounted: the core makes it a mount descriptor. Source: kernel overlayfs.rst."""

    lowers: tuple[Path, ...]
    """Topmost first."""
    upper: Path | None = None
    """None: read-only."""
    work: Path | None = None
    options: tuple[str, ...] = ()
    idmap: IdMaps | None = None
    """Owners are shown mapped, as in a user namespace; the core sets it. Layers lie as they are in the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A root file system that is a plain directory."""

    path: Path
    read_only: bool = False
    idmap: IdMaps | None = None
    """As with `Overlay`."""


Rootfs = Overlay | Bind


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A path (absolute, in the container) that a layer adds, modifies or deletes against its parent."""

    path: str
    kind: Literal["added", "modified", "deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What `apply` did: size in bytes of the files it made, as `docker images` counts."""

    size: int


class StorageSpec:
    """The hooks of a storage driver. All are required. All raise NotFound("layer", id) for an unknown layer."""

    @hookspec(firstresult=True)
    def create(self, layer: str, parent: str | None) -> None:
        """Make an empty layer on top of `parent`. Conflict if it exists. Whole or not at all, not synced. Since 1.0."""

    @hookspec(firstresult=True)
    def apply(self, layer: str, archive: BinaryIO) -> Applied:
        """Unpack an uncompressed layer tar (OCI layer: whiteouts `.wh.*`, `.wh..wh..opq`) into a just created layer.

        The archive is hostile: nothing is ever written outside the layer; InvalidRequest names the entry at fault, and
        the layer is then to be removed. Ownership, modes, times, xattrs, hard links, devices are kept. Since 1.0.
        """

    @hookspec(firstresult=True)
    def rootfs(self, layer: str, writable: bool) -> Rootfs:
        """How to mount this layer with all below it. Since 1.0."""

    @hookspec(firstresult=True)
    def remove(self, layer: str) -> None:
        """Delete a layer: gone from `owned()` at once (renamed aside), deleted after. Already gone is success. Since 1.0."""

    @hookspec(firstresult=True)
    def changes(self, layer: str) -> list[Change]:
        """What the layer changes against its parent, sorted by path; reads the layers, mounts nothing. Since 1.0."""

    @hookspec(firstresult=True)
    def diff(self, layer: str, archive: BinaryIO) -> None:
        """Write the layer's changes as an OCI layer tar, reproducible byte for byte, to `archive`. Since 1.0."""

    @hookspec(firstresult=True)
    def usage(self, layer: str) -> int:
        """Bytes that this layer alone takes (its files' sizes, hard links once). Since 1.0."""

    @hookspec(firstresult=True)
    def owned(self) -> list[str]:
        """Ids of all whole layers, sorted. Since 1.0."""

    @hookspec(firstresult=True)
    def sync(self, layer: str) -> None:
        """Make a layer durable: after it returned, a power cut loses nothing of it. Since 1.0."""

    @hookspec(firstresult=True)
    def recover(self) -> list[str]:
        """Called once at start-up: delete what a crash left half-made or half-removed; answers what that was. Since 1.0."""

    @hookspec(firstresult=True)
    def status(self) -> Mapping[str, str]:
        """Facts for `docker info`, e.g. "Backing Filesystem". Raises Unsupported when it cannot work here. Since 1.0."""
