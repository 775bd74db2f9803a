"""The bridge driver is held to what every network driver is held to."""

from __future__ import annotations

import pytest

from wherry.testing.network import EngineServices, WiringDriverContract
from wherry_bridge_net import BridgeNetwork


class TestBridgeNetwork(WiringDriverContract):
    @pytest.fixture
    def driver(self, services: EngineServices) -> BridgeNetwork:
        return BridgeNetwork(services=services)
