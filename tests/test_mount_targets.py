"""Where mounts go: through links and never out of the root, on files and directories, in each other, in system directories."""

from __future__ import annotations

import io
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from wherry.testing.daemon import DOCKER, Daemon
from wherry.testing.images import busybox_tar

LINKS: Final = {
    "var/run": "/run", "relative": "../../../../run/made", "dangling": "/run/absent/deeper", "loop": "/loop",
    "up": "../../../..",
    "etc/link": "../run", "into-proc": "/proc/self", "proc-link": "/proc", "chain": "/var/run/chained",
    "other-dangling": "/run/elsewhere/deeper",
}  # fmt: skip


@pytest.fixture(scope="module")
def linked(shared_daemon: Daemon) -> Iterator[str]:
    """busybox with links where mounts are to go."""
    buffer = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for path, target in LINKS.items():
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    name = f"linked-{uuid.uuid4().hex[:8]}"
    subprocess.run(
        [DOCKER, "import", "-c", 'CMD ["sh"]', "-", name],
        input=buffer.getvalue(), check=True, env=shared_daemon.client_environment, capture_output=True,
    )  # fmt: skip
    yield name
    shared_daemon.docker("rmi", name)


PLACES: Final = {
    "/var/run/a": "/run/a",
    "/relative/b": "/run/made/b",
    "/dangling/c": "/run/absent/deeper/c",
    "/chain/d": "/run/chained/d",
    "/etc/link/e/f": "/run/e/f",
    "/up/g": "/g",
    "/up/{outside}/h": "{outside}/h",
    "/i/../../../j/./k/": "/j/k",
    "/new/l/m/n/o": "/new/l/m/n/o",
    "/lib": "/lib",
    "/with space/ü": "/with space/ü",
    "/other-dangling": "/run/elsewhere/deeper",
}


@pytest.mark.parametrize("kind", ["directory", "file", "volume", "tmpfs"])
def test_targets_through_links(daemon: Daemon, linked: str, host_directory: Path, kind: str) -> None:
    """A target is what it is inside of the container's root: links are followed, and made where they dangle, never out."""
    outside = host_directory / "outside"
    outside.mkdir(exist_ok=True)
    places = {target.format(outside=outside): real.format(outside=outside) for target, real in PLACES.items()}
    if kind == "file":
        del places["/lib"]  # which is a directory
    flags: list[str] = []
    for target in places:
        flags += {
            "directory": ["-v", f"{host_directory}:{target}"],
            "file": ["-v", f"{host_directory}/inside:{target}"],
            "volume": ["-v", f"at-{uuid.uuid4().hex[:8]}:{target}:nocopy"],
            "tmpfs": ["--tmpfs", target],
        }[kind]
    seen = daemon.inside(flags, "cat /proc/self/mountinfo", linked)
    found = {line.split()[4].replace(r"\040", " ") for line in seen.splitlines() if " - " in line}
    assert set(places.values()) <= found
    assert list(outside.iterdir()) == []
    assert not any(Path(path).exists() for path in ("/run/made", "/run/absent", "/run/chained", "/g"))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/loop/y", "too many levels of symbolic links"),
        ("/etc/passwd/y", "not a directory"),
        ("/etc/passwd", "Are you trying to mount a directory onto a file"),
        ("/proc", "cannot be mounted because it is not of type proc"),
        ("/proc-link", "cannot be mounted because it is not of type proc"),
        ("/proc/foo", "cannot be mounted because it is inside /proc"),
        ("/proc/sys", "cannot be mounted because it is inside /proc"),
        ("/proc/self/attr", "cannot be mounted because it is inside /proc"),
        ("/into-proc/attr", "cannot be mounted because it is inside /proc"),
        ("/proc-link/sys/kernel", "cannot be mounted because it is inside /proc"),
        ("/sys/none", "read-only file system"),
        ("/" + "a" * 300, "file name too long"),
    ],
)
def test_impossible_targets(
    daemon: Daemon, linked: str, host_directory: Path, target: str, words: str
) -> None:
    """One clear line, and nothing is left of the start."""
    answer = daemon.docker("run", "--rm", "-v", f"{host_directory}:{target}", linked, "true")
    assert answer.returncode in (125, 126, 127)
    assert words in answer.stderr
    assert "unforeseen" not in answer.stderr


@pytest.mark.parametrize(
    ("flags", "script", "seen"),
    [
        (["-v", "{dir}/inside:/proc/cpuinfo"], "cat /proc/cpuinfo", "content"),
        (["-v", "{dir}/inside:/proc/uptime:ro"], "cat /proc/uptime", "content"),
        (["-v", "/proc:/proc"], "grep -c . /proc/1/comm", "1"),
        (["-v", "/proc:/proc", "-v", "{dir}/inside:/proc/stat"], "cat /proc/stat", "content"),
        (["-v", "{dir}:/sys"], "cat /sys/inside", "content"),
        (["-v", "{dir}:/sys/kernel"], "cat /sys/kernel/inside", "content"),
        (["-v", "{dir}:/sys/fs/cgroup"], "cat /sys/fs/cgroup/inside", "content"),
        (["-v", "/sys:/sys:ro"], "ls -d /sys/kernel", "/sys/kernel"),
        (["-v", "{dir}:/dev/new"], "cat /dev/new/inside", "content"),
        (["-v", "{dir}:/dev/shm"], "cat /dev/shm/inside", "content"),
    ],
    ids=lambda case: " ".join(case) if isinstance(case, list) else "",
)
def test_possible_targets_in_system_directories(
    daemon: Daemon, host_directory: Path, flags: list[str], script: str, seen: str
) -> None:
    flags = [flag.format(dir=host_directory) for flag in flags]
    assert daemon.inside(flags, script) == seen


