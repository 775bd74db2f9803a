"""Flags that several verbs share, declared once: a dataclass of flags stands for them in a function's signature.

    @flattened
    def run(session: Session, image: str, flags: ContainerFlags) -> int: …

Every field of `ContainerFlags` is seen as a parameter of its own; `run` gets the object.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any, Final

import typer

from wherry.cli.session import Session

NOT_GIVEN: Final[Any] = None
"""The default of a flag that may be repeated; the field is then an empty list."""


def flag(*names: str, help: str, metavar: str | None = None, hidden: bool = False) -> Any:
    """A flag of one of the types that a field may have: `Annotated[str, flag("--name", help="…")] = ""`."""
    return typer.Option(*names, help=help, metavar=metavar, hidden=hidden, show_default=False)


def flattened(function: Callable[..., int]) -> Callable[..., int]:
    """`function` with every parameter whose type is a dataclass replaced by that dataclass's fields."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = hints[name]
        if kind is Session or not dataclasses.is_dataclass(kind):
            parameters.append(parameter.replace(annotation=kind, kind=parameter.KEYWORD_ONLY))
            continue
        groups[name] = typing.get_type_hints(kind, include_extras=True)
        for each in dataclasses.fields(kind):
            as_parameter = parameter.replace(name=each.name, kind=parameter.KEYWORD_ONLY)
            parameters.append(as_parameter.replace(default=each.default, annotation=groups[name][each.name]))

    defaults = {each.name: each.default for each in parameters}

    def call(**given: Any) -> int:
        for name, fields in groups.items():
            values = {each: _value(given.pop(each, defaults[each]), kind) for each, kind in fields.items()}
            given[name] = hints[name](**values)
        return function(**given)

    call.__name__, call.__doc__, call.__module__ = function.__name__, function.__doc__, function.__module__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": int}
    return call


def _value(given: Any, kind: Any) -> Any:
    is_list = typing.get_origin(typing.get_args(kind)[0]) is list
    return [] if given is None and is_list else given
