"""Lists of things: a table, only ids, JSON lines, or a format of the user's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from wherry.cli import output
from wherry.cli.template import Template

Row = Mapping[str, str]


def show(
    rows: Sequence[Row],
    columns: Sequence[str],
    titles: Mapping[str, str],
    *,
    quiet: str = "",
    format: str = "",
) -> int:
    """Print `rows`. `titles` are those that are not their column's name in capitals."""
    if quiet and not format:
        for row in rows:
            print(row[quiet])
        return 0
    if format in ("", "table"):
        output.table(
            [titles.get(column, column.upper()) for column in columns],
            [[row[column] for column in columns] for row in rows],
        )
    elif format == "json":
        for row in rows:
            print(json.dumps(dict(row), ensure_ascii=False))
    elif format.startswith("table "):
        _table(rows, titles, format.removeprefix("table "))
    else:
        template = Template(format)
        for row in rows:
            print(template.render(row))
    return 0


def _table(rows: Sequence[Row], titles: Mapping[str, str], format: str) -> None:
    template = Template(format)
    names = re.findall(r"\.(\w+)", format)
    heads = {name: titles.get(name, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).upper()) for name in names}
    lines = [template.render(each).split("\t") for each in (heads, *rows)]
    output.table(lines[0], lines[1:])
