"""Network driver `none`: a network namespace with nothing but loopback."""

from __future__ import annotations

from wherry.errors import InvalidRequest
from wherry.spec import hookimpl
from wherry.spec.network import SandboxPlan


class NoneNetwork:
    """A sandbox of the container's own, as the core makes it: `lo` is up, and that is all."""

    SPEC = (1, 0)

    @hookimpl
    def sandbox(self, argument: str) -> SandboxPlan:
        if argument:
            raise InvalidRequest(f"network mode none takes no argument, and got {argument!r}")
        return SandboxPlan(kind="own")
