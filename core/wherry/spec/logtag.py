"""Tags: a template that names a container in its log, `--log-opt tag="{{.Name}}/{{.ID}}"`.

Shared by every log driver that has the option `tag`. The words are Docker's; of Go's templates only `{{.Word}}` is
understood, which is all that people write here.
Source: Docker's "Customize log driver output".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from wherry.errors import InvalidRequest
from wherry.spec.log import LogContext

DEFAULT: Final = "{{.ID}}"

_WORDS: Final[Mapping[str, Callable[[LogContext], str]]] = MappingProxyType(
    {
        "ID": lambda context: context.container_id[:12],
        "FullID": lambda context: context.container_id,
        "Name": lambda context: context.container_name.removeprefix("/"),
        "ImageID": lambda context: context.image_id.removeprefix("sha256:")[:12],
        "ImageFullID": lambda context: context.image_id,
        "ImageName": lambda context: context.image_name,
        "Command": lambda context: " ".join(context.command),
        "DaemonName": lambda context: context.daemon_name,
    }
)
_ACTION: Final = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)


def check_tag(template: str) -> None:
    """InvalidRequest for a template that has an unknown word or is not well formed."""
    for action in _ACTION.findall(template):
        _word(action)
    if "{{" in _ACTION.sub("", template):
        raise InvalidRequest(f'log option tag: "{template}" opens a "{{{{" that it does not close')


def render_tag(template: str, context: LogContext) -> str:
    """The tag of one container. Raises as `check_tag` does."""
    check_tag(template)
    return _ACTION.sub(lambda match: _word(match[1])(context), template)


def _word(action: str) -> Callable[[LogContext], str]:
    name = action.strip()
    found = _WORDS.get(name.removeprefix(".")) if name.startswith(".") else None
    if found is None:
        known = ", ".join(f"{{{{.{word}}}}}" for word in _WORDS)
        raise InvalidRequest(f'log option tag: "{{{{{action}}}}}" is not known; there is {known}')
    return found
