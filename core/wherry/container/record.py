"""A container's record: what is promised about it across crashes, in its directory.

`config.v2.json` and `hostconfig.json`, in the spelling of the API. Creation, renaming and updates are synced; the
state inside (`State`) is rewritten without sync at start and exit, because the exit record and the run state on the
exec root say the same, newer.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import msgspec

from wherry.clock import ZERO
from wherry.spec.container import Config, EndpointRequest, HostConfig, MountPoint, Status, Value
from wherry.state import atomic

log = logging.getLogger(__name__)

VERSION: Final = 1
CONFIG: Final = "config.v2.json"
HOST_CONFIG: Final = "hostconfig.json"


class Stored(Value, frozen=True, kw_only=True):
    """How a container was last seen."""

    status: Status = "created"
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = ZERO
    finished_at: str = ZERO
    stopped_by_user: bool = False


class Record(Value, frozen=True, kw_only=True):
    """Everything about a container that is not about this very run of it."""

    version: int = VERSION
    id: str = msgspec.field(name="ID")
    name: str
    created: str
    path: str = ""
    args: list[str] = []
    config: Config
    image: str = ""
    """The image's id, `sha256:…`."""
    image_name: str = ""
    driver: str = ""
    """The storage driver that holds its layer."""
    exec_driver: str = ""
    log_driver: str = ""
    networks: dict[str, EndpointRequest] = {}
    mounts: list[MountPoint] = []
    state: Stored = Stored()
    links: dict[str, str] = {}
    """Alias → id of the container, of each `--link`."""
    restart_count: int = 0
    update_dns: bool = False
    """The host's resolv.conf changed while it ran: reference `Container.UpdateDns`."""


_decode_record: Final = msgspec.json.Decoder(Record)
_decode_host: Final = msgspec.json.Decoder(HostConfig)
_encode: Final = msgspec.json.Encoder()


def save(directory: Path, record: Record, host_config: HostConfig | None = None, *, synced: bool) -> None:
    """Write a record (and the host configuration, if given) into a container's directory.

    `synced` promises both to a power cut, with one sync of the directory.
    """
    write = atomic.promise if synced else atomic.replace
    if host_config is not None:
        write(directory / HOST_CONFIG, _encode.encode(host_config))
    write(directory / CONFIG, _encode.encode(record))
    if synced:
        atomic.sync_directory(directory)


def load(directory: Path) -> tuple[Record, HostConfig]:
    """Read a container's record. ValueError when it is damaged or of a newer version."""
    fields: Any
    try:
        content = (directory / CONFIG).read_bytes()
        fields = msgspec.json.decode(content)
        if isinstance(fields, dict) and int(fields.get("Version", 0)) > VERSION:
            raise ValueError(f"its version {fields['Version']} is newer than this engine's {VERSION}")
        record = _decode_record.decode(content)
        host_config = _decode_host.decode((directory / HOST_CONFIG).read_bytes())
    except (OSError, msgspec.DecodeError, TypeError) as error:
        raise ValueError(str(error)) from error
    if record.id != directory.name:
        raise ValueError(f"it says that it is container {record.id}")
    return record, host_config
