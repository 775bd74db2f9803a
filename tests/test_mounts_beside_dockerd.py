"""What `docker inspect` shows of mounts, and what a container's mounts are like: the same as with a real dockerd."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.testing.daemon import Daemon
from wherry.testing.dockerd import Dockerd

SHOWN = [
    ["-v", "{dir}:/x"],
    ["-v", "{dir}/:/x/:ro"],
    ["-v", "{dir}:/x:rw,z"],
    ["-v", "{dir}/file:/x:ro"],
    ["-v", "{dir}/made:/x"],
    ["-v", "named:/x"],
    ["-v", "named:/x:ro"],
    ["-v", "named:/x:nocopy"],
    ["-v", "/anonymous"],
    ["--tmpfs", "/t:size=1m"],
    ["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700"],
    ["--mount", "type=bind,src={dir},dst=/x,readonly"],
    ["--mount", "type=bind,src={dir},dst=/x,bind-propagation=rprivate,consistency=cached"],
    ["--mount", "type=volume,src=named,dst=/x,volume-nocopy,volume-label=a=b,volume-driver=local"],
    ["--mount", "type=volume,src=named,dst=/x,readonly"],
    ["--mount", "type=volume,dst=/x"],
    ["--volumes-from", "giver"],
    ["--volumes-from", "giver:ro"],
    ["--volumes-from", "giver:z", "-v", "{dir}:/a"],
    ["-v", "/:/host"],
    ["-v", "/:/host:rslave,ro"],
]


def ids(case: list[str]) -> str:
    return " ".join(case)


@pytest.fixture(scope="module")
def place(session_root: Path) -> Iterator[Path]:
    directory = session_root / "mounted"
    (directory / "sub").mkdir(parents=True)
    (directory / "file").write_text("content")
    yield directory


@pytest.fixture
def both(daemon: Daemon, dockerd: Dockerd, place: Path) -> tuple[Daemon, Dockerd]:
    for each in (daemon, dockerd):
        each.ok(
            "create", "--name", "giver", "-v", "given:/a", "-v", f"{place}:/b:ro,z", "-v", f"{place}:/c", "busybox", "true"
        )  # fmt: skip
    return daemon, dockerd


def mounts(engine: Daemon | Dockerd, flags: list[str]) -> list[dict[str, Any]]:
    """.Mounts of a container with these flags, without what differs by its nature."""
    name = engine.ok("create", *flags, "busybox", "true").splitlines()[-1]
    text = engine.ok("inspect", "--format", "{{json .Mounts}}", name)
    engine.ok("rm", "-v", name)
    text = re.sub(r"[0-9a-f]{64}", "ID", text).replace(str(engine.root / "data"), "ROOT")
    return sorted(json.loads(text), key=lambda mount: str(mount["Destination"]))


@pytest.mark.parametrize("flags", SHOWN, ids=ids)
def test_inspect_shows_the_same(both: tuple[Daemon, Dockerd], place: Path, flags: list[str]) -> None:
    """.Mounts has the same members, in the same spelling, with the same values."""
    flags = [flag.format(dir=place) for flag in flags]
    ours, theirs = (mounts(engine, flags) for engine in both)
    assert ours == theirs
    assert [list(mount) for mount in ours] == [list(mount) for mount in theirs]


REFUSED = [
    ["-v", "{dir}:relative"],
    ["-v", "{dir}:/"],
    ["-v", "rel/x:/x"],
    ["-v", "{dir}:/x:bogus"],
    ["-v", "{dir}:/x:ro,rw"],
    ["-v", "named:/x:rshared"],
    ["-v", "{dir}:/x", "--tmpfs", "/x"],
    ["-v", "{dir}:/x", "--mount", "type=tmpfs,dst=/x"],
    ["--tmpfs", "relative"],
    ["--tmpfs", "/"],
    ["--mount", "type=bogus,dst=/x"],
    ["--mount", "type=bind,src={dir}/none,dst=/x"],
    ["--mount", "type=bind,src={dir},dst=/x,bind-propagation=bogus"],
    ["--mount", "type=volume,dst=/x,readonly"],
    ["--volumes-from", "giver:rslave"],
    ["--volumes-from", "giver:nocopy"],
    ["-v", "/:/host:rprivate"],
]


@pytest.mark.parametrize("flags", REFUSED, ids=ids)
def test_refused_in_the_same_words(both: tuple[Daemon, Dockerd], place: Path, flags: list[str]) -> None:
    flags = [flag.format(dir=place) for flag in flags]
    ours, theirs = (engine.docker("create", *flags, "busybox", "true") for engine in both)
    roots = [str(engine.root / "data") for engine in both]
    assert ours.returncode == theirs.returncode != 0
    assert ours.stderr.replace(roots[0], "ROOT") == theirs.stderr.replace(roots[1], "ROOT")


SEEN = [
    [],
    ["--tmpfs", "/new:exec,suid,dev,size=1m,mode=1770,uid=5,gid=6,nr_inodes=100,noatime"],
    [
        "--mount",
        "type=tmpfs,dst=/new,tmpfs-size=1048576,tmpfs-mode=0770,ro",
        "--read-only",
        "--shm-size",
        "1m",
    ],
    ["-v", "etc:/etc", "-v", "inner:/a/b", "-v", "outer:/a", "-v", "{dir}/file:/etc/hosts:ro"],
    ["-v", "{dir}:/x:ro", "-v", "inner:/x/sub", "--tmpfs", "/x/sub/tmp", "--tmpfs", "/root"],
    ["--security-opt", "systempaths=unconfined"],
]


@pytest.mark.parametrize("flags", SEEN, ids=ids)
def test_the_mount_table_is_alike(both: tuple[Daemon, Dockerd], place: Path, flags: list[str]) -> None:
    """The same things are mounted at the same places, in the same way, as /proc/self/mountinfo has it."""
    flags = [flag.format(dir=place) for flag in flags]
    ours, theirs = (table(engine, flags) for engine in both)
    assert ours == theirs


def table(engine: Daemon | Dockerd, flags: list[str]) -> dict[str, tuple[str, str, list[str]]]:
    """Target → (file system, what of it, attributes of the mount), but for what is known to differ."""
    text = engine.ok("run", "--rm", *flags, "busybox", "cat", "/proc/self/mountinfo")
    text = re.sub(r"[0-9a-f]{64}", "ID", text).replace(str(engine.root / "data"), "ROOT")
    found = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        found[words[4]] = (after.split()[0], words[3], sorted(words[5].split(",")))
    # Masked by Docker since 28.
    found.pop("/proc/interrupts", None)
    # Version 1: dockerd 20.10 has no cgroup namespace by default, and leaves the directory of all hierarchies writable.
    return {target: what for target, what in found.items() if not target.startswith("/sys/fs/cgroup")}
