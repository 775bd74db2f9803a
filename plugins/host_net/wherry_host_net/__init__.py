"""Network driver `host`: a container lives in the host's network namespace."""

from __future__ import annotations

from wherry.errors import InvalidRequest
from wherry.spec import hookimpl
from wherry.spec.network import SandboxPlan


class HostNetwork:
    """No sandbox, no endpoint, no address: nothing to wire and nothing to undo."""

    SPEC = (1, 0)

    @hookimpl
    def sandbox(self, argument: str) -> SandboxPlan:
        if argument:
            raise InvalidRequest(f"network mode host takes no argument, and got {argument!r}")
        return SandboxPlan(kind="host")
