"""`wherry drivers`: every driver that is installed, from the daemon, or without one from the metadata."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

from wherry.cli import output
from wherry.cli.connection import DaemonError
from wherry.cli.flags import flag
from wherry.cli.session import Session


def drivers(
    session: Session,
    check: Annotated[bool, flag("--check", help="Import each and hold it against its contract")] = False,
    format: Annotated[str, flag("--format", help="table or json")] = "",
) -> int:
    found = _drivers(session, check)
    if format == "json":
        print(json.dumps(found))
    else:
        columns = ["kind", "name", "distribution", "version", "entry_point", "state"]
        titles = [column.replace("_", " ").upper() for column in columns]
        output.table(titles, [[each[column] for column in columns] for each in found])
    broken = [each for each in found if each["state"] == "broken"]
    for each in broken:
        print(each["reason"], file=sys.stderr)
    return 1 if broken else 0


def _drivers(session: Session, check: bool) -> list[dict[str, Any]]:
    try:
        answer = session.client.call("GET", "/wherry/drivers", {"check": check})
        assert isinstance(answer, list)
        return answer
    except DaemonError as error:
        if error.status not in (0, 404):
            raise
        from wherry.discovery import Catalogue  # no daemon: what is installed here

        why = f"{error}" if error.status == 0 else "The daemon there is no wherry."
        print(f"{why} These are the drivers that are installed here.", file=sys.stderr)
        return list(Catalogue().listing(check=check))
