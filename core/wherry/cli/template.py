"""`--format`: the part of Go's templates that people use with docker.

    {{.State.Pid}}   {{json .Config}}   {{index .Config.Labels "a"}}   {{range $k, $v := .X}}…{{end}}   {{if .X}}…{{else}}…{{end}}
    {{len .X}}   {{join .X ","}}   {{lower .X}}   {{upper .X}}   {{println .X}}   {{printf "%s %d" .X .Y}}

Anything else is refused with what was written, rather than printed wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from wherry.errors import InvalidRequest

_ACTION: Final = re.compile(
    r"\s*\{\{-\s+(.*?)\s+-\}\}\s*|\s*\{\{-\s+(.*?)\}\}|\{\{(.*?)\s+-\}\}\s*|\{\{(.*?)\}\}", re.S
)
_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|\(|\)|\||[^\s()|]+')
_MISSING: Final = object()

Names = dict[str, Any]


class Template:
    """A parsed format. `render(value)` is its text for one value."""

    def __init__(self, text: str) -> None:
        # Shells give \t and \n as they were typed; docker takes them for a tab and a newline.
        text = text.replace("\\t", "\t").replace("\\n", "\n")
        pieces = _ACTION.split(text)
        self._pieces: list[tuple[bool, str]] = []
        for at in range(0, len(pieces), 5):
            self._pieces.append((False, pieces[at] or ""))
            action = next((each for each in pieces[at + 1 : at + 5] if each is not None), None)
            if action is not None:
                self._pieces.append((True, action.strip()))

    def render(self, value: Any) -> str:
        text, at, _ = self._block(0, value, {"$": value})
        if at < len(self._pieces):
            raise InvalidRequest(f"template parsing error: unexpected {{{{{self._pieces[at][1]}}}}}")
        return text

    def _block(self, at: int, dot: Any, names: Names) -> tuple[str, int, str]:
        """Text up to an `end` or `else` that is not of a block inside, where that is, and which."""
        found = []
        while at < len(self._pieces):
            is_action, text = self._pieces[at]
            word = text.split(None, 1)[0] if is_action and text else ""
            if not is_action:
                found.append(text)
                at += 1
            elif word in ("end", "else"):
                return "".join(found), at, text
            elif word in ("if", "range", "with"):
                piece, at = self._control(word, text.partition(word)[2].strip(), at + 1, dot, names)
                found.append(piece)
            elif text.startswith("/*"):
                at += 1
            else:
                found.append(_text(_pipeline(text, dot, names)))
                at += 1
        return "".join(found), at, ""

    def _control(self, word: str, what: str, at: int, dot: Any, names: Names) -> tuple[str, int]:
        variables: list[str] = []
        if ":=" in what:
            left, _, what = what.partition(":=")
            variables = [name.strip() for name in left.split(",")]
        value = _pipeline(what.strip(), dot, names)
        if word == "range":
            entries = _entries(value)
        else:
            entries = [("", dot if word == "if" else value)] if _true(value) else []
        text, end, closing = "", at, ""
        for key, each in entries:
            inner = {**names, **dict(zip(reversed(variables), (each, key), strict=False))}
            piece, end, closing = self._block(at, each, inner)
            text += piece
        if not entries:
            _, end, closing = self._skip(at)
        if closing == "else":
            if entries:
                _, end, closing = self._skip(end + 1)
            else:
                text, end, closing = self._block(end + 1, dot, names)
        if closing != "end":
            raise InvalidRequest(f"template parsing error: {{{{{word} …}}}} is not closed by {{{{end}}}}")
        return text, end + 1

    def _skip(self, at: int) -> tuple[str, int, str]:
        depth = 0
        while at < len(self._pieces):
            is_action, text = self._pieces[at]
            word = text.split(None, 1)[0] if is_action and text else ""
            if word in ("if", "range", "with"):
                depth += 1
            elif word in ("end", "else") and depth == 0:
                return "", at, text
            elif word == "end":
                depth -= 1
            at += 1
        return "", at, ""


def _pipeline(text: str, dot: Any, names: Names) -> Any:
    words = _WORD.findall(text)
    value: Any = _MISSING
    for stage in _stages(words):
        value = _command(stage, dot, names, value)
    return value


def _stages(words: list[str]) -> Iterator[list[str]]:
    stage: list[str] = []
    depth = 0
    for word in words:
        depth += (word == "(") - (word == ")")
        if word == "|" and depth == 0:
            yield stage
            stage = []
        else:
            stage.append(word)
    yield stage


def _command(words: list[str], dot: Any, names: Names, piped: Any) -> Any:
    if not words:
        raise InvalidRequest("template parsing error: missing value for command")
    function = words[0] if words[0] in _FUNCTIONS else ""
    arguments = [_operand(each, dot, names) for each in _operands(words[1:] if function else words)]
    if piped is not _MISSING:
        arguments.append(piped)
    if not function:
        if len(arguments) != 1:
            raise InvalidRequest(f'template parsing error: function "{words[0]}" not defined')
        return arguments[0]
    try:
        return _FUNCTIONS[function](*arguments)
    except (TypeError, LookupError, ValueError) as error:
        raise InvalidRequest(f"template: error calling {function}: {error}") from error


def _operands(words: list[str]) -> Iterator[list[str]]:
    group: list[str] = []
    depth = 0
    for word in words:
        if depth or word == "(":
            depth += (word == "(") - (word == ")")
            group.append(word)
            if depth == 0:
                yield group[1:-1]
                group = []
        else:
            yield [word]


def _operand(words: list[str], dot: Any, names: Names) -> Any:
    if len(words) != 1:
        value: Any = _MISSING
        for stage in _stages(words):
            value = _command(stage, dot, names, value)
        return value
    word = words[0]
    if word[0] == '"':
        return json.loads(word)
    if word[0] == "`":
        return word[1:-1]
    if word in ("true", "false", "nil"):
        return {"true": True, "false": False, "nil": None}[word]
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    if word == ".":
        return dot
    first, *path = word.split(".")
    if first and not first.startswith("$"):
        raise InvalidRequest(f'template parsing error: function "{first}" not defined')
    if first and first not in names:
        raise InvalidRequest(f"template parsing error: undefined variable {first}")
    return _walk(names[first] if first else dot, path, word)


def _walk(value: Any, path: list[str], whole: str) -> Any:
    for name in path:
        if isinstance(value, Mapping):
            if name not in value:
                raise InvalidRequest(f'template: can\'t evaluate field {name} in "{whole}"')
            value = value[name]
        elif value is None:
            return None
        else:
            raise InvalidRequest(f'template: can\'t evaluate field {name} in "{whole}"')
    return value


def _entries(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    return list(enumerate(value)) if isinstance(value, list) else []


def _true(value: Any) -> bool:
    return value is not _MISSING and bool(value)


def _text(value: Any) -> str:
    match value:
        case None:
            return "<no value>"
        case bool():
            return str(value).lower()
        case list():
            return "[" + " ".join(_text(each) for each in value) + "]"
        case Mapping():
            return "map[" + " ".join(f"{key}:{_text(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, Mapping) else value[key]
    return value


def _printf(form: str, *values: Any) -> str:
    filled = tuple(
        _text(value) if kind != "d" else value
        for value, kind in zip(values, re.findall(r"%-?\d*([a-z])", form), strict=False)
    )
    return form.replace("%v", "%s").replace("%q", '"%s"') % filled


_FUNCTIONS: Final[Mapping[str, Any]] = {
    "json": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    "index": _index,
    "len": len,
    "join": lambda values, separator: separator.join(map(_text, values or [])),
    "split": lambda text, separator: text.split(separator),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "title": lambda text: text.title(),
    "println": lambda *values: " ".join(map(_text, values)) + "\n",
    "print": lambda *values: " ".join(map(_text, values)),
    "printf": _printf,
    "eq": lambda value, *others: value in others,
    "ne": lambda value, other: value != other,
    "not": lambda value: not _true(value),
    "and": lambda *values: next((value for value in values if not _true(value)), values[-1]),
    "or": lambda *values: next((value for value in values if _true(value)), values[-1]),
    "truncate": lambda text, length: text[:length],
}  # fmt: skip
