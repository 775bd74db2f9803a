"""Every field of the API's HostConfig is known here, and docs/host-config.md says which test observes its effect."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from wherry.spec.container import HostConfig

TOP = Path(__file__).parent.parent
DEFINITION = TOP / "tests" / "data" / "docker-engine-api-1.51.yaml"
BEYOND = {"KernelMemory", "LxcConf"}
"""Fields of older versions of the API, or of ours."""


def properties(definitions: dict[str, Any], name: str) -> set[str]:
    """The fields of an object of the definition, with those of what it is made of."""
    found: set[str] = set()
    for part in (definitions[name], *definitions[name].get("allOf", ())):
        found |= set(part.get("properties", ()))
        if "$ref" in part:
            found |= properties(definitions, part["$ref"].rpartition("/")[2])
    return found


@pytest.fixture(scope="module")
def fields() -> set[str]:
    with DEFINITION.open() as file:
        return properties(yaml.load(file, yaml.CSafeLoader)["definitions"], "HostConfig")


def rows(text: str) -> dict[str, tuple[str, str]]:
    """Field → (its row, the last cell of that) in docs/host-config.md."""
    found: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), (line, cells[-1]))
    return found


PAGE = (TOP / "docs" / "host-config.md").read_text()
ISOLATION = rows(PAGE.partition("## Everything else")[0])


def test_every_field_of_the_definition_is_parsed(fields: set[str]) -> None:
    """What a client of API 1.51 can send in HostConfig has a place in ours, and there is nothing else."""
    ours = {field.encode_name for field in msgspec.structs.fields(HostConfig)}
    assert ours == fields | BEYOND


def test_every_field_has_a_row(fields: set[str]) -> None:
    """The page names each field, and no field that does not exist."""
    assert set(rows(PAGE)) == fields | BEYOND


@pytest.mark.parametrize(("field", "shown"), [(field, cell) for field, (_, cell) in ISOLATION.items()])
def test_every_row_leads_to_a_test_or_a_reason(field: str, shown: str) -> None:
    """What isolates has tests, which name the field; or the row says why its effect cannot be observed."""
    references = re.findall(r"`([\w/]+\.py)::(\w+)`", shown)
    if not references:
        assert shown.startswith("not observable: ") and len(shown) > 40, f"{field}: no test and no reason"
    for file, test in references:
        text = (TOP / file).read_text()
        assert re.search(rf"def {test}\(", text), f"{field}: {file} has no {test}"
        assert re.search(rf"\b{field}\b", text), f"{field}: {file} does not name it"
