"""What a user may set. Names and meaning are Docker's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from wherry.spec.logtag import DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user may set: Docker's options. `socket` is of the daemon's configuration only."""

    tag: str = DEFAULT
    labels: str = ""
    labels_regex: str = ""
    env: str = ""
    env_regex: str = ""
    socket: str = "/run/systemd/journal/socket"


NAMES: Final = tuple(field.name.replace("_", "-") for field in fields(Options) if field.name != "socket")
