"""What a driver may ask of the engine. Handed to its constructor as `services` if its signature names that."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """The daemon's log, with driver and container added; in keepers the line travels to the daemon."""

    def debug(self, message: str, **fields: Any) -> None: ...
    def info(self, message: str, **fields: Any) -> None: ...
    def warning(self, message: str, **fields: Any) -> None: ...
    def error(self, message: str, **fields: Any) -> None: ...


class Services(Protocol):
    """`engine_id`: 8 hexadecimal digits, one per data root; part of every kernel object's name.

    `cgroup_parent`: the path below which this engine's cgroups live, e.g. `/wherry-0a1b2c3d/containers`.
    """

    @property
    def log(self) -> Log: ...
    @property
    def engine_id(self) -> str: ...
    @property
    def cgroup_parent(self) -> str: ...
