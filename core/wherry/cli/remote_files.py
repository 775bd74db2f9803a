"""A container's files, as the daemon shows them. Source: API 1.51 /containers/{id}/archive."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wherry.cli.connection import Client, DaemonError, Response, Upload, part

_DIRECTORY: Final = 1 << 31  # Go's os.FileMode
_LINK: Final = 1 << 27
_DEVICE: Final = 1 << 26
_IRREGULAR: Final = 1 << 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """What is at a path."""

    mode: int
    size: int
    link_target: str
    """Where a link leads in the end; "" for what is none."""

    @property
    def is_directory(self) -> bool:
        return bool(self.mode & _DIRECTORY)

    @property
    def is_link(self) -> bool:
        return bool(self.mode & _LINK)

    @property
    def oddity(self) -> str:
        """What it is where it cannot be copied to; "" where it can."""
        return "a device" if self.mode & _DEVICE else "an irregular file" if self.mode & _IRREGULAR else ""


@dataclass(frozen=True, slots=True)
class Remote:
    """The files of one container."""

    client: Client
    name: str

    def stat(self, path: str) -> Stat | None:
        """What is at a path; None where the daemon does not say: the copy itself will tell why."""
        try:
            response = self.client.open("HEAD", self._url, {"path": path})
        except DaemonError as error:
            if not error.status:
                raise
            return None
        response.socket.close()
        return _stat(response)

    def get(self, path: str) -> tuple[Stat, Response]:
        """What is at a path, and the archive of it."""
        response = self.client.open("GET", self._url, {"path": path})
        return _stat(response), response

    def put(self, path: str, archive: Iterable[bytes] | Upload, *, own: bool) -> None:
        """Unpack an archive in a directory; with `own` all is to be the container's user's."""
        query = {"path": path, "noOverwriteDirNonDir": "true", "copyUIDGID": own}
        self.client.open("PUT", self._url, query, upload=archive).body()

    @property
    def _url(self) -> str:
        return f"/containers/{part(self.name)}/archive"


def _stat(response: Response) -> Stat:
    try:
        found = json.loads(base64.b64decode(response.headers["x-docker-container-path-stat"]))
        return Stat(
            mode=int(found["mode"]), size=int(found["size"]), link_target=str(found["linkTarget"] or "")
        )
    except (KeyError, ValueError, TypeError):
        raise DaemonError("the daemon does not say what is at the path") from None
