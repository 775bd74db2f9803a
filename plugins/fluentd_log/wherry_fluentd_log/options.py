"""What a user may set. Names and meaning are Docker's; what `mode` and the engine's own buffer do is not done twice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Final
from urllib.parse import urlsplit

from wherry.errors import InvalidRequest
from wherry.spec.logattributes import check_attributes
from wherry.spec.logtag import DEFAULT, check_tag

_PORT: Final = 24224
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SPAN: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options as they are written. Those about buffers, retries and `async` are taken because Docker takes them:
    here opening never waits, reconnecting goes on, and `mode` says what happens meanwhile."""

    fluentd_address: str = ""
    fluentd_request_ack: str = "false"
    fluentd_sub_second_precision: str = "true"
    fluentd_read_timeout: str = ""
    fluentd_write_timeout: str = ""
    fluentd_async: str = ""
    fluentd_async_connect: str = ""
    fluentd_async_reconnect_interval: str = ""
    fluentd_buffer_limit: str = ""
    fluentd_max_retries: str = ""
    fluentd_retry_wait: str = ""
    tag: str = DEFAULT
    labels: str = ""
    labels_regex: str = ""
    env: str = ""
    env_regex: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where records go. `path` is a unix socket; timeouts in seconds."""

    host: str = ""
    port: int = _PORT
    path: str = ""
    acknowledged: bool = False
    precise: bool = True
    reading: float = 10.0
    writing: float = 10.0

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"tcp://{self.host}:{self.port}"


NAMES: Final = tuple(field.name.replace("_", "-") for field in fields(Options))


def said(defaults: Options, given: Mapping[str, str]) -> dict[str, str]:
    """`given` over `defaults`, under the names that users write."""
    return {name.replace("_", "-"): value for name, value in asdict(defaults).items()} | dict(given)


def check(defaults: Options, given: Mapping[str, str]) -> None:
    """Refuse unknown options and values that make no sense: InvalidRequest."""
    for name in given:
        if name not in NAMES:
            raise InvalidRequest(
                f"unknown log opt '{name}' for fluentd log driver; there is {', '.join(NAMES)}"
            )
    words = said(defaults, given)
    check_tag(words["tag"])
    check_attributes(words)
    for name in ("fluentd-async", "fluentd-async-connect"):
        _truth(name, words[name] or "false")
    destination(words)


def destination(words: Mapping[str, str]) -> Destination:
    """Where records go; InvalidRequest."""
    address = words["fluentd-address"] or f"127.0.0.1:{_PORT}"
    anywhere = Destination(
        acknowledged=_truth("fluentd-request-ack", words["fluentd-request-ack"]),
        precise=_truth("fluentd-sub-second-precision", words["fluentd-sub-second-precision"]),
        reading=_seconds("fluentd-read-timeout", words["fluentd-read-timeout"]),
        writing=_seconds("fluentd-write-timeout", words["fluentd-write-timeout"]),
    )
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "tcp", address
    if scheme == "unix" and rest.startswith("/"):
        return replace(anywhere, path=rest)
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as error:
        raise InvalidRequest(f"fluentd-address: {address}: {error}") from error
    if scheme != "tcp" or not host or parts.path not in ("", "/"):
        raise InvalidRequest(
            f"invalid fluentd-address {address}: write host:port, tcp://host:port or unix:///path"
        )
    return replace(anywhere, host=host, port=port or _PORT)


def _truth(option: str, text: str) -> bool:
    # The words that Docker takes: Go's strconv.ParseBool.
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise InvalidRequest(f'log option {option}: "{text}" is neither true nor false')


def _seconds(option: str, text: str) -> float:
    """A duration as Go writes it, `1m30s`; 10 seconds where there is none."""
    if not text:
        return 10.0
    if not _SPAN.fullmatch(text):
        raise InvalidRequest(f'log option {option}: "{text}" is no duration; write 500ms, 10s')
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)) or 10.0
