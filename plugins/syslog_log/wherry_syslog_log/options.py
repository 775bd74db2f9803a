"""What a user may set. Names and meaning are Docker's.

An option may come from `wherry.toml` (`[log.syslog]`), from the daemon's `--log-opt` or from the container's; the later
beats the earlier.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Final, Literal, cast, get_args
from urllib.parse import urlsplit

from wherry.errors import InvalidRequest
from wherry.spec.logtag import DEFAULT, check_tag

Transport = Literal["local", "unix", "unixgram", "udp", "tcp", "tcp+tls"]
Format = Literal["", "rfc3164", "rfc5424", "rfc5424micro"]

FACILITIES: Final[Mapping[str, int]] = MappingProxyType(
    {
        name: number
        for number, name in enumerate(
            "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp".split()
        )
    }
    | {f"local{number}": 16 + number for number in range(8)}
)
_PORTS: Final = {"udp": 514, "tcp": 514, "tcp+tls": 6514}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options as they are written. `labels…` and `env…` are taken because Docker takes them; syslog has no place
    for them."""

    syslog_address: str = ""
    syslog_facility: str = "daemon"
    syslog_format: str = ""
    syslog_tls_ca_cert: str = ""
    syslog_tls_cert: str = ""
    syslog_tls_key: str = ""
    syslog_tls_skip_verify: str = ""
    tag: str = DEFAULT
    labels: str = ""
    labels_regex: str = ""
    env: str = ""
    env_regex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the server is: `path` of a unix socket (empty for `local`), or `host` and `port`."""

    transport: Transport
    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.transport == "local":
            return "/dev/log"
        return f"{self.transport}://{self.path or f'{self.host}:{self.port}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The options, understood."""

    address: Address
    facility: int
    format: Format
    tag: str
    tls: ssl.SSLContext | None = None


NAMES: Final = tuple(field.name.replace("_", "-") for field in fields(Options))


def check(defaults: Options, given: Mapping[str, str]) -> None:
    """Refuse unknown options and values that make no sense: InvalidRequest."""
    for name in given:
        if name not in NAMES:
            raise InvalidRequest(
                f"unknown log opt '{name}' for syslog log driver; there is {', '.join(NAMES)}"
            )
    check_tag(understand(defaults, given).tag)


def understand(defaults: Options, given: Mapping[str, str]) -> Destination:
    """Where messages go and how they look, by `given` over `defaults`."""
    said = {name.replace("_", "-"): value for name, value in asdict(defaults).items()} | dict(given)
    address = _address(said["syslog-address"])
    return Destination(
        address=address,
        facility=_facility(said["syslog-facility"]),
        format=_format(said["syslog-format"]),
        tag=said["tag"] or DEFAULT,
        tls=_tls(said) if address.transport == "tcp+tls" else None,
    )


def _address(text: str) -> Address:
    if not text:
        return Address(transport="local")
    transport, separator, _ = text.partition("://")
    if not separator or transport == "local" or transport not in get_args(Transport):
        known = ", ".join(f"{name}://" for name in get_args(Transport) if name != "local")
        raise InvalidRequest(
            f"syslog-address should be in form proto://address, got {text}; proto is one of {known}"
        )
    if transport in ("unix", "unixgram"):
        path = text.partition("://")[2]
        if not path.startswith("/"):
            raise InvalidRequest(f"syslog-address: {text} names no socket; write {transport}:///dev/log")
        return Address(transport=cast(Transport, transport), path=path)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # what the resolver will do with it
    except ValueError as error:
        raise InvalidRequest(f"syslog-address: {text}: {error}") from error
    if not host or parts.path not in ("", "/") or parts.query or parts.username:
        raise InvalidRequest(f"syslog-address: {text} names no server; write {transport}://host:port")
    return Address(transport=cast(Transport, transport), host=host, port=port or _PORTS[transport])


def _facility(text: str) -> int:
    if text in FACILITIES:
        return FACILITIES[text]
    if text.isdecimal() and int(text) <= 23:
        return int(text)
    raise InvalidRequest(f"invalid syslog facility: {text}; there is {', '.join(FACILITIES)}, or 0 to 23")


def _format(text: str) -> Format:
    if text not in get_args(Format):
        raise InvalidRequest(f"invalid syslog format: {text}; there is rfc3164, rfc5424, rfc5424micro")
    return cast(Format, text)


def _tls(said: Mapping[str, str]) -> ssl.SSLContext:
    authority, certificate, key = (said[f"syslog-tls-{what}"] for what in ("ca-cert", "cert", "key"))
    if bool(certificate) != bool(key):
        raise InvalidRequest("syslog-tls-cert and syslog-tls-key only go together")
    try:
        context = ssl.create_default_context(cafile=authority or None)
    except OSError as error:  # ssl.SSLError is one
        raise InvalidRequest(f"syslog-tls-ca-cert: {authority}: {error}") from error
    if certificate:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as error:
            raise InvalidRequest(f"syslog-tls-cert: {certificate} with {key}: {error}") from error
    if said["syslog-tls-skip-verify"] not in ("", "0", "false"):  # Docker's: any other word means yes
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
