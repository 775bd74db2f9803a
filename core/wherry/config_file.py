"""Reading a configuration file: TOML, or the JSON of a `daemon.json`, as plain values that know their line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.errors import ConfigurationError

LIMIT_BYTES = 1 << 20

_HEADER = re.compile(r"\s*\[([^\[\]]+)\]")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_JSON_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:|([{}])')


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A file's values, and the line of each key: `("log", "json-file", "max-size")` → 12."""

    path: str
    values: Mapping[str, Any]
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)

    def where(self, *key: str) -> str:
        """`file:line` of a key; of the nearest key above it if it has none of its own."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.lines:
                return f"{self.path}:{self.lines[key[:length]]}"
        return self.path


def read(path: Path) -> Document:
    """Parse a configuration file. JSON if it is named so or begins with a brace. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
        text = data.decode()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    if len(data) > LIMIT_BYTES:
        raise ConfigurationError(f"{path}: is larger than {LIMIT_BYTES} bytes")
    if path.suffix == ".json" or text.lstrip().startswith("{"):
        return _json(str(path), text)
    return _toml(str(path), text)


def _toml(path: str, text: str) -> Document:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"\(at line (\d+)", str(error))
        place = f"{path}:{line.group(1)}" if line else path
        raise ConfigurationError(f"{place}: {str(error).partition(' (at ')[0]}") from error
    return Document(path=path, values=values, lines=dict(_toml_lines(text)))


def _toml_lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    # tomllib keeps no positions. A key-like line inside a multi-line string is found too: it only misleads a message.
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _split(header.group(1))
            yield table, number
        elif key := _KEY.match(line):
            yield table + _split(key.group(1)), number


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(
        part.strip().strip("\"'")
        for part in re.findall(r"""[^."']+|"[^"]*"|'[^']*'""", dotted)
        if part.strip()
    )


def _json(path: str, text: str) -> Document:
    try:
        values = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path}:{error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}: is nested too deeply") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path}: must hold one JSON object")
    return Document(path=path, values=values, lines=dict(_json_lines(text)))


def _json_lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    above: list[str] = []
    last = ""
    for found in _JSON_KEY.finditer(text):
        match found.group(2):
            case "{":
                above.append(last)
            case "}":
                above = above[:-1]
            case _:
                last = found.group(1)
                yield (*above[1:], last), text.count("\n", 0, found.start()) + 1
