"""The published ports that a keeper holds: sockets that nobody else may have, some of which it serves itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from wherry.keeper.forwarding import Forward, forward
from wherry.keeper.line import Request
from wherry.keeper.loop import Loop
from wherry.keeper.protocol import Published, Target, parse


class HeldPorts:
    """Descriptors by the port's name (`tcp [::]:80`); those with a target are forwarded."""

    def __init__(self, loop: Loop, report: Callable[[str, str, Mapping[str, Any]], None]) -> None:
        self._loop = loop
        self._report = report
        self._held: dict[str, tuple[str, int]] = {}
        self._forwards: dict[str, tuple[Target, Forward]] = {}

    def take(self, request: Request, published: tuple[Published, ...]) -> None:
        """Hold these too; descriptors are taken out of the request."""
        for each in published:
            self._held[each.name] = (each.protocol, request.take(each.descriptor))
            if each.target is not None:
                self._serve(each.name, each.target)

    def publish(self, request: Request) -> None:
        """The verb: hold more, and let all lead to where they should now: `targets` names those to be forwarded."""
        self.take(request, parse(request.fields["published"], tuple[Published, ...]))
        if request.fields.get("targets") is not None:
            self.aim(parse(request.fields["targets"], dict[str, Target]))

    def aim(self, targets: Mapping[str, Target]) -> None:
        """Forward exactly these, to there."""
        for name, (target, _) in tuple(self._forwards.items()):
            if targets.get(name) != target:
                self._unserve(name)
        for name, target in targets.items():
            if name in self._held and name not in self._forwards:
                self._serve(name, target)

    def close(self) -> None:
        for name in tuple(self._forwards):
            self._unserve(name)
        for _, descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()

    def _serve(self, name: str, target: Target) -> None:
        protocol, descriptor = self._held[name]
        if protocol not in ("tcp", "udp"):
            return
        # A copy, so that the port stays ours when it is not forwarded any more.
        copy = os.dup(descriptor)
        try:
            made = forward(self._loop, copy, protocol, target.address, target.port)
        except OSError as error:
            os.close(copy)
            self._report("warning", f"the port {name} cannot be served: {error.strerror}", {})
            return
        self._forwards[name] = (target, made)

    def _unserve(self, name: str) -> None:
        self._forwards.pop(name)[1].close()
