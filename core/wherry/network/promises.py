"""Addresses that containers were promised by name (`--ip`): they stay theirs while they do not run."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from wherry.spec.container import EndpointRequest


class Promises:
    """Who was promised which addresses; derived from the records of containers. Safe to share."""

    def __init__(self) -> None:
        self._kept: dict[str, frozenset[tuple[str, str]]] = {}  # container → (network's name, address)
        self._count: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def keep(self, container_id: str, endpoints: Mapping[str, EndpointRequest]) -> None:
        """What a container was promised is this now. `endpoints`: network's name → what was asked for there."""
        wanted = frozenset(
            (name, address)
            for name, request in endpoints.items()
            if request.ipam_config is not None
            for address in (request.ipam_config.ipv4_address, request.ipam_config.ipv6_address)
            if address
        )
        with self._lock:
            self._strike(container_id)
            if wanted:
                self._kept[container_id] = wanted
                for promise in wanted:
                    self._count[promise] = self._count.get(promise, 0) + 1

    def drop(self, container_id: str) -> None:
        """The container is gone; nothing promised is success."""
        with self._lock:
            self._strike(container_id)

    def promised(self, network: str, address: str) -> bool:
        """Whether somebody was promised this address."""
        return (network, address) in self._count

    def _strike(self, container_id: str) -> None:
        for promise in self._kept.pop(container_id, ()):
            self._count[promise] -= 1
            if not self._count[promise]:
                del self._count[promise]
