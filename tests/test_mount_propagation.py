"""What is mounted later, on the host or in the container, and what is mounted below a bind: who sees it, who may write."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from wherry.testing.daemon import Daemon, eventually


def mount(*argv: str) -> None:
    subprocess.run(["mount", *argv], check=True)


@pytest.mark.parametrize(
    ("word", "inside", "outside"),
    [
        ("private", {"below"}, set()),
        ("rprivate", set(), set()),
        ("slave", {"top", "below"}, set()),
        ("rslave", {"top", "below"}, set()),
        ("shared", {"top", "below"}, {"top", "below"}),
        ("rshared", {"top", "below"}, {"top", "below"}),
    ],
)
def test_propagation(
    daemon: Daemon, host_mount: Path, word: str, inside: set[str], outside: set[str]
) -> None:
    """Which of the host's later mounts are seen inside, and which of the container's on the host; as with dockerd and runc.

    The submount is never the host's peer unless that was asked for: what is mounted there inside stays inside.
    """
    mount("--make-shared", str(host_mount))
    daemon.ok(
        "run",
        "-d",
        "--name",
        "sees",
        "--cap-add",
        "SYS_ADMIN",
        "-v",
        f"{host_mount}:/x:{word}",
        "busybox",
        "sleep",
        "1000",
    )
    places = {"top": host_mount, "below": host_mount / "sub"}
    inner = {"top": "/x", "below": "/x/sub"}
    for name, directory in places.items():
        (directory / "host").mkdir()
        (directory / "container").mkdir()
        mount("-t", "tmpfs", f"host-{name}", str(directory / "host"))
        daemon.ok("exec", "sees", "mount", "-t", "tmpfs", f"container-{name}", f"{inner[name]}/container")
    seen_inside = daemon.ok("exec", "sees", "cat", "/proc/self/mountinfo")
    seen_outside = Path("/proc/self/mountinfo").read_text()
    assert {name for name in places if f" host-{name} " in seen_inside} == inside
    assert {name for name in places if f" container-{name} " in seen_outside} == outside
    for name in inside:
        subprocess.run(["umount", str(places[name] / "host")], check=True)
    assert " host-" not in daemon.ok("exec", "sees", "cat", "/proc/self/mountinfo") or inside != {
        "top",
        "below",
    }
    daemon.ok("rm", "-f", "sees")
    eventually(
        lambda: all(f" container-{name} " in Path("/proc/self/mountinfo").read_text() for name in outside)
    )


@pytest.mark.parametrize("how", ["-v", "--mount"])
@pytest.mark.parametrize(
    ("word", "kinds"),
    [
        ("shared", "shared"),
        ("rshared", "shared"),
        ("slave", "shared or slave"),
        ("rslave", "shared or slave"),
    ],
)
def test_propagation_that_the_source_cannot_have(
    daemon: Daemon, host_mount: Path, how: str, word: str, kinds: str
) -> None:
    """Refused in Docker's words; nothing of the container is left running."""
    flag = (
        f"{host_mount}:/x:{word}"
        if how == "-v"
        else f"type=bind,src={host_mount},dst=/x,bind-propagation={word}"
    )
    answer = daemon.docker("run", "--name", "refused", how, flag, "busybox", "true")
    assert answer.returncode == 125
    assert f"path {host_mount} is mounted on {host_mount} but it is not a {kinds} mount" in answer.stderr
    assert daemon.inspect("refused", "{{.State.Running}} {{.State.ExitCode}}") == "false 128"


def test_a_slave_of_a_slave(daemon: Daemon, host_mount: Path) -> None:
    """What is a slave itself may be one inside, and cannot be shared."""
    mount("--make-shared", str(host_mount))
    mount("--bind", str(host_mount / "sub"), str(host_mount / "sub"))
    mount("--make-slave", str(host_mount / "sub"))
    assert "master:" in daemon.inside(
        ["-v", f"{host_mount}/sub:/x:slave"], "grep ' /x ' /proc/self/mountinfo"
    )
    assert (
        "not a shared mount"
        in daemon.docker("run", "--rm", "-v", f"{host_mount}/sub:/x:shared", "busybox").stderr
    )


# ---- recursion


def bind(source: Path, read_only: bool = False, **options: Any) -> list[dict[str, Any]]:
    return [
        {"Type": "bind", "Source": str(source), "Target": "/x", "ReadOnly": read_only, "BindOptions": options}
    ]


def test_what_is_mounted_below(daemon: Daemon, host_mount: Path) -> None:
    """Comes along unless NonRecursive; is read only too, unless ReadOnlyNonRecursive or an API before 1.44 says otherwise."""
    (host_mount / "sub" / "deep").touch()
    look = "ls /x/sub; touch /x/new 2>/dev/null && echo top; touch /x/sub/new 2>/dev/null && echo below; rm -f /x/sub/new; true"

    def seen(version: str = "1.44", **host: Any) -> list[str]:
        return daemon.inside_by_api(look, version=version, **host).split()

    assert seen(Mounts=bind(host_mount)) == ["deep", "top", "below"]
    assert seen(Binds=[f"{host_mount}:/x"]) == ["deep", "top", "below"]
    assert seen(Mounts=bind(host_mount, NonRecursive=True)) == ["top", "below"]  # on the directory beneath
    assert seen(Mounts=bind(host_mount, read_only=True)) == ["deep"]
    assert seen(Binds=[f"{host_mount}:/x:ro"]) == ["deep"]
    assert seen(Mounts=bind(host_mount, read_only=True, ReadOnlyForceRecursive=True)) == ["deep"]
    assert seen(Mounts=bind(host_mount, read_only=True, ReadOnlyNonRecursive=True)) == ["deep", "below"]
    assert seen(Mounts=bind(host_mount, read_only=True), version="1.43") == ["deep", "below"]
    assert seen(Binds=[f"{host_mount}:/x:ro"], version="1.43") == ["deep", "below"]
    # Older clients do not know the option, so they did not mean it.
    assert seen(Mounts=bind(host_mount, read_only=True, ReadOnlyForceRecursive=True), version="1.43") == [
        "deep",
        "below",
    ]


def test_the_words_of_the_program_for_recursion(daemon: Daemon, host_mount: Path) -> None:
    """`bind-recursive`, where the docker program has it (since 25)."""
    asked = daemon.docker("run", "--rm", "--mount", "type=bind,src=/,dst=/x,bind-recursive=", "busybox")
    if "unexpected key" in asked.stderr:
        return  # Debian's docker 20.10: there are no such words to try
    look = "touch /x/sub/new 2>/dev/null && echo below; true"
    for word, expected in (
        ("enabled", ""),
        ("writable", "below"),
        ("readonly,bind-propagation=rprivate", ""),
    ):
        flags = ["--mount", f"type=bind,src={host_mount},dst=/x,ro,bind-recursive={word}"]
        assert daemon.inside(flags, look) == expected, word
    assert (
        daemon.inside(
            ["--mount", f"type=bind,src={host_mount},dst=/x,bind-recursive=disabled"],
            "mount | grep -c /x/sub",
        )
        == "0"
    )


def test_read_only_below_is_not_to_be_undone(daemon: Daemon, host_mount: Path) -> None:
    """Of what comes along read only, the host's mount stays writable."""
    daemon.inside(["-v", f"{host_mount}:/x:ro"], "true")
    (host_mount / "new").touch()
    (host_mount / "sub" / "new").touch()
