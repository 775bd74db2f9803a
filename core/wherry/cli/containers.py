"""Verbs about containers that ask the daemon one thing each."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from wherry.cli import output
from wherry.cli.connection import DaemonError, part
from wherry.cli.flags import flag
from wherry.cli.listing import show
from wherry.cli.session import Session
from wherry.errors import InvalidRequest

Names = Annotated[list[str], typer.Argument(metavar="CONTAINER…")]
Name = Annotated[str, typer.Argument(metavar="CONTAINER")]
Timeout = Annotated[
    int | None, flag("-t", "--time", "--timeout", help="Seconds before it is killed; -1: never")
]
Signal = Annotated[str, flag("-s", "--signal", help="Signal to send")]
Filter = Annotated[list[str] | None, flag("-f", "--filter", help="name=value")]
Format = Annotated[str, flag("--format", help="table, json or a Go template")]


def ps(
    session: Session,
    all: Annotated[bool, flag("-a", "--all", help="Show all containers, not only running ones")] = False,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only ids")] = False,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Do not shorten")] = False,
    size: Annotated[bool, flag("-s", "--size", help="Show sizes")] = False,
    last: Annotated[int, flag("-n", "--last", help="Show the last N, in all states")] = 0,
    latest: Annotated[bool, flag("-l", "--latest", help="Show the latest, in all states")] = False,
    filter: Filter = None,
    format: Format = "",
) -> int:
    query = {
        "all": all,
        "limit": 1 if latest else last,
        "size": size,
        "filters": output.filters(filter or []),
    }
    found = session.client.call("GET", "/containers/json", query)
    rows = [_line(container, no_trunc) for container in found]
    columns = [
        "ID",
        "Image",
        "Command",
        "RunningFor",
        "Status",
        "Ports",
        "Names",
        *(["Size"] if size else []),
    ]
    titles = {"ID": "CONTAINER ID", "RunningFor": "CREATED"}
    return show(rows, columns, titles, quiet="ID" if quiet else "", format=format)


def _line(container: dict[str, Any], full: bool) -> dict[str, str]:
    names = [name.removeprefix("/") for name in container["Names"] or []]
    labels = container.get("Labels") or {}
    return {
        "ID": output.short_id(container["Id"], full),
        "Image": container["Image"] if full else output.short_image(container["Image"]),
        "Command": '"' + output.shorten(container["Command"], 20, full) + '"',
        "CreatedAt": output.moment(container["Created"]),
        "RunningFor": output.ago(container["Created"]),
        "Status": container["Status"],
        "State": container.get("State", ""),
        "Ports": output.ports(container.get("Ports") or []),
        "Names": ",".join(sorted(names, key=lambda name: name.count("/")) if full else names[:1]),
        "Labels": ",".join(f"{name}={labels[name]}" for name in sorted(labels)),
        "Size": output.sizes(container.get("SizeRw") or 0, container.get("SizeRootFs") or 0),
        "Networks": ",".join(sorted((container.get("NetworkSettings") or {}).get("Networks") or {})),
        "Mounts": ",".join(
            mount.get("Name") or mount.get("Source", "") for mount in container.get("Mounts") or []
        ),
    }


def stop(session: Session, containers: Names, time: Timeout = None, signal: Signal = "") -> int:
    query = {"t": time, "signal": signal}
    return output.each(
        containers, lambda n: session.client.call("POST", f"/containers/{part(n)}/stop", query)
    )


def restart(session: Session, containers: Names, time: Timeout = None, signal: Signal = "") -> int:
    query = {"t": time, "signal": signal}
    return output.each(
        containers, lambda n: session.client.call("POST", f"/containers/{part(n)}/restart", query)
    )


def kill(session: Session, containers: Names, signal: Signal = "") -> int:
    query = {"signal": signal}
    return output.each(
        containers, lambda n: session.client.call("POST", f"/containers/{part(n)}/kill", query)
    )


def pause(session: Session, containers: Names) -> int:
    return output.each(containers, lambda n: session.client.call("POST", f"/containers/{part(n)}/pause"))


def unpause(session: Session, containers: Names) -> int:
    return output.each(containers, lambda n: session.client.call("POST", f"/containers/{part(n)}/unpause"))


def wait(session: Session, containers: Names) -> int:
    def one(name: str) -> None:
        print(session.client.call("POST", f"/containers/{part(name)}/wait")["StatusCode"], flush=True)

    return output.each(containers, one, echo=False)


def rm(
    session: Session,
    containers: Names,
    force: Annotated[bool, flag("-f", "--force", help="Also if it runs")] = False,
    volumes: Annotated[bool, flag("-v", "--volumes", help="And its anonymous volumes")] = False,
    link: Annotated[bool, flag("-l", "--link", help="Remove a link, not a container")] = False,
) -> int:
    query = {"force": force, "v": volumes, "link": link}

    def one(name: str) -> None:
        try:
            session.client.call("DELETE", f"/containers/{part(name.strip('/'))}", query)
        except DaemonError as error:
            if not (force and error.status == 404):
                raise
            print(error, file=sys.stderr)

    return output.each(containers, one)


def rename(session: Session, container: Name, name: Annotated[str, typer.Argument(metavar="NAME")]) -> int:
    session.client.call("POST", f"/containers/{part(container)}/rename", {"name": name})
    return 0


def top(
    session: Session,
    container: Name,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[PS OPTION]…")] = None,
) -> int:
    query = {"ps_args": " ".join(arguments or [])}
    found = session.client.call("GET", f"/containers/{part(container)}/top", query)
    output.table(found["Titles"], found["Processes"] or [])
    return 0


def port(
    session: Session,
    container: Name,
    private: Annotated[str | None, typer.Argument(metavar="[PORT[/PROTOCOL]]")] = None,
) -> int:
    found = (
        session.client.call("GET", f"/containers/{part(container)}/json")["NetworkSettings"]["Ports"] or {}
    )
    if private is not None:
        bindings = found.get(private if "/" in private else f"{private}/tcp")
        if not bindings:
            raise InvalidRequest(f"no public port '{private}' published for {container}")
        for binding in bindings:
            print(output.address(binding["HostIp"], binding["HostPort"]))
        return 0
    for inside in sorted(found, key=lambda key: (int(key.partition("/")[0]), key)):
        for binding in found[inside] or []:
            print(f"{inside} -> {output.address(binding['HostIp'], binding['HostPort'])}")
    return 0


def diff(session: Session, container: Name) -> int:
    for change in session.client.call("GET", f"/containers/{part(container)}/changes") or []:
        print("CAD"[change["Kind"]], change["Path"])
    return 0


def export(
    session: Session,
    container: Name,
    file: Annotated[str, flag("-o", "--output", help="Write to a file, not to stdout")] = "",
) -> int:
    response = session.client.open("GET", f"/containers/{part(container)}/export")
    output.save(response.chunks(), file)
    return 0
