"""A real systemd-journald, in mount and network namespaces of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.testing.log import eventually

JOURNALD = "/lib/systemd/systemd-journald"
SCRIPT = """
mount --make-rprivate /
mount --bind {root}/run /run
mount --bind {root}/machine-id /etc/machine-id
mount --bind {root}/journald.conf /etc/systemd/journald.conf
exec {journald}
"""
CONFIGURATION = """[Journal]
Storage=volatile
RateLimitBurst=0
MaxLevelStore=debug
ReadKMsg=no
LineMax=2M
"""


class Journald:
    """systemd-journald, which can be stopped and started again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "run" / "systemd" / "journal" / "socket"
        (root / "run" / "systemd" / "journal").mkdir(parents=True)
        (root / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (root / "journald.conf").write_text(CONFIGURATION)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if not os.path.exists(JOURNALD):
            pytest.fail("this test needs systemd-journald")
        script = SCRIPT.format(root=self.root, journald=JOURNALD)
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-ec", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self.socket.exists)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
            self.socket.unlink(missing_ok=True)

    def entries(self, container_id: str) -> list[dict[str, Any]]:
        """The entries of a container, in order; a message that is no text is bytes."""
        output = subprocess.run(
            ["journalctl", "-D", self.root / "run" / "log" / "journal", "-o", "json", "--all", "--no-pager",
             f"CONTAINER_ID_FULL={container_id}"],
            capture_output=True, check=False,
        ).stdout  # fmt: skip
        found = [json.loads(line) for line in output.splitlines()]
        for entry in found:
            message = entry["MESSAGE"]
            entry["MESSAGE"] = bytes(message) if isinstance(message, list) else (message or "").encode()
        return sorted(found, key=lambda entry: int(entry["CONTAINER_LOG_TIME_NS"]))


@pytest.fixture(scope="session")
def the_journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journald]:
    journal = Journald(tmp_path_factory.mktemp("journal"))
    journal.start()
    yield journal
    journal.stop()


@pytest.fixture
def late_journal(tmp_path: Path) -> Iterator[Journald]:
    """One that is not there yet."""
    journal = Journald(tmp_path / "journal")
    yield journal
    journal.stop()


@pytest.fixture
def journal(the_journal: Journald) -> Journald:
    return the_journal
