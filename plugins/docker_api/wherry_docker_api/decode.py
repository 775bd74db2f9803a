"""JSON of clients, into the types of the specification, strictly.

Python's own parser takes NaN, lone surrogates, duplicate names and endless nesting; here they are the sender's fault.
What Go's decoder allows, clients rely on, and so it is allowed here: names in any case, unknown names, and null for
"not said" (docker-py sends `"Interval": null`).
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from functools import cache
from typing import Any, Final, NoReturn, TypeVar, Union, get_args, get_origin

import msgspec

from wherry.errors import InvalidRequest

T = TypeVar("T")

DEPTH_LIMIT: Final = 64
_LEAST: Final = -(1 << 63)
_MOST: Final = (1 << 64) - 1


def document(body: bytes, what: str = "the body of the request") -> Any:
    """One JSON value. Raises InvalidRequest."""
    if not body.strip():
        raise InvalidRequest(f"invalid JSON: got EOF while reading {what}")
    try:
        value = _decoder.decode(body.decode())
    except RecursionError:
        raise InvalidRequest(f"invalid JSON: {what} is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, a number of too many digits
        raise InvalidRequest(f"invalid JSON: {what}: {error}") from error
    _check(value, what)
    return value


def into(kind: type[T], value: Any) -> T:
    """`value`, from `document`, as a `kind`. Raises InvalidRequest, which names the field."""
    try:
        return msgspec.convert(normal(kind, value), kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        field = path.rstrip("`").lstrip(".") or "the body"
        raise InvalidRequest(f"invalid JSON: {field}: {message[:1].lower()}{message[1:]}") from error


def normal(kind: type, value: Any) -> Any:
    """`value` with the spelling that `kind` has for its names, and without unknown ones and nulls."""
    shape = _shape(kind)
    return shape(value) if shape else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'the name "{twice[:100]}" occurs twice')
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _check(value: Any, what: str) -> None:
    """Refuse what is nested too deeply, numbers beyond 64 bits, and text that is no Unicode."""
    level = [value]
    for _ in range(DEPTH_LIMIT):
        deeper: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                deeper.extend(each)
                deeper.extend(each.values())
            elif isinstance(each, list):
                deeper.extend(each)
            elif isinstance(each, str):
                if not each.isascii():
                    _check_text(each, what)
            elif isinstance(each, float):
                if each in (float("inf"), float("-inf")):
                    raise InvalidRequest(f"invalid JSON: {what}: a number is out of range")
            elif isinstance(each, int) and not _LEAST <= each <= _MOST:
                raise InvalidRequest(f"invalid JSON: {what}: the number {str(each)[:30]} is out of range")
        if not deeper:
            return
        level = deeper
    raise InvalidRequest(f"invalid JSON: {what} is nested too deeply")


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"invalid JSON: {what}: a string has half of a surrogate pair") from None


# ---- The shape of a type: a function that puts a value into its spelling, or None where nothing is to be done.

Shape = Callable[[Any], Any]


@cache
def _shape(kind: Any) -> Shape | None:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct_shape(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return next((shape for part in parts if (shape := _shape(part))), None)
    if origin is list:
        return _list_shape(_shape(parts[0]))
    if origin is dict:
        return _dict_shape(parts[1])
    return _integer if kind is int else None


def _struct_shape(kind: type[msgspec.Struct]) -> Shape:
    fields = {
        field.encode_name.lower(): (field.encode_name, _shape(field.type))
        for field in msgspec.structs.fields(kind)
    }

    def shape(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        found: dict[str, Any] = {}
        for given, each in value.items():
            field = fields.get(given.lower())
            if field is None or each is None:
                continue
            name, inner = field
            if name in found:
                raise InvalidRequest(f'invalid JSON: the name "{name}" occurs twice')
            found[name] = inner(each) if inner else each
        return found

    return shape


def _list_shape(inner: Shape | None) -> Shape | None:
    if inner is None:
        return None
    return lambda value: [inner(each) for each in value] if isinstance(value, list) else value


def _dict_shape(kind: Any) -> Shape | None:
    inner = _shape(kind)
    # Go has an empty value for a null in a map.
    empty: Any = (
        "" if kind is str else {} if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None
    )

    def shape(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: empty if each is None else inner(each) if inner else each for name, each in value.items()
        }

    return shape


def _integer(value: Any) -> Any:
    # What does not fit Go's int64 is a mistake, although Python has no bounds.
    if isinstance(value, int) and value > -_LEAST - 1:
        raise InvalidRequest(f"invalid JSON: the number {value} is out of range")
    return value
