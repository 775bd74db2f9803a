"""`--cap-add`, `--cap-drop`, `--privileged`: a container's capabilities. Source: moby `oci/caps`, capabilities(7)."""

from __future__ import annotations

from collections.abc import Sequence

from wherry.errors import InvalidRequest
from wherry.lifecycle import reach
from wherry.linux.capabilities import DEFAULT, NAMES
from wherry.spec.command import Capabilities


def kept(privileged: bool, add: Sequence[str] | None, drop: Sequence[str] | None) -> tuple[str, ...]:
    """Docker's default set with what was added and dropped, `ALL` included; never more than this engine has.

    InvalidRequest names a capability that is none, or one to add that the engine does not have itself.
    """
    dropped = [_known(name, "CapDrop") for name in drop or ()]
    added = [_known(name, "CapAdd") for name in add or ()]
    available = reach.available()
    for name in added:
        if name != "ALL" and name not in available:
            raise InvalidRequest(
                "invalid CapAdd: capability not supported by your kernel or not available in the current "
                f'environment: "{name}"'
            )
    if privileged:
        return available
    if "ALL" in added:
        return tuple(name for name in available if name not in dropped)
    left = () if "ALL" in dropped else tuple(n for n in DEFAULT if n in available and n not in dropped)
    return tuple(dict.fromkeys((*left, *added)))


def sets(names: tuple[str, ...]) -> Capabilities:
    """As Docker has them: none is inheritable or ambient, so that who is not root has none after execve."""
    return Capabilities(bounding=names, effective=names, permitted=names)


def _known(name: str, field: str) -> str:
    upper = name.upper()
    if upper == "ALL":
        return upper
    full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if full not in NAMES:
        raise InvalidRequest(f'invalid {field}: unknown capability: "{full}"')
    return full
