"""Tags: templates that name a container in its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.errors import InvalidRequest
from wherry.spec.log import LogContext
from wherry.spec.logtag import DEFAULT, check_tag, render_tag

CONTEXT = LogContext(
    container_id="0123456789abcdef" * 4,
    container_name="/web",
    directory=Path("/"),
    image_id="sha256:" + "fedcba9876543210" * 4,
    image_name="nginx:latest",
    command=("nginx", "-g", "daemon off;"),
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        (DEFAULT, "0123456789ab"),
        ("{{.FullID}}", "0123456789abcdef" * 4),
        ("{{.ImageName}}/{{ .Name }}/{{.ID}}", "nginx:latest/web/0123456789ab"),
        ("{{.ImageID}}", "fedcba987654"),
        ("{{.ImageFullID}}", "sha256:" + "fedcba9876543210" * 4),
        ("{{.DaemonName}}", "wherry"),
        ("{{- .Command -}}", "nginx -g daemon off;"),
        ("}} {", "}} {"),
    ],
)
def test_templates(template: str, expected: str) -> None:
    """Docker's words mean what they mean there; all else is left as it is."""
    assert render_tag(template, CONTEXT) == expected


@pytest.mark.parametrize(
    "template", ["{{.Nmae}}", "{{Name}}", "{{}}", "{{.ID", "{{.ID}} {{", '{{index .X "y"}}']
)
def test_what_is_not_known_is_refused(template: str) -> None:
    """When a container is created, not when its first line is logged; the message says what there is."""
    with pytest.raises(InvalidRequest, match="tag"):
        check_tag(template)
    with pytest.raises(InvalidRequest, match="tag"):
        render_tag(template, CONTEXT)
