"""Namespaces of another container, which may end at any moment."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import cast

import pytest

from wherry.container.container import Container, Run
from wherry.errors import Conflict
from wherry.lifecycle.peers import open_namespace
from wherry.linux import processes


def test_the_number_of_a_peer_that_has_ended() -> None:
    """A peer's number that is another process's by now leads into no namespace: that would be one of the host's."""
    peer, pid = cast(Container, SimpleNamespace(name="peer")), os.getpid()
    begun = processes.start_time(pid)
    os.close(open_namespace(peer, Run(boot_id="", pid=pid, start_time=begun), "pid"))
    for run in (Run(boot_id="", pid=pid, start_time=begun - 1), Run(boot_id="", pid=2**22, start_time=1)):
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(Conflict, match="container peer is just ending"):
            open_namespace(peer, run, "pid")
        assert len(os.listdir("/proc/self/fd")) == before
