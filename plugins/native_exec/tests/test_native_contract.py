"""The native exec driver is held to the contract of exec drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.testing.exec import ExecDriverContract
from wherry_native_exec import NativeExec


class TestNative(ExecDriverContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> NativeExec:
        return NativeExec(tmp_path / "driver")
