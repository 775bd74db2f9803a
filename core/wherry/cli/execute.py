"""`wherry exec`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from wherry.cli import follow, parse, terminal
from wherry.cli.connection import DaemonError, part
from wherry.cli.flags import flag
from wherry.cli.session import Session
from wherry.errors import InvalidRequest


def execute(
    session: Session,
    container: Annotated[str, typer.Argument(metavar="CONTAINER")],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND [ARG]…")],
    detach: Annotated[bool, flag("-d", "--detach", help="Do not wait for it")] = False,
    interactive: Annotated[bool, flag("-i", "--interactive", help="Keep stdin open")] = False,
    tty: Annotated[bool, flag("-t", "--tty", help="Allocate a terminal")] = False,
    env: Annotated[list[str] | None, flag("-e", "--env", help="Set a variable")] = None,
    env_file: Annotated[list[str] | None, flag("--env-file", help="Read variables from a file")] = None,
    user: Annotated[str, flag("-u", "--user", help="Name or uid [:group or gid]")] = "",
    workdir: Annotated[str, flag("-w", "--workdir", help="Working directory")] = "",
    privileged: Annotated[bool, flag("--privileged", help="Give the process everything")] = False,
    detach_keys: Annotated[str, flag("--detach-keys", help="Keys that detach [ctrl-p,ctrl-q]")] = "",
) -> int:
    client = session.client
    if tty and interactive and not detach and not os.isatty(0):
        raise InvalidRequest("the input device is not a TTY")
    console = terminal.size() if tty else None
    body = {
        "Cmd": command,
        "Env": parse.environment(env_file or [], env or []),
        "User": user,
        "WorkingDir": workdir,
        "Privileged": privileged,
        "Tty": tty,
        "AttachStdin": interactive and not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "DetachKeys": detach_keys,
    }
    path = f"/exec/{client.call('POST', f'/containers/{part(container)}/exec', None, body)['Id']}"
    begin = {"Detach": detach, "Tty": tty} | ({"ConsoleSize": list(console)} if console else {})
    if detach:
        client.call("POST", f"{path}/start", None, begin)
        return 0
    try:
        stream = client.open("POST", f"{path}/start", None, begin, hijack=True)
    except DaemonError as error:
        code = follow.start_failure(error)
        if code == 125:
            raise
        print(f"wherry: {error}", file=sys.stderr)
        return code
    with follow.size_followed(client, path, tty):
        if not follow.follow(stream, tty=tty, stdin=interactive, detach_keys=detach_keys):
            return 0
    return int(client.call("GET", f"{path}/json")["ExitCode"] or 0)
