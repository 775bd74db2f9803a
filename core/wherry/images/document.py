"""An image's configuration document: what it is made of and how it wants to be run. Its SHA-256 is the image's id.

Documents come from archives and registries: bounded in size, strictly typed, unknown fields left alone (the bytes are
kept as they came; nothing is ever written back from what was understood).
Source: OCI image-spec `config.md`; Docker image specification v1.2.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any, Final, TypeVar

import msgspec

from wherry.errors import InvalidRequest
from wherry.spec.container import Config

MAX_DOCUMENT: Final = 8 * 1024 * 1024
"""Bytes of any JSON document that an archive may hold."""
MAX_LAYERS: Final = 500

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_GONE: Final[tuple[Any, ...]] = (None, "", [], {}, False)


class RootFS(msgspec.Struct, frozen=True, kw_only=True):
    type: str = "layers"
    diff_ids: list[str] = []


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an image's history."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool = False


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What is understood of a configuration document."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str | None = None
    author: str | None = None
    comment: str | None = None
    docker_version: str = ""
    config: Config | None = None
    rootfs: RootFS
    history: list[Step] | None = None


_decode: Final = msgspec.json.Decoder(Document)
Kind = TypeVar("Kind")


def digest_of(data: bytes) -> str:
    """`sha256:` and the hexadecimal digits."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def decode(data: bytes, decoder: msgspec.json.Decoder[Kind], what: str) -> Kind:
    """A JSON document as what `decoder` makes; InvalidRequest says what is wrong with `what`.

    A decoder is made when its module is imported: threads that make msgspec learn one type at once can crash it.
    """
    if len(data) > MAX_DOCUMENT:
        raise InvalidRequest(f"{what} is {len(data)} bytes long; {MAX_DOCUMENT} are allowed")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"{what} is not what it should be: {str(error) or 'nested too deep'}") from error


def read(data: bytes) -> Document:
    """A configuration document that this engine can run. InvalidRequest for any other."""
    document = decode(data, _decode, "the configuration of the image")
    if document.rootfs.type != "layers":
        raise InvalidRequest(
            f'the configuration of the image has a root file system of type "{document.rootfs.type}"'
        )
    if len(document.rootfs.diff_ids) > MAX_LAYERS:
        raise InvalidRequest(
            f"the image has {len(document.rootfs.diff_ids)} layers; {MAX_LAYERS} are allowed"
        )
    for diff_id in document.rootfs.diff_ids:
        if not DIGEST.fullmatch(diff_id):
            raise InvalidRequest("the configuration of the image names a layer by no sha256 digest")
    if document.os not in ("", "linux"):
        raise InvalidRequest(f'cannot load an image for "{document.os}" on linux')
    return document


def chain(diff_ids: list[str]) -> list[str]:
    """The ids (64 hexadecimal digits) of the layers, bottom first: each stands for itself and all below it.

    Source: OCI image-spec, "Layer ChainID".
    """
    chained: list[str] = []
    for diff_id in diff_ids:
        if not chained:
            chained.append(diff_id.removeprefix("sha256:"))
        else:
            text = f"sha256:{chained[-1]} {diff_id}"
            chained.append(hashlib.sha256(text.encode()).hexdigest())
    return chained


def architecture() -> str:
    """This machine, as images name it."""
    machine = os.uname().machine
    return _MACHINES.get(machine, machine)


def write(
    *,
    config: Config,
    diff_ids: list[str],
    history: list[dict[str, Any]],
    created: str,
    author: str = "",
    comment: str = "",
) -> bytes:
    """A new document for this machine; what is empty is left out."""
    settings = {key: value for key, value in msgspec.to_builtins(config).items() if value not in _GONE}
    value: dict[str, Any] = {
        "architecture": architecture(),
        "author": author,
        "comment": comment,
        "config": settings,
        "created": created,
        "history": history,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    return msgspec.json.encode(
        {key: part for key, part in value.items() if part != ""}, order="deterministic"
    )