def test_the_host_s_devices(daemon: Daemon) -> None:
    """`-v /dev:/dev` is the host's /dev with its terminals and shared memory, and `-t` works there."""
    seen = daemon.inside(["-v", "/dev:/dev"], "grep ' /dev' /proc/mounts | cut -d' ' -f 2,3")
    assert "/dev devtmpfs" in seen and "mqueue" not in seen
    look = "test -t 0 && tty; test -c /dev/console && echo console"
    shown = daemon.ok("run", "--rm", "-t", "-v", "/dev:/dev", "busybox", "sh", "-c", look)
    assert "/dev/pts/" in shown and "console" in shown
    daemon.ok("run", "-d", "--name", "devices", "-v", "/dev:/dev", "busybox", "sleep", "1000")
    assert "/dev/pts/" in daemon.ok("exec", "-t", "devices", "tty")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_nested_targets_in_any_order(daemon: Daemon, host_directory: Path, order: tuple[int, ...]) -> None:
    """Outer ones are mounted first, so none hides another."""
    outer = f"outer-{uuid.uuid4().hex[:8]}"
    flags = [["-v", f"{outer}:/a"], ["-v", f"{host_directory}:/a/b/c"], ["--tmpfs", "/a/b"]]
    chosen = [word for number in order for word in flags[number]]
    assert daemon.inside(chosen, "cat /a/b/c/inside; stat -f -c %T /a/b; touch /a/mine") == "content\ntmpfs"
    assert daemon.inside(["-v", f"{outer}:/a"], "find /a | sort").split() == ["/a", "/a/b", "/a/mine"]


def test_targets_in_other_mounts(daemon: Daemon, linked: str, host_directory: Path) -> None:
    """Made in the volume or directory that they lie in; its links are followed inside of the container only."""
    name = f"holder-{uuid.uuid4().hex[:8]}"
    daemon.inside(["-v", f"{name}:/v"], "ln -s /etc /v/out; ln -s ../../.. /v/up; touch /v/file")
    seen = daemon.inside(
        ["-v", f"{name}:/v", "-v", f"{host_directory}:/v/out/y", "-v", f"{host_directory}:/v/new/deep"],
        "cat /etc/y/inside /v/new/deep/inside",
        linked,
    )
    assert seen.split() == ["content", "content"]
    assert not Path("/etc/y").exists()
    assert (
        daemon.inside(["-v", f"{name}:/v", "-v", f"{host_directory}:/v/up/z"], "cat /z/inside", linked)
        == "content"
    )
    assert (
        daemon.inside(["-v", f"{name}:/v", "-v", f"{host_directory}/inside:/v/file"], "cat /v/file")
        == "content"
    )
    answer = daemon.docker(
        "run", "--rm", "-v", f"{name}:/v:ro", "-v", f"{host_directory}:/v/none", "busybox", "true"
    )
    assert "read-only file system" in answer.stderr


def test_volumes_on_files_and_directories(daemon: Daemon, host_directory: Path) -> None:
    """A volume begins as the directory that it hides; on a file it is refused, and nothing of it is left."""
    for flag in ("/etc/passwd", "named-{id}:/etc/passwd"):
        answer = daemon.docker("create", "-v", flag.format(id=uuid.uuid4().hex[:8]), "busybox")
        assert answer.returncode == 1
        assert "cannot mount volume over existing file, file exists /etc/passwd" in answer.stderr
    answer = daemon.docker("run", "--rm", "-v", f"{host_directory}/inside:/etc", "busybox", "true")
    assert (
        "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path"
        in answer.stderr
    )
    name = f"home-{uuid.uuid4().hex[:8]}"
    assert (
        daemon.inside(
            ["-v", f"{name}:/home"], "stat -c '%u %a' /home/user; rmdir /home/user; touch /home/mine"
        )
        == "1000 755"
    )
    assert daemon.inside(["-v", f"{name}:/home"], "ls /home") == "mine"
    assert daemon.inside(["-v", f"{name}:/home/user"], "ls /home/user; ls /home") == "mine\nuser"


def test_the_three_files_on_top_of_a_volume(daemon: Daemon, host_directory: Path) -> None:
    """A volume on /etc does not hide them, and holds their places afterwards; a bind of the user's goes first."""
    name = f"etc-{uuid.uuid4().hex[:8]}"
    assert daemon.inside(["--hostname", "seen", "-v", f"{name}:/etc:nocopy"], "cat /etc/hostname; ls /etc").split() == [
        "seen", "hostname", "hosts", "resolv.conf",
    ]  # fmt: skip
    assert daemon.inside(["-v", f"{host_directory}/inside:/etc/hosts"], "cat /etc/hosts") == "content"


def test_many_mounts(daemon: Daemon, host_directory: Path) -> None:
    """Three hundred, more than one message to the keeper has descriptors for."""
    many = host_directory / "many"
    for number in range(300):
        (many / str(number)).mkdir(parents=True, exist_ok=True)
        (many / str(number) / "number").write_text(str(number))
    flags = [word for number in range(300) for word in ("-v", f"{many}/{number}:/m/{number}:ro")]
    seen = daemon.inside(
        flags, "cat /m/*/number | wc -c; grep -c ' /m/' /proc/mounts; ls /proc/self/fd | wc -l"
    )
    assert seen.split() == [str(sum(len(str(number)) for number in range(300))), "300", "4"]
