"""The none driver is held to what every network driver is held to."""

from __future__ import annotations

import pytest

from wherry.testing.network import EngineServices, NetworkDriverContract
from wherry_none_net import NoneNetwork


class TestNoneNetwork(NetworkDriverContract):
    @pytest.fixture
    def driver(self, services: EngineServices) -> NoneNetwork:
        return NoneNetwork()
