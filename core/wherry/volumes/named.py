"""Named volumes of the local kind: a directory each below the data root, with its labels beside it."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from wherry.clock import now
from wherry.errors import InvalidRequest, NotFound
from wherry.linux import paths
from wherry.spec.container import Value
from wherry.state import atomic

NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")


class Volume(Value, frozen=True, kw_only=True):
    """A volume as recorded. `anonymous`: made for one container, named by nobody."""

    name: str
    created: str
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    anonymous: bool = False


_decode: Final = msgspec.json.Decoder(Volume)


class Volumes:
    """The volumes below `root`. A volume exists when its record does."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o711)

    def path(self, name: str) -> Path:
        """Where a volume's files are."""
        return self._root / name / "_data"

    def ensure(
        self,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Volume:
        """The volume of this name, made if there is none; "" makes an anonymous one. Durable when it returns."""
        if len(name) == 1:
            raise InvalidRequest(
                f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
            )
        if name and not NAME.match(name):
            raise InvalidRequest(
                f'create {name}: "{name}" includes invalid characters for a local volume name, only '
                '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
            )
        if name:
            try:
                return self.get(name)
            except NotFound:
                pass
        volume = Volume(
            name=name or secrets.token_hex(32),
            created=now(),
            labels=dict(labels or {}),
            options=dict(options or {}),
            anonymous=not name,
        )
        directory = self._root / volume.name
        (directory / "_data").mkdir(parents=True, exist_ok=True, mode=0o755)
        atomic.promise(directory / "volume.json", msgspec.json.encode(volume))
        atomic.sync_directory(directory)
        atomic.sync_directory(self._root)
        return volume

    def get(self, name: str) -> Volume:
        try:
            return _decode.decode((self._root / name / "volume.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("volume", name, f"get {name}: no such volume") from None

    def all(self) -> list[Volume]:
        found = []
        for directory in sorted(self._root.iterdir()):
            try:
                found.append(self.get(directory.name))
            except (NotFound, msgspec.DecodeError):
                continue
        return found

    def open(self, name: str, subpath: str = "") -> int:
        """A descriptor (O_PATH) of a volume's directory, or of what is at `subpath` in it; the caller's to close.

        Links in the volume are its containers' doing, so none leads out of it. InvalidRequest where there is nothing.
        """
        top = os.open(self.path(name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if not subpath:
            return top
        inside = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_MAGICLINKS
        try:
            return paths.openat2(top, subpath, os.O_PATH, resolve=inside)
        except OSError as error:
            reason = (
                "it leads out of the volume" if error.errno == errno.EXDEV else os.strerror(error.errno or 0)
            )
            raise InvalidRequest(f"cannot access path {subpath} of volume {name}: {reason}") from error
        finally:
            os.close(top)

    def discard(self, name: str) -> None:
        """As `remove`; gone is fine."""
        try:
            self.remove(name)
        except NotFound:
            pass

    def remove(self, name: str) -> None:
        """Delete a volume with its files: its record first, so that it is gone for readers at once."""
        self.get(name)
        (self._root / name / "volume.json").unlink(missing_ok=True)
        atomic.sync_directory(self._root / name)
        shutil.rmtree(self._root / name, ignore_errors=True)
