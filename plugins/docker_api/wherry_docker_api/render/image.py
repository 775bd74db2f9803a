"""An image: as `inspect` shows it, as a line of `images`, and the lines of its history.

Source: moby `api/types/image`, `server/router/image/inspect_response.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wherry.spec.frontend import ImageView
from wherry_docker_api.call import Version
from wherry_docker_api.render.container import config as container_config
from wherry_docker_api.words import ZERO_TIME, seconds

_ALWAYS: Final = frozenset("Cmd Entrypoint Env Labels OnBuild User Volumes WorkingDir".split())
"""Fields of an image's configuration that are shown empty as well."""
_UNTIL_1_49: Final = frozenset(
    "AttachStderr AttachStdin AttachStdout Domainname Hostname Image OpenStdin StdinOnce Tty".split()
)


def inspect(image: ImageView, version: Version) -> dict[str, Any]:
    """`GET /images/{name}/json`."""
    shown: dict[str, Any] = {
        "Id": image.id,
        "RepoTags": image.references,
        "RepoDigests": image.digests,
        "Parent": image.parent,
        "Comment": image.comment,
        "Created": image.created or ZERO_TIME,
        "DockerVersion": image.docker_version,
        "Author": image.author,
        "Config": _config(image, version),
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "GraphDriver": {"Data": image.storage_data or None, "Name": image.storage_driver},
        "RootFS": {"Type": "layers", "Layers": image.layers} if image.layers else {"Type": "layers"},
        "Metadata": {"LastTagTime": ZERO_TIME},
    }
    if image.variant:
        shown["Variant"] = image.variant
    if version < (1, 44):
        shown["VirtualSize"] = image.size
    if version < (1, 45):
        shown["Container"] = ""
        shown["ContainerConfig"] = container_config(type(image.config)())
    return shown


def _config(image: ImageView, version: Version) -> dict[str, Any]:
    shown = container_config(image.config)
    shown["Labels"] = image.config.labels
    always = _ALWAYS | _UNTIL_1_49 if version < (1, 50) else _ALWAYS
    return {name: value for name, value in shown.items() if value or name in always}


def summary(image: ImageView, version: Version) -> dict[str, Any]:
    """One of `GET /images/json`."""
    shown: dict[str, Any] = {
        "Containers": -1,
        "Created": int(seconds(image.created)),
        "Id": image.id,
        "Labels": image.config.labels,
        "ParentId": image.parent,
        "RepoDigests": image.digests,
        "RepoTags": image.references,
        "SharedSize": -1,
        "Size": image.size,
    }
    if version < (1, 43):
        shown["RepoTags"] = image.references or ["<none>:<none>"]
        shown["RepoDigests"] = image.digests or ["<none>@<none>"]
    if version < (1, 44):
        shown["VirtualSize"] = image.size
    return shown


def history(entry: Mapping[str, Any]) -> dict[str, Any]:
    """One of `GET /images/{name}/history`, whichever spelling its source has."""
    created = entry.get("Created", entry.get("created", 0))
    return {
        "Comment": entry.get("Comment", entry.get("comment", "")) or "",
        "Created": int(seconds(created)) if isinstance(created, str) else created,
        "CreatedBy": entry.get("CreatedBy", entry.get("created_by", "")) or "",
        "Id": entry.get("Id", entry.get("id", "")) or "<missing>",
        "Size": entry.get("Size", entry.get("size", 0)),
        "Tags": entry.get("Tags", entry.get("tags")),
    }
