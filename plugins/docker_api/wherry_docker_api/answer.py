"""What a request is answered with, and what answer an error becomes."""

from __future__ import annotations

import logging
from typing import Any, Final, NamedTuple

import msgspec

from wherry.errors import (
    Conflict,
    Forbidden,
    Gone,
    InvalidRequest,
    NotFound,
    NotModified,
    StartFailed,
    Unavailable,
    Unsupported,
    WherryError,
)

log = logging.getLogger(__name__)

JSON: Final = b"application/json"
TEXT: Final = b"text/plain; charset=utf-8"

encode: Final = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """A whole answer. `content_type` is empty where there is no body."""

    status: int
    body: bytes = b""
    content_type: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()


NO_CONTENT: Final = Answer(204)
OK: Final = Answer(200)
CREATED: Final = Answer(201)


def json(value: Any, status: int = 200) -> Answer:
    """`value` as JSON, with the newline that Go's encoder ends it with."""
    return Answer(status, encode(value) + b"\n", JSON)


def line(value: Any) -> bytes:
    """`value` as one line of a stream of JSON."""
    return encode(value) + b"\r\n"


class Malformed(InvalidRequest):
    """What came is no HTTP, too large or too late; the connection is closed behind the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


# The first that fits: a class stands before the one it derives from.
_STATUS: Final[tuple[tuple[type[WherryError], int], ...]] = (
    (NotModified, 304),
    (InvalidRequest, 400),
    (StartFailed, 400),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Gone, 410),
    (Unsupported, 501),
    (Unavailable, 503),
)


def refusal(error: Exception) -> Answer:
    """The answer to a request that failed. Only this function knows which class is which status."""
    if isinstance(error, Malformed):
        return _message(error.status, str(error))
    if isinstance(error, WherryError):
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        if status == 500:
            log.error("%s", error)
        return Answer(304) if status == 304 else _message(status, str(error))
    log.error("a request failed in an unforeseen way", exc_info=error)
    return _message(
        500, f"the engine failed in an unforeseen way ({type(error).__name__}): its log says more"
    )


def _message(status: int, message: str) -> Answer:
    # A message may carry bytes of a file name that are no text.
    return json({"message": message.encode("utf-8", "replace").decode()}, status)
