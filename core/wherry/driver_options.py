"""A driver's options: from what a configuration file or a flag says to the typed dataclass that the driver declares.

    class MyStorage:
        @dataclass(frozen=True)
        class Options:
            mount_program: str = ""

`[storage.mine] mount-program = "/usr/bin/x"` becomes `Options(mount_program="/usr/bin/x")`. Names are written with
dashes or underscores; numbers and booleans may come as text, because flags have nothing else.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from wherry.errors import ConfigurationError
from wherry.words import nearest


def build(declared: type, given: Mapping[str, Any], of: str, sources: Mapping[str, str]) -> Any:
    """An instance of the dataclass `declared` from `given`; `of` says whose options these are, for messages.

    Raises ConfigurationError, with the place that `sources` knows for an option (`file:line`), for an unknown option,
    one of another type, or one that is missing.
    """
    fields = {field.name: field for field in dataclasses.fields(declared) if field.init}
    hints = typing.get_type_hints(declared) if given else {}
    values: dict[str, Any] = {}
    for option, value in given.items():
        place = f"{sources[option]}: " if option in sources else ""
        name = option.replace("-", "_")
        if name not in fields:
            known = nearest(option, (field.replace("_", "-") for field in fields))
            raise ConfigurationError(f'{place}{of} has no option "{option}"{known}')
        values[name] = _convert(value, hints[name], f'{place}option "{option}" of {of}')
    missing = [name for name, field in fields.items() if name not in values and not _has_default(field)]
    if missing:
        raise ConfigurationError(f'{of} needs the option "{missing[0].replace("_", "-")}"')
    try:
        return declared(**values)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the options of {of} do not fit: {error}") from error


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _convert(value: Any, wanted: Any, what: str) -> Any:
    import msgspec  # only for a driver that has options, and was given some

    def path(kind: type, text: Any) -> Any:
        if kind is Path and isinstance(text, str):
            return Path(text)
        raise NotImplementedError(f"options of type {kind.__name__} are not supported")

    try:
        # What is not text came from a file that has types; there 1 is no boolean and 1.5 no integer.
        return msgspec.convert(value, type=wanted, strict=not isinstance(value, str), dec_hook=path)
    except (msgspec.ValidationError, NotImplementedError) as error:
        raise ConfigurationError(f"{what}: {in_words(error)}") from error


def in_words(error: Exception) -> str:
    """A complaint about a type, in the words of whoever writes a configuration file."""

    def words(found: re.Match[str]) -> str:
        return " or ".join(_WORDS.get(kind, f'"{kind}"') for kind in found.group(1).split(" | "))

    return re.sub(r"`([^`]*)`", words, str(error))


_WORDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
