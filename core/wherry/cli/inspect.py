"""`wherry inspect`: a container, an image or a network, whichever has the name."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from wherry.cli.connection import Client, DaemonError, part
from wherry.cli.flags import flag
from wherry.cli.session import Session
from wherry.cli.template import Template
from wherry.errors import InvalidRequest

PATHS = {"container": "/containers/{}/json", "image": "/images/{}/json", "network": "/networks/{}"}


def inspect(
    session: Session,
    names: Annotated[list[str], typer.Argument(metavar="NAME…")],
    format: Annotated[str, flag("-f", "--format", help="json or a Go template")] = "",
    type: Annotated[str, flag("--type", help="container, image or network")] = "",
    size: Annotated[bool, flag("-s", "--size", help="Show sizes of containers")] = False,
) -> int:
    if type and type not in PATHS:
        raise InvalidRequest(f'"{type}" is not a valid value for --type: one of {", ".join(PATHS)}')
    return print_all(session.client, names, [type] if type else list(PATHS), format, size)


def print_all(
    client: Client, names: Sequence[str], kinds: Sequence[str], format: str, size: bool = False
) -> int:
    """Print what is known about each; those that there are not are told, and make the code 1."""
    found: list[Any] = []
    missing = []
    for name in names:
        try:
            found.append(_look(client, name, kinds, size))
        except DaemonError as error:
            if error.status != 404:
                raise
            missing.append(f"Error: No such {kinds[0] if len(kinds) == 1 else 'object'}: {name}")
    if format in ("", "json"):
        compact = {"separators": (",", ":")} if format else {"indent": 4}
        print(json.dumps(found, ensure_ascii=False, **compact))
    else:
        template = Template(format)
        for value in found:
            print(template.render(value))
    for line in missing:
        print(line, file=sys.stderr)
    return 1 if missing else 0


def _look(client: Client, name: str, kinds: Sequence[str], size: bool) -> Any:
    for kind in kinds:
        try:
            return client.call("GET", PATHS[kind].format(part(name)), {"size": size and kind == "container"})
        except DaemonError as error:
            if error.status != 404 or kind == kinds[-1]:
                raise
    raise AssertionError("no kind was asked for")
