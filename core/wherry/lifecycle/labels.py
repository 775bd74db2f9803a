"""`--security-opt label=…`: the SELinux label of a container's process. Its files keep the labels that they have.

Source: moby's `label.InitLabels`; docker-run(1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from wherry.errors import InvalidRequest
from wherry.linux import security_modules

PARTS: Final = ("user", "role", "type", "level")


def check(options: Sequence[str]) -> None:
    """InvalidRequest: a form that does not exist, or one that asks for SELinux where this kernel does not run it."""
    for option in options:
        part, separator, value = option.partition(":")
        if option == "disable":
            continue
        if not separator or not value or part not in (*PARTS, "filetype"):
            raise InvalidRequest(
                f"bad label option \"{option}\", valid options are 'disable', or "
                "'user, role, type, level, filetype' followed by ':' and a value"
            )
        if part == "filetype":
            raise InvalidRequest(f'label option "{option}": wherry does not label the files of a container')
        if not security_modules.has_selinux():
            raise InvalidRequest(
                f'label option "{option}": SELinux is not enabled in this kernel (no /sys/fs/selinux)'
            )


def label(options: Sequence[str], usual: str | None = None) -> str:
    """The process's label; empty for that of the engine: nothing was asked for, or `disable` was.

    `usual` (the policy's own, if None) has the parts that the options do not name.
    """
    chosen = dict(option.split(":", 1) for option in options if ":" in option)
    if not chosen or "disable" in options:
        return ""
    whole = security_modules.container_context() if usual is None else usual
    parts = {**dict(zip(PARTS, whole.split(":", 3), strict=False)), **chosen}
    missing = [part for part in PARTS if not parts.get(part)]
    if missing:
        raise InvalidRequest(
            f"the machine's SELinux policy has no label for containers: give label={missing[0]}:… as well"
        )
    return ":".join(parts[part] for part in PARTS)
