"""Connections that outlive their container because others share its sandbox: kept for the next daemon, on the exec root.

Every other connection is in the run of its container; these have no run any more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from wherry.network.connection import Connection
from wherry.spec.services import Log
from wherry.state import atomic

_decode: Final = msgspec.json.Decoder(Connection)


class Lingering:
    """One file for each, named after the container. Not synced: void at the next boot, as sandboxes are."""

    def __init__(self, directory: Path, log: Log) -> None:
        self._directory = directory
        self._log = log

    def put(self, connection: Connection) -> None:
        """Keep it; on an error the next daemon has what the sharers know."""
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            atomic.replace(self._path(connection.container_id), msgspec.json.encode(connection))
        except OSError as error:
            self._log.warning(f"keeping a shared network: {error}", container=connection.container_id)

    def get(self, container_id: str) -> Connection | None:
        """None if there is none, or none that can be read."""
        try:
            return _decode.decode(self._path(container_id).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            self._log.warning(f"reading a shared network: {error}", container=container_id)
            return None

    def drop(self, container_id: str) -> None:
        """Already gone is success."""
        self._path(container_id).unlink(missing_ok=True)

    def _path(self, container_id: str) -> Path:
        return self._directory / f"{container_id}.json"
