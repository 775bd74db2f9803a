"""Ways out of a container by its mounts, tried for real: links swapped under the feet of a start, and what hides the host
in /proc and /sys taken away."""

from __future__ import annotations

import contextlib
import io
import itertools
import subprocess
import tarfile
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from wherry.testing.api import Api
from wherry.testing.daemon import DOCKER, Daemon, eventually
from wherry.testing.images import busybox_tar

STARTS = 220
AT_ONCE = 4

# ---- links swapped while a start resolves them (CVE-2021-30465, CVE-2018-15664, CVE-2017-1002101)


@pytest.fixture
def host(session_root: Path) -> Iterator[Path]:
    """What must not be reached: `victim` (a mount, whose source is to be seen wherever it is mounted) and `outside`."""
    directory = session_root / f"host-{uuid.uuid4().hex[:8]}"
    (directory / "victim").mkdir(parents=True)
    (directory / "outside").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", f"victim-{directory.name}", directory / "victim"], check=True)
    (directory / "victim" / "file").write_text("mine")
    yield directory
    subprocess.run(["umount", directory / "victim"], check=True)


def load(daemon: Daemon, image: str, content: bytes) -> None:
    subprocess.run(
        [DOCKER, "import", "-", image],
        input=content,
        check=True,
        env=daemon.client_environment,
        capture_output=True,
    )


class Watch:
    """Reads the host's mount table without pause; `strangers`: mounts of the victim where there should be none."""

    def __init__(self, host: Path) -> None:
        self._source, self._place = f" victim-{host.name} ", f" {host}/victim "
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.strangers: set[str] = set()
        self.looks = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.is_set():
            for line in Path("/proc/self/mountinfo").read_text().splitlines():
                if self._source in line and self._place not in line:
                    self.strangers.add(line)
            self.looks += 1


def test_swapped_targets(daemon: Daemon, attacks: Path, host: Path) -> None:
    """No mount of a container is ever outside of its root, whatever somebody makes of the volume that its targets lie in.

    A start works, and then every mount is to be seen inside; or it fails, and says where and why.
    """
    volume, api = f"shared-{uuid.uuid4().hex[:8]}", Api(daemon.root / "sock")
    links = ["/", "../../../../../../../..", "/proc", "/proc/self/root", str(host / "outside"), "/shared/1"]
    daemon.ok("run", "-d", "--name", "attacker", "-v", f"{volume}:/shared", "-v", f"{attacks}:/attacks:ro",
              "busybox", "/attacks/swapper", "/shared", *links)  # fmt: skip
    eventually(lambda: "swapping" in daemon.ok("logs", "attacker"))
    before = sorted(path.name for path in Path("/").iterdir())
    outcomes: list[str] = []

    def attempt(number: int) -> None:
        which = number % len(links)
        inner = [f"/shared/{which}/{name}-{number}" for name in ("dir", "file", "tmpfs")]
        status, made = api.ask("POST", "/containers/create", {
            "Image": "busybox", "Cmd": ["sleep", "1000"], "WorkingDir": f"/shared/{which}/cwd",
            "HostConfig": {
                "NetworkMode": "none",
                "Binds": [f"{volume}:/shared", f"{host}/victim:{inner[0]}", f"{host}/victim/file:{inner[1]}"],
                "Tmpfs": {inner[2]: f"size={number + 1}k"},
                "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": f"/shared/{which}/device", "CgroupPermissions": "r"}],
            },
        })  # fmt: skip
        assert status == 201, made
        status, said = api.ask("POST", f"/containers/{made['Id']}/start")
        if status == 204:
            _, found = api.ask("GET", f"/containers/{made['Id']}/json")
            table = Path(f"/proc/{found['State']['Pid']}/mountinfo").read_text()
            mine = [
                line
                for line in table.splitlines()
                if f" victim-{host.name} " in line or f" size={(number + 4) // 4 * 4}k" in line
            ]
            outcomes.append("started" if len(mine) >= 2 else f"lost a mount: {table}")
        else:
            outcomes.append(
                "refused" if status == 400 and "shared" in said["message"] else f"{status} {said}"
            )
        status, said = api.ask("DELETE", f"/containers/{made['Id']}?force=1&v=1")
        assert status == 204, said

    with Watch(host) as watch, ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(attempt, range(STARTS)))
    assert watch.looks > STARTS
    assert watch.strangers == set()
    assert len(outcomes) == STARTS
    assert set(outcomes) <= {"started", "refused"}, set(outcomes)
    # Both sides of the race were met, or nothing was tried.
    assert outcomes.count("started") > STARTS // 10
    assert list((host / "outside").iterdir()) == []
    assert sorted(path.name for path in (host / "victim").iterdir()) == ["file"]
    assert sorted(path.name for path in Path("/").iterdir()) == before
    assert daemon.inspect("attacker", "{{.State.Running}}") == "true"


