"""Cgroups of both versions, where this machine has them: one interface, the same promises."""

from __future__ import annotations

import inspect
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wherry.linux import cgroups, device_filter
from wherry.linux.cgroups_v1 import CgroupV1
from wherry.linux.cgroups_v2 import CgroupV2
from wherry.spec.command import DeviceRule, Resources
from wherry.testing.containers import poll


@pytest.fixture(params=["v1", "v2"])
def group(request: pytest.FixtureRequest) -> Iterator[cgroups.Cgroup]:
    found = cgroups.hierarchies()
    parent = f"/wherry-test-{secrets.token_hex(4)}"
    made: cgroups.Cgroup
    if request.param == "v1":
        if found.version != 1:
            pytest.skip("no cgroups of version 1 here")
        made, roots = CgroupV1(f"{parent}/one", found.v1), list(dict.fromkeys(found.v1.values()))
    else:
        if not found.unified:
            pytest.skip("no cgroups of version 2 here")
        made, roots = CgroupV2(f"{parent}/one", found.unified), [found.unified]
    yield made
    made.kill()
    made.remove()
    for root in roots:
        if os.path.isdir(root + parent):
            os.rmdir(root + parent)


def test_devices_that_cannot_be_denied() -> None:
    """Where no hierarchy keeps processes from devices, a container is not begun as if one did."""
    with pytest.raises(OSError, match="devices is not mounted"):
        CgroupV1("/wherry-test/one", {"memory": "/nowhere"}).allow_devices(RULES)


@pytest.fixture
def inhabitants(group: cgroups.Cgroup) -> Iterator[list[int]]:
    """Two processes in the cgroup: one came in, and made the other."""
    group.create()
    entrance = group.entrance()
    reader, writer = os.pipe()
    first = os.fork()
    if first == 0:
        for fd in entrance.tasks:
            os.write(fd, b"0")
        if entrance.into is not None:
            os.write(os.open("cgroup.procs", os.O_WRONLY, dir_fd=entrance.into), b"0")
        os.fork()
        os.write(writer, b"x")
        signal.pause()
        os._exit(0)
    entrance.close()
    got = b""
    while len(got) < 2:
        got += os.read(reader, 2)
    os.close(reader)
    os.close(writer)
    yield [first]
    group.kill()
    try:
        os.waitpid(first, 0)
    except ChildProcessError:
        pass


def test_life(group: cgroups.Cgroup) -> None:
    """Made once, removed as often as one likes."""
    assert not group.exists()
    group.create()
    with pytest.raises(FileExistsError):
        group.create()
    assert group.exists() and group.pids() == [] and not group.kill()
    group.remove()
    group.remove()
    assert not group.exists() and group.pids() == [] and group.oom_kills() == 0
    with pytest.raises(FileNotFoundError):
        group.counters()


def test_nested_deeply(group: cgroups.Cgroup, inhabitants: list[int]) -> None:
    """Cgroups in cgroups, deeper than functions may call each other: who lives there is found and killed, all are removed."""
    tops = dict(group.views())
    top = tops.get("freezer") or next(iter(tops.values()))
    place = top + "/d" * 100
    os.makedirs(place)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 60)
    try:
        Path(f"{place}/cgroup.procs").write_text(str(inhabitants[0]))
        assert len(group.pids()) == 2 and inhabitants[0] in group.pids()
        assert group.kill()
        os.waitpid(inhabitants[0], 0)
        group.remove()
    finally:
        sys.setrecursionlimit(limit)
    assert not os.path.exists(top)


def test_processes(group: cgroups.Cgroup, inhabitants: list[int]) -> None:
    """Who comes in is listed with all that it makes, can be stopped, and is killed even when stopped."""
    assert len(group.pids()) == 2 and inhabitants[0] in group.pids()
    group.freeze()
    assert group.is_frozen()
    group.thaw()
    assert not group.is_frozen()
    group.freeze()
    with pytest.raises(OSError, match="busy"):
        group.remove(timeout=0.01)
    assert group.kill()
    assert group.pids() == []
    group.remove()


def test_nested(group: cgroups.Cgroup, inhabitants: list[int]) -> None:
    """What a container made below its cgroup is counted, and removed, with it."""
    for _, directory in group.views():
        os.makedirs(f"{directory}/inner/most")
    assert len(group.pids()) == 2
    group.kill()
    group.remove()
    assert not group.exists()


RULES = (
    DeviceRule(allow=True, kind="c", access="m"),
    DeviceRule(allow=True, kind="c", major=1, minor=3),
    DeviceRule(allow=True, kind="c", major=1, minor=5, access="r"),
    DeviceRule(allow=True, kind="c", major=1, minor=8),
    DeviceRule(allow=False, kind="c", major=1, minor=8, access="rw"),
)


def test_devices(group: cgroups.Cgroup) -> None:
    """Rules hold in order: what none of them allows is denied, also to those already inside."""
    group.create()
    group.allow_devices(RULES)
    entrance = group.entrance()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        for fd in entrance.tasks:
            os.write(fd, b"0")
        if entrance.into is not None:
            os.write(os.open("cgroup.procs", os.O_WRONLY, dir_fd=entrance.into), b"0")
        for name, flags in (
            ("null", os.O_RDWR),
            ("zero", os.O_RDONLY),
            ("zero", os.O_RDWR),
            ("random", os.O_RDONLY),
        ):
            try:
                os.close(os.open(f"/dev/{name}", flags))
                os.write(writer, b"+")
            except PermissionError:
                os.write(writer, b"-")
        os._exit(0)
    entrance.close()
    os.waitpid(child, 0)
    assert os.read(reader, 9) == b"++--"
    os.close(reader)
    os.close(writer)


def test_settled_rules() -> None:
    """Ordered rules come to a default and its exceptions."""
    assert device_filter.settle(RULES) == (
        False,
        {("c", None, None): 1, ("c", 1, 3): 7, ("c", 1, 5): 2, ("c", 1, 8): 1},
    )
    everything = DeviceRule(allow=True)
    denied = DeviceRule(allow=False, kind="b", major=8, access="w")
    assert device_filter.settle([*RULES, everything, denied]) == (True, {("b", 8, None): 4})


@pytest.mark.parametrize("path", ["", "/", "//", "/..", "/a/../..", "a/./b", "/a\0b"])
def test_roots_are_refused(path: str) -> None:
    """No cgroup is a root, or above one."""
    with pytest.raises(ValueError, match="not the path of a cgroup"):
        cgroups.at(path)


def test_limits_of_version_1() -> None:
    """Limits grow and shrink whichever is larger, and a refused set leaves what was."""
    if cgroups.hierarchies().version != 1:
        pytest.skip("no cgroups of version 1 here")
    name = f"/wherry-test-{secrets.token_hex(4)}"
    group = cgroups.at(name)
    group.create()
    try:
        for size in (64, 256, 32):
            group.limit(Resources(memory=size << 20, memory_swap=size << 21, pids=size))
            found = group.counters()
            assert (found.memory_limit, found.pids_limit) == (size << 20, size)
        with pytest.raises(OSError, match="cpuset"):
            group.limit(Resources(memory=96 << 20, memory_swap=-1, cpuset_cpus="4096"), restore=True)
        assert group.counters().memory_limit == 32 << 20
        group.limit(Resources(memory=-1))
        assert group.counters().memory_limit > 1 << 60
    finally:
        group.remove()
    poll(lambda: not group.exists(), "the cgroup stays")
