"""The container driver is held to what every network driver is held to."""

from __future__ import annotations

import pytest

from wherry.testing.network import EngineServices, NetworkDriverContract
from wherry_container_net import ContainerNetwork


class TestContainerNetwork(NetworkDriverContract):
    argument = "web"
    bad_argument = ""

    @pytest.fixture
    def driver(self, services: EngineServices) -> ContainerNetwork:
        return ContainerNetwork()

    def test_the_owner_is_the_container_that_the_mode_names(self, driver: ContainerNetwork) -> None:
        """`--network container:web` shares the sandbox of web."""
        assert driver.sandbox(argument="web").owner == "web"