def test_swapped_subpaths(daemon: Daemon, attacks: Path, host: Path) -> None:
    """The subpath of a volume is resolved in the volume: a link to the host's files mounts none of them."""
    volume, api = f"shared-{uuid.uuid4().hex[:8]}", Api(daemon.root / "sock")
    (host / "outside" / "secret").write_text("secret")
    links = [str(host / "outside"), "../../../../../../../../../../../../../.." + str(host / "outside")]
    daemon.ok("run", "-d", "--name", "attacker", "-v", f"{volume}:/shared", "-v", f"{attacks}:/attacks:ro",
              "busybox", "/attacks/swapper", "/shared", *links)  # fmt: skip
    eventually(lambda: "swapping" in daemon.ok("logs", "attacker"))
    codes: list[Any] = []
    for number in range(24):
        mount = {
            "Type": "volume",
            "Source": volume,
            "Target": "/x",
            "VolumeOptions": {"Subpath": str(number % 2)},
        }
        _, made = api.ask("POST", "/containers/create", {
            "Image": "busybox", "Cmd": ["sh", "-c", "! test -e /x/secret"],
            "HostConfig": {"NetworkMode": "none", "Mounts": [mount]},
        })  # fmt: skip
        status, said = api.ask("POST", f"/containers/{made['Id']}/start")
        if status == 204:
            codes.append(api.ask("POST", f"/containers/{made['Id']}/wait")[1]["StatusCode"])
        else:
            codes.append(said["message"].partition(":")[2].strip())
        api.ask("DELETE", f"/containers/{made['Id']}?force=1")
    (host / "outside" / "secret").unlink()
    assert set(codes) <= {0, "it leads out of the volume"}, codes
    assert 0 in codes


def test_swapped_copy_up(daemon: Daemon, attacks: Path, host: Path) -> None:
    """What the image has is copied into a new volume, and through no link that another container puts there."""
    image = f"full-{uuid.uuid4().hex[:8]}"
    buffer = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for number, name in itertools.product(range(30), ("made", "secret")):
            member = tarfile.TarInfo(f"data/d{number}/{name}")
            member.size, member.mode = 4, 0o666
            archive.addfile(member, io.BytesIO(b"evil"))
    load(daemon, image, buffer.getvalue())
    (host / "outside" / "secret").write_text("secret")
    (host / "outside" / "secret").chmod(0o600)
    volume, api = f"shared-{uuid.uuid4().hex[:8]}", Api(daemon.root / "sock")
    daemon.ok("run", "-d", "--name", "attacker", "-v", f"{volume}:/shared", "-v", f"{attacks}:/attacks:ro",
              "busybox", "/attacks/planter", "/shared", str(host / "outside"), "30")  # fmt: skip
    eventually(lambda: "planting" in daemon.ok("logs", "attacker"))
    said = set()
    for _ in range(25):
        status, made = api.ask("POST", "/containers/create", {
            "Image": image, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none", "Binds": [f"{volume}:/data"]},
        })  # fmt: skip
        said.add(status if status == 201 else f"{status} {made['message'].partition(':')[0]}")
        if status == 201:
            api.ask("DELETE", f"/containers/{made['Id']}?force=1")
    daemon.ok("rm", "-f", "attacker")
    daemon.ok("rmi", image)
    assert said <= {201, f"409 cannot copy what the image has at /data to volume {volume}"}, said
    assert [path.name for path in (host / "outside").iterdir()] == ["secret"]
    assert (host / "outside" / "secret").read_text() == "secret"
    assert (host / "outside" / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("proc", "/fake", 'filesystem "proc" must be mounted on ordinary directory'),
        ("proc", "fake/deep", 'filesystem "proc" must be mounted on ordinary directory'),
        ("sys", "/fake", 'filesystem "sysfs" must be mounted on ordinary directory'),
        ("dev", "/proc/self/fd", "cannot be mounted because it is inside /proc"),
        ("dev", "/proc", "cannot be mounted because it is not of type proc"),
    ],
)  # fmt: skip
def test_images_with_links_for_system_directories(daemon: Daemon, name: str, target: str, words: str) -> None:
    """What protects /proc would protect something else (CVE-2019-19921, CVE-2023-28642): such an image does not start."""
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(busybox_tar())) as source,
        tarfile.open(fileobj=buffer, mode="w") as archive,
    ):
        for member in source:
            if member.name != name:
                archive.addfile(member, source.extractfile(member) if member.isreg() else None)
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, target
        archive.addfile(link)
        for made in ("fake", "fake/deep", "fake/sys", "fake/self"):
            directory = tarfile.TarInfo(made)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
    image = f"linked-{uuid.uuid4().hex[:8]}"
    load(daemon, image, buffer.getvalue())
    try:
        answer = daemon.docker("run", "--rm", image, "cat", "/proc/self/mounts")
        assert answer.returncode in (125, 126, 127) and words in answer.stderr, answer
    finally:
        daemon.docker("rmi", "-f", image)


