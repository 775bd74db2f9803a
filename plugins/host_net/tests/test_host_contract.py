"""The host driver is held to what every network driver is held to."""

from __future__ import annotations

import pytest

from wherry.testing.network import EngineServices, NetworkDriverContract
from wherry_host_net import HostNetwork


class TestHostNetwork(NetworkDriverContract):
    @pytest.fixture
    def driver(self, services: EngineServices) -> HostNetwork:
        return HostNetwork()
