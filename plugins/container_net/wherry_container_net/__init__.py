"""Network driver `container`: the network of another container, by its name or id."""

from __future__ import annotations

from wherry.errors import InvalidRequest
from wherry.spec import hookimpl
from wherry.spec.network import SandboxPlan


class ContainerNetwork:
    """The sandbox of the container that the mode names; the engine finds it and keeps it while somebody is in it."""

    SPEC = (1, 0)

    @hookimpl
    def sandbox(self, argument: str) -> SandboxPlan:
        if not argument:
            raise InvalidRequest("invalid container format container:<name|id>")
        return SandboxPlan(kind="shared", owner=argument)
