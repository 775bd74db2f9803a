"""`wherry attach` and `wherry start`."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from wherry.cli import follow, output
from wherry.cli.connection import Client, part
from wherry.cli.flags import flag
from wherry.cli.session import Session
from wherry.errors import InvalidRequest

Keys = Annotated[str, flag("--detach-keys", help="Keys that detach [ctrl-p,ctrl-q]")]
Proxy = Annotated[
    bool, typer.Option("--sig-proxy/--no-sig-proxy", help="Pass our signals on", show_default=False)
]


def attach(
    session: Session,
    container: Annotated[str, typer.Argument(metavar="CONTAINER")],
    no_stdin: Annotated[bool, flag("--no-stdin", help="Only watch")] = False,
    detach_keys: Keys = "",
    sig_proxy: Proxy = True,
) -> int:
    client = session.client
    seen = client.call("GET", f"/containers/{part(container)}/json")
    if not seen["State"]["Running"]:
        raise InvalidRequest("you cannot attach to a stopped container, start it first")
    if seen["State"].get("Paused"):
        raise InvalidRequest("you cannot attach to a paused container, unpause it first")
    stdin = seen["Config"]["OpenStdin"] and not no_stdin
    return _follow(client, seen, stdin=stdin, detach_keys=detach_keys, sig_proxy=sig_proxy, start=False)


def start(
    session: Session,
    containers: Annotated[list[str], typer.Argument(metavar="CONTAINER…")],
    attach: Annotated[bool, flag("-a", "--attach", help="Attach to its output and pass signals on")] = False,
    interactive: Annotated[bool, flag("-i", "--interactive", help="Attach our stdin")] = False,
    detach_keys: Keys = "",
    sig_proxy: Proxy = True,
) -> int:
    client = session.client
    if not (attach or interactive):
        return output.each(containers, lambda name: client.call("POST", f"/containers/{part(name)}/start"))
    if len(containers) > 1:
        raise InvalidRequest("you cannot start and attach multiple containers at once")
    seen = client.call("GET", f"/containers/{part(containers[0])}/json")
    stdin = interactive and seen["Config"]["OpenStdin"]
    return _follow(
        client, seen, stdin=stdin, detach_keys=detach_keys, sig_proxy=sig_proxy and attach, start=True
    )


def _follow(
    client: Client, seen: dict[str, Any], *, stdin: bool, detach_keys: str, sig_proxy: bool, start: bool
) -> int:
    name, tty = seen["Id"], seen["Config"]["Tty"]
    path = f"/containers/{name}"
    if tty and stdin and not os.isatty(0):
        raise InvalidRequest("the input device is not a TTY")
    stream = client.open(
        "POST",
        f"{path}/attach",
        {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "detachKeys": detach_keys},
        hijack=True,
    )
    removed = seen["HostConfig"].get("AutoRemove")
    condition = "removed" if removed else "next-exit" if start else "not-running"
    waiting = client.open("POST", f"{path}/wait", {"condition": condition})
    if start:
        client.call("POST", f"{path}/start")
    with (
        follow.size_followed(client, path, tty),
        follow.signals_passed(client, name, sig_proxy and not tty),
    ):
        if not follow.follow(stream, tty=tty, stdin=stdin, detach_keys=detach_keys):
            return 0
        return follow.exit_code(waiting)
