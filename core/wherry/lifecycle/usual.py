"""What the daemon's configuration says of every container's process, where the container itself says nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wherry.config import Settings
from wherry.errors import ConfigurationError, InvalidRequest
from wherry.house import House
from wherry.lifecycle.security import Security, check_seccomp
from wherry.linux.capabilities import DEFAULT
from wherry.spec.command import Rlimit, Seccomp

_LARGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    rlimits: tuple[Rlimit, ...] = ()
    security: Security = field(default_factory=Security)


def usual_of(house: House) -> Usual:
    """Of the containers of this engine."""
    return Usual(
        rlimits=house.settings.default_ulimits,
        security=Security(seccomp=house.seccomp, no_new_privileges=house.settings.no_new_privileges),
    )


def read_seccomp(settings: Settings) -> Seccomp:
    """The filter of the setting `seccomp-profile`: `builtin`, `unconfined`, or a file, read once.

    ConfigurationError: there is no such file, or no filter can be made of it.
    """
    name = settings.seccomp_profile
    if name in ("", "builtin", "default"):
        return Seccomp()
    if name == "unconfined":
        return Seccomp(mode="unconfined")
    where = settings.sources.get("seccomp-profile", "seccomp-profile")
    try:
        with Path(name).open("rb") as file:
            document = file.read(_LARGEST + 1).decode("utf-8")
        found = Seccomp(mode="custom", document=document)
        check_seccomp(found, DEFAULT)
    except OSError as error:
        raise ConfigurationError(
            f'{where}: the seccomp profile "{name}" cannot be read: {error.strerror}'
        ) from error
    except (UnicodeDecodeError, InvalidRequest) as error:
        raise ConfigurationError(f'{where}: the seccomp profile "{name}": {error}') from error
    return found
