"""A container that makes cgroups of its own, as systemd and docker in docker do."""

from __future__ import annotations

import time
from pathlib import Path

from wherry.testing.cgroups import VERSION, file_of
from wherry.testing.daemon import Daemon, eventually

PLACE = "/sys/fs/cgroup" if VERSION == 2 else "/sys/fs/cgroup/pids"
NEST = (
    f"mkdir {PLACE}/inner && echo 1 > {PLACE}/inner/cgroup.procs || exit 9; "
    + (f"echo +pids > {PLACE}/cgroup.subtree_control || exit 8; " if VERSION == 2 else "")
    + "echo nested; sleep 1000"
)


def test_an_exec_joins_where_process_1_is(daemon: Daemon) -> None:
    """Version 2: a cgroup that passes controllers on takes no process, so the exec goes where process 1 went."""
    daemon.ok(
        "run", "-d", "--name", "nest", "--privileged", "--cgroupns", "private", "busybox", "sh", "-c", NEST
    )
    eventually(lambda: daemon.ok("logs", "nest") == "nested")
    assert daemon.ok("exec", "nest", "echo", "in").splitlines() == ["in"]
    where = daemon.ok("exec", "nest", "cat", "/proc/self/cgroup")
    if VERSION == 2:
        assert where == "0::/inner"
    daemon.ok("exec", "-d", "nest", "sleep", "2000")
    eventually(lambda: "sleep 2000" in daemon.ok("top", "nest"))
    place = file_of(daemon.inspect("nest", "{{.State.Pid}}"), "pids.max").parent.parent
    assert (place / "inner").is_dir()
    daemon.ok("kill", "nest")
    daemon.ok("rm", "nest")
    eventually(lambda: not place.exists(), "its cgroups are removed, inner ones first")


def test_one_that_froze_itself_can_be_killed(daemon: Daemon) -> None:
    """A child in a frozen cgroup that the container made dies with it."""
    freezer = "/sys/fs/cgroup" if VERSION == 2 else "/sys/fs/cgroup/freezer"
    freeze = "echo 1 > $f/cgroup.freeze" if VERSION == 2 else "echo FROZEN > $f/freezer.state"
    script = f"f={freezer}/ice; mkdir $f; setsid sleep 7004 & p=$!; echo $p > $f/cgroup.procs; {freeze}; echo frozen; sleep 1000"
    daemon.ok(
        "run", "-d", "--name", "ice", "--privileged", "--cgroupns", "private", "busybox", "sh", "-c", script
    )
    eventually(lambda: daemon.ok("logs", "ice") == "frozen")
    row = next(line for line in daemon.ok("top", "ice").splitlines() if "7004" in line)
    daemon.ok("kill", "ice")
    daemon.ok("rm", "ice")
    assert not Path("/proc", row.split()[1], "exe").is_symlink()


def test_one_that_left_its_cgroup_can_be_killed(daemon: Daemon) -> None:
    """A privileged container that sees the host's cgroups moves itself out of its own: it ends at once all the same."""
    place = "/sys/fs/cgroup" if VERSION == 2 else "/sys/fs/cgroup/freezer"
    name = "wherry-test-gone"
    script = f"mkdir /c; mount -t {'cgroup2' if VERSION == 2 else 'cgroup -o freezer'} c /c && mkdir -p /c/{name} && "
    script += f"echo $$ > /c/{name}/cgroup.procs && echo gone; sleep 1000"
    daemon.ok(
        "run", "-d", "--name", "left", "--privileged", "--cgroupns", "host", "busybox", "sh", "-c", script
    )
    eventually(lambda: daemon.ok("logs", "left") == "gone")
    begun = time.monotonic()
    daemon.ok("kill", "left")
    assert time.monotonic() - begun < 9
    eventually(lambda: not Path(place, name, "cgroup.procs").read_text())
    Path(place, name).rmdir()
