"""What a user may set. Names and meaning are Docker's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final, Literal, cast
from urllib.parse import urlsplit

from wherry.errors import InvalidRequest
from wherry.spec.logattributes import check_attributes
from wherry.spec.logtag import DEFAULT, check_tag

Compression = Literal["gzip", "zlib", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options as they are written. `gelf_tcp_…` are taken because Docker takes them: here reconnecting goes on."""

    gelf_address: str = ""
    gelf_compression_type: str = "gzip"
    gelf_compression_level: str = "1"
    gelf_tcp_max_reconnect: str = ""
    gelf_tcp_reconnect_delay: str = ""
    tag: str = DEFAULT
    labels: str = ""
    labels_regex: str = ""
    env: str = ""
    env_regex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where messages go, and how they are packed (by UDP only)."""

    transport: Literal["udp", "tcp"]
    host: str
    port: int
    compression: Compression
    level: int

    def __str__(self) -> str:
        return f"{self.transport}://{self.host}:{self.port}"


NAMES: Final = tuple(field.name.replace("_", "-") for field in fields(Options))


def said(defaults: Options, given: Mapping[str, str]) -> dict[str, str]:
    """`given` over `defaults`, under the names that users write."""
    return {name.replace("_", "-"): value for name, value in asdict(defaults).items()} | dict(given)


def check(defaults: Options, given: Mapping[str, str]) -> None:
    """Refuse unknown options and values that make no sense: InvalidRequest."""
    for name in given:
        if name not in NAMES:
            raise InvalidRequest(f"unknown log opt '{name}' for gelf log driver; there is {', '.join(NAMES)}")
    words = said(defaults, given)
    check_tag(words["tag"])
    check_attributes(words)
    if given or words["gelf-address"]:
        destination(words)


def destination(words: Mapping[str, str]) -> Destination:
    """Where messages go; InvalidRequest."""
    address = words["gelf-address"]
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as error:
        raise InvalidRequest(f"gelf-address: {address}: {error}") from error
    if parts.scheme not in ("udp", "tcp") or not host or not port or parts.path not in ("", "/"):
        raise InvalidRequest(
            f"gelf-address should be in form udp://host:port or tcp://host:port, got {address!r}"
        )
    compression = words["gelf-compression-type"]
    if compression not in ("gzip", "zlib", "none"):
        raise InvalidRequest(f"gelf: invalid compression type {compression}; there is gzip, zlib, none")
    _number("gelf-tcp-max-reconnect", words["gelf-tcp-max-reconnect"] or "0", 0, 1 << 31)
    _number("gelf-tcp-reconnect-delay", words["gelf-tcp-reconnect-delay"] or "0", 0, 1 << 31)
    return Destination(
        transport=cast(Literal["udp", "tcp"], parts.scheme),
        host=host,
        port=port,
        compression=cast(Compression, compression),
        level=_number("gelf-compression-level", words["gelf-compression-level"], -1, 9),
    )


def _number(option: str, text: str, least: int, most: int) -> int:
    if not text.removeprefix("-").isdecimal() or not least <= int(text) <= most:
        raise InvalidRequest(f"{option}: {text} is no whole number from {least} to {most}")
    return int(text)
