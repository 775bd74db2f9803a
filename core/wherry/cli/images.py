"""Verbs about images."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from wherry.cli import output
from wherry.cli.connection import DaemonError, Response, part
from wherry.cli.flags import flag
from wherry.cli.listing import show
from wherry.cli.session import Session
from wherry.errors import InvalidRequest
from wherry.quantities import human_size

PIECE = 1 << 20

Image = Annotated[str, typer.Argument(metavar="IMAGE")]


def images(
    session: Session,
    repository: Annotated[str | None, typer.Argument(metavar="[REPOSITORY[:TAG]]")] = None,
    all: Annotated[bool, flag("-a", "--all", help="Also those between")] = False,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only ids")] = False,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Do not shorten")] = False,
    digests: Annotated[bool, flag("--digests", help="Show digests")] = False,
    filter: Annotated[list[str] | None, flag("-f", "--filter", help="name=value")] = None,
    format: Annotated[str, flag("--format", help="table, json or a Go template")] = "",
) -> int:
    filters = output.filters(filter or [])
    if repository:
        filters.setdefault("reference", []).append(repository)
    found = session.client.call("GET", "/images/json", {"all": all, "filters": filters})
    rows = [line for image in found for line in _lines(image, no_trunc)]
    columns = ["Repository", "Tag", *(["Digest"] if digests else []), "ID", "CreatedSince", "Size"]
    titles = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}
    if quiet and not format:
        rows = list({row["ID"]: row for row in rows}.values())
    return show(rows, columns, titles, quiet="ID" if quiet else "", format=format)


def _lines(image: dict[str, Any], full: bool) -> Iterator[dict[str, str]]:
    digests = {name.partition("@")[0]: name.partition("@")[2] for name in image.get("RepoDigests") or []}
    for name in [each for each in image.get("RepoTags") or [] if each != "<none>:<none>"] or [
        "<none>:<none>"
    ]:
        repository, _, tag = name.rpartition(":")
        yield {
            "Repository": repository,
            "Tag": tag,
            "Digest": digests.get(repository, "<none>"),
            "ID": output.short_id(image["Id"], full),
            "CreatedSince": output.ago(image["Created"]),
            "CreatedAt": output.moment(image["Created"]),
            "Size": human_size(image["Size"]),
        }


def import_(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="FILE|-")],
    reference: Annotated[str | None, typer.Argument(metavar="[REPOSITORY[:TAG]]")] = None,
    change: Annotated[
        list[str] | None, flag("-c", "--change", help='Dockerfile instruction: CMD ["sh"]')
    ] = None,
    message: Annotated[str, flag("-m", "--message", help="Comment")] = "",
    platform: Annotated[str, flag("--platform", help="os/architecture")] = "",
) -> int:
    if source.startswith(("http://", "https://")):
        raise InvalidRequest(f"wherry does not fetch archives: `curl -L {source} | wherry import -`")
    query = {
        "fromSrc": "-",
        "repo": reference,
        "message": message,
        "changes": change or [],
        "platform": platform,
    }
    response = session.client.open("POST", "/images/create", query, upload=_upload(source))
    for line in _progress(response):
        print(line)
    return 0


def load(
    session: Session,
    input: Annotated[str, flag("-i", "--input", help="Read from a file, not from stdin")] = "-",
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only what was loaded")] = False,
) -> int:
    if input == "-" and os.isatty(0):
        raise InvalidRequest("requested load from stdin, but stdin is empty; name a file with -i")
    for line in _progress(
        session.client.open("POST", "/images/load", {"quiet": True}, upload=_upload(input))
    ):
        print(line, flush=True)
    return 0


def save(
    session: Session,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE…")],
    file: Annotated[str, flag("-o", "--output", help="Write to a file, not to stdout")] = "",
) -> int:
    output.save(session.client.open("GET", "/images/get", {"names": images}).chunks(), file)
    return 0


def tag(session: Session, image: Image, name: Annotated[str, typer.Argument(metavar="NAME[:TAG]")]) -> int:
    repository, separator, tag = name.rpartition(":")
    if not separator or "/" in tag:
        repository, tag = name, "latest"
    session.client.call("POST", f"/images/{part(image)}/tag", {"repo": repository, "tag": tag})
    return 0


def rmi(
    session: Session,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE…")],
    force: Annotated[bool, flag("-f", "--force", help="Also if it is used or has several names")] = False,
    no_prune: Annotated[bool, flag("--no-prune", help="Keep parents without a name")] = False,
) -> int:
    def one(name: str) -> None:
        try:
            query = {"force": force, "noprune": no_prune}
            for done in session.client.call("DELETE", f"/images/{part(name)}", query) or []:
                for what, which in done.items():
                    print(f"{what}: {which}")
        except DaemonError as error:
            if not (force and error.status == 404):
                raise
            print(error, file=sys.stderr)

    return output.each(images, one, echo=False)


def history(
    session: Session,
    image: Image,
    quiet: Annotated[bool, flag("-q", "--quiet", help="Only ids")] = False,
    no_trunc: Annotated[bool, flag("--no-trunc", help="Do not shorten")] = False,
    format: Annotated[str, flag("--format", help="table, json or a Go template")] = "",
) -> int:
    rows = [
        {
            "ID": output.short_id(each["Id"], no_trunc),
            "CreatedSince": output.ago(each["Created"]),
            "CreatedBy": output.shorten(each["CreatedBy"].replace("\t", " "), 45, no_trunc),
            "Size": human_size(each["Size"]),
            "Comment": each.get("Comment", ""),
        }
        for each in session.client.call("GET", f"/images/{part(image)}/history")
    ]
    titles = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY"}
    return show(
        rows, list(rows[0]) if rows else list(titles), titles, quiet="ID" if quiet else "", format=format
    )


def _upload(source: str) -> Iterator[bytes]:
    with os.fdopen(os.dup(0), "rb") if source == "-" else Path(source).open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _progress(response: Response) -> Iterator[str]:
    """What the daemon says of a long work; an error in the middle of it is one."""
    for line in response.values():
        if "error" in line:
            raise DaemonError(str(line["error"]))
        said = line.get("stream") or line.get("status") or ""
        if said and "progressDetail" not in line:
            yield said.rstrip("\n")
