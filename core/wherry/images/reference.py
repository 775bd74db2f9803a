"""Names of images, as everybody writes them: `busybox`, `localhost:5000/team/app:1.2`, `debian@sha256:…`.

The full form has a registry's domain, a path, and a tag or a digest; the familiar form leaves out what is the default
(`docker.io/library/busybox:latest` is `busybox:latest`).
Source: distribution/reference `reference.go`, `normalize.go`; the messages are what clients match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from wherry.errors import InvalidRequest

_DOMAIN: Final = "docker.io"
_OFFICIAL: Final = "library/"
_MOST: Final = 255

_PART: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN_FORM: Final = re.compile(rf"(?:{_PART}(?:\.{_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII)
_PATH_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH_FORM: Final = re.compile(rf"{_PATH_PART}(?:/{_PATH_PART})*", re.ASCII)
_TAG_FORM: Final = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST_FORM: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_IDENTIFIER: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """`domain/path` with a tag, a digest, both, or neither. `str` is the full form."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        if self.domain != _DOMAIN:
            return self.name
        return self.path.removeprefix(_OFFICIAL) if self.path.count("/") == 1 else self.path

    @property
    def familiar(self) -> str:
        """As people write it."""
        return self.familiar_name + self._end

    @property
    def _end(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._end

    def tagged(self) -> Reference:
        """With the tag `latest` if it has neither tag nor digest."""
        if self.tag or self.digest:
            return self
        return Reference(domain=self.domain, path=self.path, tag="latest")


def parse(text: str) -> Reference:
    """A reference in either form. InvalidRequest in docker's words."""
    if _IDENTIFIER.fullmatch(text):
        raise InvalidRequest(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST_FORM.fullmatch(digest):
        raise InvalidRequest("invalid reference format")
    name, tag = rest, ""
    last = rest.rfind(":")
    if last > rest.rfind("/"):
        name, tag = rest[:last], rest[last + 1 :]
        if not _TAG_FORM.fullmatch(tag):
            raise InvalidRequest("invalid reference format")
    domain, path = _split(name)
    if not _PATH_FORM.fullmatch(path):
        if _PATH_FORM.fullmatch(path.lower()):
            raise InvalidRequest(f"invalid reference format: repository name ({path}) must be lowercase")
        raise InvalidRequest("invalid reference format")
    if not _DOMAIN_FORM.fullmatch(domain):
        raise InvalidRequest("invalid reference format")
    if len(path) > _MOST:
        raise InvalidRequest(f"repository name must not be more than {_MOST} characters")
    return Reference(domain=domain, path=path, tag=tag, digest=digest)


def _split(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_domain = bool(slash) and (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    )
    domain, path = (first, rest) if is_domain else (_DOMAIN, name)
    if domain == "index.docker.io":
        domain = _DOMAIN
    if domain == _DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def matches(pattern: str, reference: Reference) -> bool:
    """Whether the familiar form, or its name alone, matches a shell pattern whose `*` stops at a slash."""
    form = re.compile(_expression(pattern))
    return bool(form.fullmatch(reference.familiar) or form.fullmatch(reference.familiar_name))


def _expression(pattern: str) -> str:
    parts = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[" and (end := pattern.find("]", position + 1)) > 0:
            inner = pattern[position:end].replace("\\", "\\\\").replace("[", "\\[")
            parts.append(f"[{inner}]")
            position = end + 1
        else:
            parts.append(re.escape(character))
    expression = "".join(parts)
    try:
        re.compile(expression)
    except re.error as error:
        raise InvalidRequest(f'invalid filter: "{pattern}" is no pattern') from error
    return expression
