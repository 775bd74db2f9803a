"""Every error that wherry raises on purpose, as one tree by class of trouble.

    WherryError
    ├── InvalidRequest            what was asked makes no sense                     400
    │   └── ConfigurationError    in a flag or a configuration file            exit 2
    ├── Forbidden                 policy said no                                    403
    ├── NotFound                  no such container, image, network, …              404
    ├── Conflict                  the state of a thing forbids it now               409
    │   ├── NameInUse
    │   └── Busy                  another operation holds the container
    ├── NotModified               it already is as asked                            304
    ├── Gone                      it was there and is no more                       410
    ├── StartFailed               process 1 (or an exec) could not be made          400
    │   ├── CommandNotFound       exit code 127
    │   └── CommandNotExecutable  exit code 126
    ├── Unsupported               this engine, driver or kernel cannot do it        501
    ├── Unavailable               it should work, and does not now                  503
    │   └── DeadlineExceeded
    └── DriverError               a driver broke its contract                       500

The front alone maps a class to a status. Errors cross processes as `to_wire()` values.
Imports nothing.
"""

from __future__ import annotations

from typing import Any


class WherryError(Exception):
    """The root of the tree. `str(error)` is one sentence to someone at a terminal."""


class InvalidRequest(WherryError):
    """What was asked makes no sense: a wrong type, a bad value, two options that exclude each other."""


class ConfigurationError(InvalidRequest):
    """A flag or a configuration file is wrong; the message says where and names the nearest valid word."""


class Forbidden(WherryError):
    """Policy refused the request."""


class NotFound(WherryError):
    """A thing that was named does not exist. `kind` is the field's word: container, image, network, exec instance."""

    def __init__(self, kind: str, name: str, message: str | None = None) -> None:
        super().__init__(message if message is not None else f"No such {kind}: {name}")
        self.kind, self.name = kind, name


class Conflict(WherryError):
    """The present state of a thing forbids what was asked."""


class NameInUse(Conflict):
    """A container name is taken; clients match the first words."""

    def __init__(self, name: str, owner: str) -> None:
        super().__init__(
            f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )
        self.name, self.owner = name, owner


class Busy(Conflict):
    """Another operation holds the container; the message names it and its step."""


class NotModified(WherryError):
    """Already as asked; nothing was done."""


class Gone(WherryError):
    """It was there, and is no more."""


class StartFailed(WherryError):
    """Process 1, or an exec, could not be made. `exit_code` is what Docker would record."""

    exit_code = 128


class CommandNotFound(StartFailed):
    """The program is not in the container. Clients match `executable file not found`."""

    exit_code = 127


class CommandNotExecutable(StartFailed):
    """The program is there and cannot be executed. Clients match `permission denied`."""

    exit_code = 126


class Unsupported(WherryError):
    """This engine, this driver or this kernel cannot do what was asked."""


class Unavailable(WherryError):
    """It should work and does not at the moment."""


class DeadlineExceeded(Unavailable):
    """Something did not answer in its time."""


class DriverError(WherryError):
    """A driver failed or broke its contract; the message names distribution, entry point and method."""


def to_wire(error: BaseException) -> dict[str, Any]:
    """An error as a JSON value, for a message between processes."""
    if isinstance(error, NotFound):
        return {"class": "NotFound", "message": str(error), "kind": error.kind, "name": error.name}
    if isinstance(error, NameInUse):
        return {"class": "NameInUse", "message": str(error), "name": error.name, "owner": error.owner}
    if isinstance(error, WherryError):
        return {"class": type(error).__name__, "message": str(error)}
    return {"class": "WherryError", "message": f"{type(error).__name__}: {error}"}


def from_wire(value: dict[str, Any]) -> WherryError:
    """The error that `to_wire` described; an unknown class becomes a `WherryError`."""
    message = str(value.get("message", ""))
    if value.get("class") == "NotFound":
        return NotFound(str(value.get("kind", "")), str(value.get("name", "")), message)
    if value.get("class") == "NameInUse":
        return NameInUse(str(value.get("name", "")), str(value.get("owner", "")))
    found = _tree().get(str(value.get("class")), WherryError)
    return found(message)


def _tree() -> dict[str, type[WherryError]]:
    classes: dict[str, type[WherryError]] = {}
    waiting: list[type[WherryError]] = [WherryError]
    while waiting:
        kind = waiting.pop()
        classes[kind.__name__] = kind
        waiting.extend(kind.__subclasses__())
    return classes
