"""`--security-opt`, parsed: which of the kernel's guards a container has. Source: moby's `parseSecurityOpt`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from wherry.errors import InvalidRequest
from wherry.lifecycle import labels
from wherry.linux import seccomp, security_modules
from wherry.spec.command import Seccomp
from wherry.spec.container import HostConfig

_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True")
_FALSE: Final = ("0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """What a container's options come to."""

    seccomp: Seccomp = field(default_factory=Seccomp)
    no_new_privileges: bool = False
    apparmor: str = ""
    """A profile's name, `unconfined`, or empty: not said."""
    labels: tuple[str, ...] = ()
    """Of SELinux, as `wherry.lifecycle.labels` takes them."""
    system_paths: bool = True
    """The usual paths are masked and read-only."""
    writable_cgroups: bool = False


def parse(options: Sequence[str] | None, *, privileged: bool, usual: Security) -> Security:
    """The options over what the daemon has as `usual`. InvalidRequest: an option that is unknown or makes no sense.

    `privileged` is without a filter unless a profile is named, whatever is usual.
    """
    found = replace(usual, seccomp=Seccomp(mode="unconfined")) if privileged else usual
    for option in options or ():
        name, value = _split(option)
        match name:
            case "seccomp":
                found = replace(found, seccomp=_seccomp(value))
            case "no-new-privileges":
                found = replace(found, no_new_privileges=_truth(value, option))
            case "writable-cgroups":
                found = replace(found, writable_cgroups=_truth(value, option))
            case "apparmor" if value:
                found = replace(found, apparmor=value)
            case "label":
                found = replace(found, labels=(*found.labels, value))
            case "systempaths" if value == "unconfined":
                found = replace(found, system_paths=False)
            case _:
                raise InvalidRequest(f'invalid --security-opt 2: "{option}"')
    return found


def of(host: HostConfig) -> Security:
    """What a container asks for itself. InvalidRequest as `parse`."""
    return parse(host.security_opt, privileged=host.privileged, usual=Security())


def check(wanted: Security, capabilities: Sequence[str]) -> None:
    """Everything that can be refused before a container is made. InvalidRequest: what is wrong, or what is missing."""
    check_seccomp(wanted.seccomp, capabilities)
    labels.check(wanted.labels)
    labels.label(wanted.labels)
    if wanted.apparmor not in ("", "unconfined") and not security_modules.has_apparmor():
        raise InvalidRequest(
            f'AppArmor is not enabled in this kernel: the profile "{wanted.apparmor}" cannot be applied'
        )


def check_seccomp(wanted: Seccomp, capabilities: Sequence[str]) -> None:
    """InvalidRequest: a profile of the user's from which no filter can be made."""
    if wanted.mode == "custom":
        try:
            seccomp.check(wanted.document, capabilities)
        except ValueError as error:
            raise InvalidRequest(f"Decoding seccomp profile failed: {error}") from error


def _split(option: str) -> tuple[str, str]:
    if option == "no-new-privileges":
        return option, "true"
    name, separator, value = option.partition("=" if "=" in option else ":")
    if not separator:
        raise InvalidRequest(f'invalid --security-opt 1: "{option}"')
    return name, value


def _seccomp(value: str) -> Seccomp:
    if value == "unconfined":
        return Seccomp(mode="unconfined")
    if value in ("builtin", "default", ""):
        return Seccomp()
    return Seccomp(mode="custom", document=value)


def _truth(value: str, option: str) -> bool:
    if value in _TRUE or value in _FALSE:
        return value in _TRUE
    raise InvalidRequest(f'invalid --security-opt 2: "{option}"')
