"""Reading a verb's command line by the flags that its function declares for typer.

typer declares and documents; it could read too, but imports 75 ms of pydantic for it, and docker's users write what
typer refuses (`--rm=true`, `--sig-proxy=false`) and match docker's words (`unknown flag: --x`). The rules are those of
docker's own reader, pflag: clusters (`-it`), values attached (`-p80:80`, `--name=x`), `--` ends the flags.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Final

from typer.models import ArgumentInfo, OptionInfo

from wherry.cli.session import Session, UsageError
from wherry.words import nearest

_TRUE: Final = ("true", "t", "1")
_FALSE: Final = ("false", "f", "0")


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of a verb: the parameter it fills, its names, those that say no, and the type of its value."""

    parameter: str
    names: tuple[str, ...]
    opposites: tuple[str, ...]
    kind: Any
    repeated: bool


@dataclass(frozen=True, slots=True)
class Positional:
    parameter: str
    required: bool
    repeated: bool


def read(verb: str, function: Callable[..., Any], words: Sequence[str], *, program: bool) -> dict[str, Any]:
    """The arguments to call `function` with, besides the session. `program`: flags end at the first other word.

    Raises UsageError.
    """
    flags, positionals = declared(function)
    by_name = {name: flag for flag in flags for name in (*flag.names, *flag.opposites)}
    found: dict[str, Any] = {}
    plain: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            plain += rest
            break
        if not word.startswith("-") or word == "-":
            plain.append(word)
            if program:
                plain += rest
                break
        elif word.startswith("--"):
            _long(word, rest, by_name, found)
        else:
            _cluster(word, rest, by_name, found)
    return found | _place(verb, positionals, plain)


def declared(function: Callable[..., Any]) -> tuple[list[Flag], list[Positional]]:
    """The flags and positional arguments in a function's signature."""
    flags: list[Flag] = []
    positionals: list[Positional] = []
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if hint is Session:
            continue
        kind, said = typing.get_args(hint)[:2]
        kinds = [each for each in typing.get_args(kind) or (kind,) if each is not NoneType]
        inner = kind if typing.get_origin(kind) is list else kinds[0]
        repeated = typing.get_origin(inner) is list
        if isinstance(said, ArgumentInfo):
            positionals.append(Positional(name, parameter.default is parameter.empty, repeated))
        elif isinstance(said, OptionInfo):
            # Inside Annotated, typer takes the first name for its `default`.
            said_names = [said.default, *(said.param_decls or ())]
            names = [each.split("/") for each in said_names if isinstance(each, str) and each.startswith("-")]
            yes = tuple(each[0] for each in names)
            no = tuple(each[1] for each in names if len(each) > 1)
            flags.append(Flag(name, yes, no, str if repeated else inner, repeated))
    return flags, positionals


def _long(word: str, rest: list[str], by_name: dict[str, Flag], found: dict[str, Any]) -> None:
    name, equals, value = word.partition("=")
    flag = by_name.get(name)
    if flag is None:
        known = nearest(name, [each for each in by_name if each.startswith("--")])
        raise UsageError(f"unknown flag: {name}{known if 'mean' in known else ''}")
    if flag.kind is bool:
        _set(flag, found, _boolean(name, value if equals else "true") != (name in flag.opposites))
        return
    if not equals:
        if not rest:
            raise UsageError(f"flag needs an argument: {name}")
        value = rest.pop(0)
    _set(flag, found, _convert(flag, name, value))


def _cluster(word: str, rest: list[str], by_name: dict[str, Flag], found: dict[str, Any]) -> None:
    letters = word[1:]
    while letters:
        name, letters = "-" + letters[0], letters[1:]
        flag = by_name.get(name)
        if flag is None:
            raise UsageError(f"unknown shorthand flag: '{name[1]}' in {word}")
        if flag.kind is bool:
            value = "true"
            if letters.startswith("="):
                value, letters = letters[1:], ""
            _set(flag, found, _boolean(name, value))
            continue
        if not letters and not rest:
            raise UsageError(f"flag needs an argument: '{name[1]}' in {word}")
        value = letters.removeprefix("=") if letters else rest.pop(0)
        _set(flag, found, _convert(flag, name, value))
        return


def _set(flag: Flag, found: dict[str, Any], value: Any) -> None:
    if flag.repeated:
        found.setdefault(flag.parameter, []).append(value)
    else:
        found[flag.parameter] = value


def _boolean(name: str, value: str) -> bool:
    if value.lower() not in _TRUE + _FALSE:
        raise UsageError(f'invalid argument "{value}" for "{name}" flag: true or false is expected')
    return value.lower() in _TRUE


def _convert(flag: Flag, name: str, value: str) -> Any:
    if flag.kind is int:
        try:
            return int(value)
        except ValueError:
            raise UsageError(
                f'invalid argument "{value}" for "{name}" flag: a whole number is expected'
            ) from None
    return Path(value) if flag.kind is Path else value


def _place(verb: str, positionals: Sequence[Positional], words: list[str]) -> dict[str, Any]:
    least = sum(each.required for each in positionals)
    endless = any(each.repeated for each in positionals)
    exact = "exactly" if least == len(positionals) and not endless else "at least"
    if len(words) < least:
        raise UsageError(f'"wherry {verb}" requires {exact} {least} argument{"s" if least > 1 else ""}.')
    if len(words) > len(positionals) and not endless:
        if not positionals:
            raise UsageError(f'"wherry {verb}" accepts no arguments.')
        most = f"exactly {least}" if exact == "exactly" else f"at most {len(positionals)}"
        raise UsageError(f'"wherry {verb}" accepts {most} argument{"s" if len(positionals) > 1 else ""}.')
    found: dict[str, Any] = {}
    for each in positionals:
        if each.repeated:
            found[each.parameter], words = words, []
        elif words:
            found[each.parameter] = words.pop(0)
    return found
