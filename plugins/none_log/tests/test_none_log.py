"""The none driver: takes everything, keeps nothing, and says so."""

from __future__ import annotations

import pytest

from wherry.errors import Unsupported
from wherry.spec.log import Query
from wherry.testing.log import LogDriverContract, MakeContext
from wherry_none_log import NoneLog


class TestNoneLog(LogDriverContract):
    keeps = False

    @pytest.fixture
    def driver(self) -> NoneLog:
        return NoneLog()

    def test_reading_is_answered_in_docker_s_words(self, driver: NoneLog, context: MakeContext) -> None:
        """Clients match these words."""
        with pytest.raises(Unsupported, match=r"^configured logging driver does not support reading$"):
            driver.read(context(), Query())

    def test_nothing_is_left_on_disk(self, driver: NoneLog, context: MakeContext) -> None:
        """A container without a log has no file for one."""
        made = context()
        sink = driver.open(made)
        sink.close()
        assert list(made.directory.iterdir()) == []
        assert getattr(sink, "local", False)
