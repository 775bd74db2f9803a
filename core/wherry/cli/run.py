"""`wherry run` and `wherry create`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from wherry.cli import follow
from wherry.cli.connection import Client, DaemonError, part
from wherry.cli.container_flags import ContainerFlags
from wherry.cli.container_request import attached, request
from wherry.cli.flags import flag, flattened
from wherry.cli.session import USAGE, Session
from wherry.errors import InvalidRequest, WherryError


@flattened
def run(
    session: Session,
    image: Annotated[str, typer.Argument(metavar="IMAGE")],
    flags: ContainerFlags,
    command: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND] [ARG]…")] = None,
    detach: Annotated[bool, flag("-d", "--detach", help="Print the container's id and leave")] = False,
    sig_proxy: Annotated[
        bool, typer.Option("--sig-proxy/--no-sig-proxy", help="Pass our signals on", show_default=False)
    ] = True,
    detach_keys: Annotated[str, flag("--detach-keys", help="Keys that detach [ctrl-p,ctrl-q]")] = "",
) -> int:
    client = session.client
    try:
        if flags.tty and flags.interactive and not detach and not os.isatty(0):
            raise InvalidRequest("the input device is not a TTY")
        body = request(flags, image, command or [], detach=detach)
        name = _create(client, flags, body)
    except (WherryError, DaemonError) as error:
        print(f"wherry: {error}\nSee `wherry run --help`.", file=sys.stderr)
        return USAGE
    if detach:
        try:
            client.call("POST", f"/containers/{name}/start")
        except DaemonError as error:
            return _not_started(client, flags, name, error)
        print(name)
        return 0
    return _foreground(client, flags, name, sig_proxy=sig_proxy, detach_keys=detach_keys)


@flattened
def create(
    session: Session,
    image: Annotated[str, typer.Argument(metavar="IMAGE")],
    flags: ContainerFlags,
    command: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND] [ARG]…")] = None,
) -> int:
    print(_create(session.client, flags, request(flags, image, command or [], detach=False)))
    return 0


def _create(client: Client, flags: ContainerFlags, body: dict[str, Any]) -> str:
    """The new container's id. The id file must be ours before there is a container."""
    if flags.cidfile:
        try:
            file = Path(flags.cidfile).open("x")  # noqa: SIM115 - closed below
        except OSError as error:
            raise InvalidRequest(
                f"container ID file found, make sure the other container isn't running or delete {flags.cidfile}"
                if isinstance(error, FileExistsError)
                else f"failed to create the container ID file {flags.cidfile}: {error.strerror}"
            ) from error
    try:
        answer = _ask(client, flags, body)
    except DaemonError:
        if flags.cidfile:
            file.close()
            Path(flags.cidfile).unlink()
        raise
    if flags.cidfile:
        with file:
            file.write(answer["Id"])
    for warning in answer.get("Warnings") or []:
        print(f"WARNING: {warning}", file=sys.stderr)
    return str(answer["Id"])


def _ask(client: Client, flags: ContainerFlags, body: dict[str, Any]) -> Any:
    query = {"name": flags.name, "platform": flags.platform}
    if flags.pull == "always":
        _pull(client, body["Image"], flags)
    try:
        return client.call("POST", "/containers/create", query, body)
    except DaemonError as error:
        if error.status != 404 or "image" not in str(error).lower() or flags.pull != "missing":
            raise
        if not flags.quiet:
            print(f"Unable to find image '{_with_tag(body['Image'])}' locally", file=sys.stderr)
        _pull(client, body["Image"], flags)
        return client.call("POST", "/containers/create", query, body)


def _pull(client: Client, image: str, flags: ContainerFlags) -> None:
    name, _, tag = _with_tag(image).rpartition(":")
    if "@" in image:
        name, tag = image, ""
    stream = client.open(
        "POST", "/images/create", {"fromImage": name, "tag": tag, "platform": flags.platform}
    )
    for line in stream.values():
        if "error" in line:
            raise DaemonError(str(line["error"]))
        if "progressDetail" not in line and not flags.quiet:
            print(line.get("status", ""), file=sys.stderr)


def _with_tag(image: str) -> str:
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


def _foreground(
    client: Client, flags: ContainerFlags, name: str, *, sig_proxy: bool, detach_keys: str
) -> int:
    """Attach, wait, start, in this order: nothing it prints is lost, and no exit is missed."""
    path = f"/containers/{name}"
    stdin, stdout, stderr = attached(flags, False)
    waiting = None
    try:
        stream = client.open(
            "POST",
            f"{path}/attach",
            {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr, "detachKeys": detach_keys},
            hijack=True,
        )
        waiting = client.open("POST", f"{path}/wait", {"condition": "removed" if flags.rm else "next-exit"})
        client.call("POST", f"{path}/start")
    except DaemonError as error:
        return _not_started(client, flags, name, error)
    with (
        follow.size_followed(client, path, flags.tty),
        follow.signals_passed(client, name, sig_proxy and not flags.tty),
    ):
        if not follow.follow(stream, tty=flags.tty, stdin=stdin, detach_keys=detach_keys):
            return 0
        return follow.exit_code(waiting)


def _not_started(client: Client, flags: ContainerFlags, name: str, error: DaemonError) -> int:
    print(f"wherry: {error}", file=sys.stderr)
    if flags.rm:
        try:
            client.call("DELETE", f"/containers/{part(name)}", {"force": True, "v": True})
        except DaemonError:
            pass  # the daemon removed it already
    return follow.start_failure(error)
