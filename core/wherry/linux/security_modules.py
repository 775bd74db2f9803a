"""Which security modules this kernel runs, and what they know: AppArmor and SELinux."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_APPARMOR: Final = Path("/sys/module/apparmor/parameters/enabled")
_SELINUX: Final = Path("/sys/fs/selinux")
_SELINUX_CONFIGURATION: Final = Path("/etc/selinux")


def has_apparmor() -> bool:
    """Whether AppArmor is in the kernel and enabled."""
    try:
        return _APPARMOR.read_text("ascii").startswith("Y")
    except OSError:
        return False


def has_selinux() -> bool:
    """Whether SELinux has a policy loaded: selinux(8), selinuxfs is mounted then."""
    return os.access(_SELINUX / "enforce", os.R_OK)


def container_context(configuration: Path = _SELINUX_CONFIGURATION) -> str:
    """The label that the machine's policy has for a container's process, `user:role:type:level`; empty where it has none.

    Source: `lxc_contexts` of the policy that /etc/selinux/config names, as libselinux reads it.
    """
    try:
        policy = _word(configuration / "config", "SELINUXTYPE")
        return (
            _word(configuration / policy / "contexts" / "lxc_contexts", "process").strip('"')
            if policy
            else ""
        )
    except (OSError, UnicodeDecodeError):
        return ""


def _word(path: Path, name: str) -> str:
    for line in path.read_text("utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() == name:
            return value.strip()
    return ""
