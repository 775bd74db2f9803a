"""`docker import --change` and `docker commit --change`: the few instructions of a Dockerfile that only set configuration.

Source: API 1.51 ImageCreate `changes`; the Dockerfile reference.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from wherry.errors import InvalidRequest
from wherry.spec.container import Config

_PORT: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE | re.ASCII)


def amend(config: Config, changes: Sequence[str]) -> Config:
    """`config` with each instruction applied. InvalidRequest names the instruction at fault."""
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        apply = _INSTRUCTIONS.get(word.upper())
        if apply is None:
            raise InvalidRequest(f"{word or 'an empty line'} is not a valid change command")
        if not rest.strip():
            raise InvalidRequest(f"{word.upper()} requires at least one argument")
        config = apply(config, rest.strip())
    return config


def _exec_form(text: str) -> list[str] | None:
    """`["a", "b"]`, or None for the shell form."""
    if not text.startswith("["):
        return None
    try:
        return msgspec.json.decode(text.encode(), type=list[str])
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _command(text: str) -> list[str]:
    found = _exec_form(text)
    return ["/bin/sh", "-c", text] if found is None else found


def _words(text: str, instruction: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidRequest(f"{instruction} {text}: {error}") from error


def _pairs(text: str, instruction: str) -> list[tuple[str, str]]:
    """`a=b c="d e"`, or the old form `a all the rest`."""
    first = text.split(None, 1)
    if "=" not in first[0]:
        if len(first) == 1:
            raise InvalidRequest(f"{instruction} must have two arguments")
        return [(first[0], first[1])]
    pairs = []
    for word in _words(text, instruction):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InvalidRequest(f"Syntax error - can't find = in {word!r}. Must be of the form: name=value")
        pairs.append((name, value))
    return pairs


def _env(config: Config, text: str) -> Config:
    env = list(config.env or [])
    for name, value in _pairs(text, "ENV"):
        env = [item for item in env if item.partition("=")[0] != name] + [f"{name}={value}"]
    return replace(config, env=env)


def _expose(config: Config, text: str) -> Config:
    ports: dict[str, dict[str, Any] | None] = dict(config.exposed_ports or {})
    for word in text.split():
        found = _PORT.fullmatch(word)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if found is None or not 1 <= first <= last <= 65535:
            raise InvalidRequest(f"invalid containerPort: {word}")
        for port in range(first, last + 1):
            ports[f"{port}/{(found[3] or 'tcp').lower()}"] = {}
    return replace(config, exposed_ports=ports)


def _volume(config: Config, text: str) -> Config:
    found = _exec_form(text)
    return replace(config, volumes={**(config.volumes or {}), **{path: {} for path in found or text.split()}})


def _workdir(config: Config, text: str) -> Config:
    return replace(config, working_dir=posixpath.normpath(posixpath.join("/", config.working_dir, text)))


_INSTRUCTIONS: Final[dict[str, Callable[[Config, str], Config]]] = {
    "CMD": lambda config, text: replace(config, cmd=_command(text)),
    "ENTRYPOINT": lambda config, text: replace(config, entrypoint=_command(text)),
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": lambda config, text: replace(
        config, labels={**(config.labels or {}), **dict(_pairs(text, "LABEL"))}
    ),
    "ONBUILD": lambda config, text: replace(config, on_build=[*(config.on_build or []), text]),
    "STOPSIGNAL": lambda config, text: replace(config, stop_signal=text),
    "USER": lambda config, text: replace(config, user=text),
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
