"""Mounts as text: `-v SOURCE:TARGET:MODE` and `--volumes-from NAME:MODE`, read into what `--mount` would have said.

Source: API 1.51 HostConfig.Binds, VolumesFrom; moby `volume/mounts` for which words go together.
"""

from __future__ import annotations

from typing import Final

from wherry.errors import InvalidRequest
from wherry.spec.container import BindOptions, MountRequest, VolumeDriverConfig, VolumeOptions

PROPAGATIONS: Final = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_KINDS_OF_WORDS: Final = (
    frozenset({"ro", "rw"}),
    frozenset({"z", "Z"}),
    PROPAGATIONS,
    frozenset({"nocopy"}),
    frozenset({"idmap"}),
    frozenset({"consistent", "cached", "delegated", "default"}),
)
"""A mode has at most one word of each."""


def bind(text: str, driver: str = "") -> tuple[MountRequest, str]:
    """What `-v` asks for, and its mode as it was written. `driver`: of volumes, where one was named. InvalidRequest.

    A source that begins with `/` is the host's; any other is a volume's name, and none is an anonymous volume.
    """
    parts = text.split(":", 3)
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and _is_mode(parts[1])):
        raise InvalidRequest(f"invalid volume specification: '{text}'")
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    mode = parts[2] if len(parts) == 3 else ""
    if not _is_mode(mode):
        raise InvalidRequest(f"invalid mode: {mode}")
    words = mode.split(",")
    is_bind = source.startswith("/")
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    no_copy = "nocopy" in words
    volume_options = None
    if no_copy or (driver and not is_bind):
        config = VolumeDriverConfig(name=driver) if driver and not is_bind else None
        volume_options = VolumeOptions(no_copy=no_copy, driver_config=config)
    bind_options = None
    if propagation or is_bind:
        bind_options = BindOptions(propagation=propagation, create_mountpoint=is_bind)
    request = MountRequest(
        type="bind" if is_bind else "volume",
        source=source,
        target=target,
        read_only="ro" in words,
        bind_options=bind_options,
        volume_options=volume_options,
    )
    return request, mode


def volumes_from(text: str) -> tuple[str, bool]:
    """Whose volumes `--volumes-from` asks for, and whether they are to be read only. InvalidRequest."""
    if not text:
        raise InvalidRequest("volumes-from specification cannot be an empty string")
    name, _, mode = text.partition(":")
    words = mode.split(",")
    if not _is_mode(mode) or {"nocopy", "idmap", *PROPAGATIONS}.intersection(words):
        raise InvalidRequest(f"invalid mode: {mode}")
    return name, "ro" in words


def _is_mode(mode: str) -> bool:
    if not mode:
        return True
    words = mode.split(",")
    return sum(word in kind for word in words for kind in _KINDS_OF_WORDS) == len(words) and not any(
        sum(word in kind for word in words) > 1 for kind in _KINDS_OF_WORDS
    )
