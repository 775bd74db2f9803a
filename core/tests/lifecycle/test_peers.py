"""Namespaces of another container, which may end at any moment."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wherry.errors import Conflict
from wherry.lifecycle.descriptors import Descriptors
from wherry.lifecycle.start import Start, _peer_namespace
from wherry.linux import processes


def joined(pid: int, start_time: int, descriptors: Descriptors) -> Any:
    peer = SimpleNamespace(
        id="f" * 64,
        running=True,
        run=SimpleNamespace(pid=pid, start_time=start_time),
        host_config=SimpleNamespace(ipc_mode="private"),
    )
    house = SimpleNamespace(containers=SimpleNamespace(get=lambda name: peer))
    begun = SimpleNamespace(house=house, descriptors=descriptors)
    return _peer_namespace(cast(Start, begun), "container:peer", "pid")


def test_the_number_of_a_peer_that_has_ended() -> None:
    """A peer's number that is another process's by now leads into no namespace: that would be one of the host's."""
    pid = os.getpid()
    with Descriptors() as descriptors:
        assert joined(pid, processes.start_time(pid), descriptors).kind == "joined"
        for number, start_time in ((pid, processes.start_time(pid) - 1), (2**22, 1)):
            with pytest.raises(Conflict, match="cannot join PID of a non running container"):
                joined(number, start_time, descriptors)