@pytest.mark.parametrize("name", ["resolv.conf", "hostname", "hosts"])
@pytest.mark.parametrize(
    "link",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/self/attr/exec",
        "../../../../../..{host}/outside/made",
        "{host}/outside/made",
    ],
)
def test_links_where_the_three_files_go(daemon: Daemon, host: Path, name: str, link: str) -> None:
    """A volume on /etc with links in their places: they lead to the container's own, or the start is refused."""
    volume = f"etc-{uuid.uuid4().hex[:8]}"
    link = link.format(host=host)
    daemon.inside(["-v", f"{volume}:/v"], f"ln -s {link} /v/{name}")
    answer = daemon.docker("run", "--rm", "-v", f"{volume}:/etc:nocopy", "busybox", "true")
    if link.startswith("/proc"):
        assert answer.returncode == 125 and "inside /proc" in answer.stderr
    else:
        assert answer.returncode == 0, answer.stderr
    assert list((host / "outside").iterdir()) == []


# ---- /proc and /sys that reach the host

WATCHED = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/sysrq", "/sys/kernel/uevent_helper",
           "/proc/sys/vm/panic_on_oom", "/proc/irq/default_smp_affinity")  # fmt: skip


@pytest.fixture
def unchanged() -> Iterator[None]:
    """The host's own settings, before and after; and the release agent of each hierarchy (CVE-2022-0492)."""

    def settings() -> dict[str, str]:
        paths = [*map(Path, WATCHED), *Path("/sys/fs/cgroup").glob("*/release_agent")]
        found = {}
        for path in paths:
            with contextlib.suppress(OSError):
                found[str(path)] = path.read_text()
        return found

    before = settings()
    yield
    assert settings() == before
    assert not Path("/tmp/agent").exists()


def tried(shown: str) -> list[str]:
    """What was got, after a look that the attack went to its end."""
    lines = shown.splitlines()
    assert lines[-1].startswith("tried ") and int(lines[-1].split()[1]) > 150, shown[-2000:]
    return [line for line in lines if line.startswith("got ")]


@pytest.mark.parametrize(
    "flags",
    [
        [], ["--read-only", "--tmpfs", "/tmp"], ["--user", "1000:1000"], ["--cap-drop", "ALL"], ["--network", "host"],
        ["--pid", "host"], ["--ipc", "host", "--uts", "host"], ["--cgroupns", "host"], ["--init"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_nothing_is_to_be_uncovered(
    daemon: Daemon, attacks: Path, host: Path, unchanged: None, flags: list[str]
) -> None:
    """By a container as it is by default: nothing that reaches the host is written, read, mounted, unmounted or climbed to."""
    shown = daemon.ok(
        "run",
        "--rm",
        *flags,
        "-v",
        f"{attacks}:/attacks:ro",
        "busybox",
        "/attacks/unmask",
        str(host / "outside"),
    )
    assert tried(shown) == []


@pytest.mark.parametrize("flags", [[], ["--user", "1000:1000"]], ids=" ".join)
def test_nothing_is_to_be_uncovered_in_other_namespaces(
    daemon: Daemon, attacks: Path, host: Path, unchanged: None, flags: list[str]
) -> None:
    """In namespaces of its own, where the profile allows them, a container has all capabilities and still nothing of the host.

    Masks are locked there, /proc and /sys cannot be had anew, and no cgroup names the host a program to run.
    """
    shown = daemon.ok(
        "run", "--rm", *flags, "--security-opt", "seccomp=unconfined", "-v", f"{attacks}:/attacks:ro", "busybox",
        "/attacks/unmask", "unshare", str(host / "outside"),
    )  # fmt: skip
    assert tried(shown) == []


def test_the_attack_would_notice(daemon: Daemon, attacks: Path, host: Path, unchanged: None) -> None:
    """One who was given the administrator's capability, and no profile, does uncover: the tests above prove something."""
    shown = daemon.ok(
        "run", "--rm", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "-v", f"{attacks}:/attacks:ro",
        "busybox", "/attacks/unmask", str(host / "outside"),
    )  # fmt: skip
    found = tried(shown)
    for what in (
        "got umount /proc/keys",
        "got setattr /proc/sys",
        "got unshare user",
        "got mount proc",
        "got bind /proc",
    ):
        assert what in found
    assert not [
        what for what in found if what.startswith(("got climbed", "got write /tmp/cgroup/release_agent"))
    ]


def test_nothing_in_sys_can_be_opened_to_write(daemon: Daemon, unchanged: None) -> None:
    """Not one of the files of /sys and of what is read only in /proc: all are tried. (Opened to append, nothing is written.)"""
    script = (
        "find /sys /proc/sys /proc/irq /proc/bus /proc/fs /proc/sysrq-trigger -type f 2>/dev/null > /tmp/all; "
        'while read -r file; do true 2>/dev/null >> "$file" && echo "got $file"; done < /tmp/all 2>/dev/null; '
        "echo tried $(wc -l < /tmp/all)"
    )
    assert tried(daemon.ok("run", "--rm", "busybox", "sh", "-c", script)) == []
