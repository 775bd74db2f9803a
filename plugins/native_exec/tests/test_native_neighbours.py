"""Who may trace in a pid namespace is found, so that nobody worth seizing is sent there."""

from __future__ import annotations

import os
import subprocess

import pytest

from wherry.errors import Unsupported
from wherry_native_exec import neighbours


@pytest.mark.parametrize("bounding", ["", "-sys_ptrace"], ids=["may trace", "may not"])
def test_tracers(monkeypatch: pytest.MonkeyPatch, bounding: str) -> None:
    """Each process of the namespace itself counts, by what it can ever have; on an older kernel it is a reason to refuse."""
    monkeypatch.setattr(neighbours, "procfs_is_made_from_outside", lambda: False)
    drop = ["setpriv", f"--bounding-set={bounding}"] if bounding else []
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", *drop, "sh", "-c", "echo up; exec sleep 1000"],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        namespace = os.open(f"/proc/{process.pid}/ns/pid_for_children", os.O_RDONLY)
        try:
            assert len(list(neighbours.tracers(namespace))) == (0 if bounding else 1)
            if bounding:
                neighbours.refuse_tracers(namespace)
            else:
                with pytest.raises(Unsupported, match="CAP_SYS_PTRACE"):
                    neighbours.refuse_tracers(namespace)
        finally:
            os.close(namespace)
            process.kill()
