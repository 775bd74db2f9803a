"""The json-file driver, held to the contract of log drivers."""

from __future__ import annotations

from typing import ClassVar

import pytest

from wherry.testing.log import LogDriverContract
from wherry_jsonfile_log import JsonFileLog


def replaced(data: bytes) -> bytes:
    """Bytes as they come back from JSON: each that is no UTF-8 is U+FFFD, as Go replaces them."""
    text = data.decode(errors="surrogateescape")
    return "".join("\ufffd" if "\udc80" <= sign <= "\udcff" else sign for sign in text).encode()


class TestJsonFileLog(LogDriverContract):
    on_disk: ClassVar[bool] = True
    rotating: ClassVar[dict[str, str]] = {"max-size": "2k", "max-file": "4"}

    @pytest.fixture
    def driver(self) -> JsonFileLog:
        return JsonFileLog()

    def stored(self, data: bytes) -> bytes:
        return replaced(data)


class TestJsonFileLogCompressed(TestJsonFileLog):
    rotating: ClassVar[dict[str, str]] = {"max-size": "2k", "max-file": "4", "compress": "true"}


class TestJsonFileLogSingle(TestJsonFileLog):
    """One file: only what it holds is kept, and whoever keeps up misses nothing."""

    rotating: ClassVar[dict[str, str]] = {"max-size": "2k", "max-file": "1"}
