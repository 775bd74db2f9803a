"""What an image or a client may say that makes no sense, or harm: each is refused in words, or does nothing bad."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.testing.api import Api
from wherry.testing.daemon import DOCKER, Daemon, eventually
from wherry.testing.images import busybox_tar, busybox_tar_with, member

SOON = 15.0
"""Seconds in which anything here is answered, on a machine that is busy with other things."""


@pytest.fixture
def api(daemon: Daemon) -> Iterator[Api]:
    """A client; when a test is over, the daemon answers and has met with nothing unforeseen."""
    yield Api(daemon.root / "sock")
    assert daemon.docker("ps").returncode == 0
    assert "Traceback" not in daemon.log


def build(daemon: Daemon, name: str, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    subprocess.run(
        [DOCKER, "import", "-c", 'CMD ["sh"]', "-", name],
        input=busybox_tar_with(*members), check=True, env=daemon.client_environment, capture_output=True,
    )  # fmt: skip


def load(daemon: Daemon, name: str, config: dict[str, Any]) -> subprocess.CompletedProcess[bytes]:
    """`docker load` of an image whose configuration says this."""
    layer = busybox_tar()
    document = {
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": [f"{name}:latest"], "Layers": ["layer.tar"]}]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file, content in (
            ("manifest.json", json.dumps(manifest).encode()),
            ("config.json", json.dumps(document).encode()),
            ("layer.tar", layer),
        ):
            entry = tarfile.TarInfo(file)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return subprocess.run(
        [DOCKER, "load"], input=buffer.getvalue(), env=daemon.client_environment, capture_output=True
    )


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("NUL in a variable", {"Env": ["A=b\0c"]}),
    ("NUL in a variable's name", {"Env": ["A\0=b"]}),
    ("variable without a name", {"Env": ["=b"]}),
    ("half a surrogate pair", {"Env": ["A=\udcff"]}),
    ("NUL in the working directory", {"WorkingDir": "/a\0b"}),
    ("relative working directory", {"WorkingDir": "../../etc"}),
    ("working directory too long", {"WorkingDir": "/" + "a" * 300}),
    ("working directory too deep", {"WorkingDir": "/" + "a/" * 5000}),
    ("working directory is a file", {"WorkingDir": "/etc/passwd/x"}),
    ("NUL in the program", {"Cmd": ["tr\0ue"]}),
    ("NUL in an argument", {"Cmd": ["true", "a\0b"]}),
    ("NUL in the entrypoint", {"Entrypoint": ["tr\0ue"]}),
    ("no program", {"Cmd": [""]}),
    ("three ids", {"User": "0:0:0"}),
    ("negative uid", {"User": "-1"}),
    ("negative gid", {"User": "0:-1"}),
    ("uid of 32 bits", {"User": "4294967295"}),
    ("uid that wraps to 0", {"User": "4294967296"}),
    ("uid in other digits", {"User": "\u0660"}),
    ("user with a newline", {"User": "root\n"}),
    ("user that is a path", {"User": "../../etc/passwd"}),
    ("NUL in the user", {"User": "0\0"}),
    ("host name of two lines", {"Hostname": "a\nb"}),
    ("domain of two lines", {"Domainname": "a\n127.0.0.1 evil"}),
    ("signal that is none", {"StopSignal": "SIG\0"}),
    ("server of two lines", {"HostConfig": {"Dns": ["1.2.3.4\nnameserver 6.6.6.6"]}}),
    ("search of two lines", {"HostConfig": {"DnsSearch": ["a\nnameserver 6.6.6.6"]}}),
    ("option of two lines", {"HostConfig": {"DnsOptions": ["a\nnameserver 6.6.6.6"]}}),
    ("host of two lines", {"HostConfig": {"ExtraHosts": ["a:1.2.3.4\n5.6.7.8 b"]}}),
    ("NUL in a device", {"HostConfig": {"Devices": [{"PathOnHost": "/dev/null\0"}]}}),
    ("cgroup outside", {"HostConfig": {"CgroupParent": "/a/../../../tmp"}}),
    ("NUL in a masked path", {"HostConfig": {"MaskedPaths": ["/proc\0"]}}),
    ("NUL in a volume", {"Volumes": {"/a\0b": {}}}),
    ("ten megabytes of argument", {"Cmd": ["true", "x" * (10 << 20)]}),
    ("a megabyte of argument", {"Cmd": ["true", "x" * (1 << 20)]}),
    ("a megabyte of variable", {"Env": ["A=" + "x" * (1 << 20)]}),
]  # fmt: skip


@pytest.mark.parametrize("config", [pytest.param(c, id=name) for name, c in REFUSED])
def test_refused(api: Api, config: dict[str, Any]) -> None:
    """The client is at fault and is told so in one line, at create or at start; soon; and nothing is left."""
    began = time.monotonic()
    status, answer = api.ask("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], **config})
    if status == 201:
        name = answer["Id"]
        status, answer = api.ask("POST", f"/containers/{name}/start")
        assert api.ask("DELETE", f"/containers/{name}?force=1")[0] == 204
    assert 400 <= status < 500, answer
    assert answer["message"]
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize(
    ("config", "output"),
    [
        ({"Env": ["A=b\nC=d"], "Cmd": ["sh", "-c", 'echo "$A"; echo "<$C>"']}, "b\nC=d\n<>"),
        ({"WorkingDir": "/a\nb", "Cmd": ["pwd"]}, "/a\nb"),
        ({"WorkingDir": "/../../../..", "Cmd": ["ls", "home"]}, "user"),
        ({"Cmd": ["echo", "\033[2J\r\n"]}, "\033[2J"),
        ({"Cmd": ["sh", "-c", "echo $#", *["x"] * 50_000]}, "49999"),
    ],
    ids=[
        "a newline in a variable",
        "in the working directory",
        "above the root",
        "escapes",
        "many arguments",
    ],
)
def test_odd_and_allowed(daemon: Daemon, api: Api, config: dict[str, Any], output: str) -> None:
    """What is unusual and harmless works as it would anywhere."""
    status, answer = api.ask("POST", "/containers/create", {"Image": "busybox", **config})
    assert status == 201, answer
    assert api.ask("POST", f"/containers/{answer['Id']}/start")[0] == 204
    assert api.ask("POST", f"/containers/{answer['Id']}/wait")[1]["StatusCode"] == 0
    assert daemon.ok("logs", answer["Id"]) == output


@pytest.mark.parametrize(
    "config",
    [
        {"Env": ["A\0=b"]},
        {"Env": "A=b"},
        {"Env": [{"A": "b"}]},
        {"WorkingDir": "/a\0b"},
        {"WorkingDir": ["/a"]},
        {"User": "0:0:0"},
        {"User": 0},
        {"Cmd": {"0": "sh"}},
        {"Cmd": ["sh\0"]},
        {"StopSignal": "NONSENSE"},
        {"Volumes": {"/a\0b": {}}},
        {"ExposedPorts": {"99999999/tcp": {}}},
        {"ExposedPorts": {"80/tcp\n81/tcp": {}}},
        {"Labels": ["a"]},
    ],
    ids=ascii,
)
def test_images_that_make_no_sense(daemon: Daemon, api: Api, config: dict[str, Any]) -> None:
    """An image's configuration is read as strictly as a client's: it is not loaded, or no container is made of it."""
    loaded = load(daemon, "hostile", config)
    if loaded.returncode == 0:
        wanted = {"Image": "hostile", "Cmd": ["true"], "HostConfig": {"PublishAllPorts": True}}
        status, answer = api.ask("POST", "/containers/create", wanted)
        if status == 201:
            status, answer = api.ask("POST", f"/containers/{answer['Id']}/start")
        # A request says which program to run, over an image that says nonsense about it.
        assert 400 <= status < 500 or "Cmd" in config, answer
    else:
        assert b"unforeseen" not in loaded.stderr
        assert loaded.stderr.count(b"\n") <= 2
    daemon.docker("rmi", "-f", "hostile")


@pytest.mark.parametrize("place", ["/../../../../tmp", "/proc/../..", "/sys/fs/cgroup/../../../x"])
def test_volumes_of_an_image_stay_inside(daemon: Daemon, place: str) -> None:
    """An image's volume lies where it would in the container, and never on the host."""
    assert load(daemon, "hostile", {"Volumes": {place: {}}}).returncode == 0
    before = set(Path("/").iterdir())
    answer = daemon.docker("run", "--rm", "hostile", "sh", "-c", "cat /proc/self/mountinfo")
    assert answer.returncode == 0 or "invalid" in answer.stderr
    assert set(Path("/").iterdir()) == before
    daemon.ok("rmi", "-f", "hostile")


# ---- files of accounts (TROUBLE M6) ----------------------------------------------------------------------------------
HUGE = b"".join(b"group%d:x:%d:root\n" % (i, i) for i in range(300_000))
ACCOUNTS: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "pipe": [(member("etc/passwd", tarfile.FIFOTYPE), b"")],
    "link to itself": [(member("etc/passwd", tarfile.SYMTYPE, link="passwd"), b"")],
    "link out": [(member("etc/passwd", tarfile.SYMTYPE, link="../../../../../etc/passwd"), b"")],
    "link to the host's by /proc": [
        (member("etc/passwd", tarfile.SYMTYPE, link="/proc/self/root/etc/passwd"), b"")
    ],
    "endless device": [(member("etc/passwd", tarfile.SYMTYPE, link="/dev/zero"), b"")],
    "directory": [(member("etc/passwd", tarfile.DIRTYPE, 0o755), b"")],
    "terabyte of line": [(member("etc/passwd"), b"root:x:0:0:" + b"x" * 3_000_000)],
    "no UTF-8": [(member("etc/passwd"), b"\xff\xfe:x:0:0::/:\nroot:x:0:0:root:/root:/bin/sh\n")],
}


@pytest.mark.parametrize("kind", list(ACCOUNTS))
def test_accounts_that_are_no_file(daemon: Daemon, kind: str) -> None:
    """/etc/passwd may be anything: start, exec and removal take no longer, nothing of the host's is read, and a name
    that cannot be found is refused as any other."""
    build(daemon, "hostile", *ACCOUNTS[kind])
    began = time.monotonic()
    name = daemon.ok("run", "-d", "hostile", "sleep", "1000")
    assert "0\t0\t0\t0" in daemon.ok("exec", name, "grep", "Uid", "/proc/self/status")
    assert "1234" in daemon.ok("exec", "-u", "1234:5678", name, "grep", "Uid", "/proc/self/status")
    # An account of this machine that the image does not have.
    refused = daemon.docker("exec", "-u", "_apt", name, "true")
    assert refused.returncode != 0
    assert "unable to find user _apt: no matching entries in passwd file" in refused.stdout + refused.stderr
    daemon.ok("rm", "-f", name)
    assert time.monotonic() - began < 2 * SOON
    daemon.ok("rmi", "-f", "hostile")


def test_huge_groups(daemon: Daemon) -> None:
    """A file of groups beyond all reason is not read: who needs it is told so, soon, and removal is quick."""
    build(daemon, "hostile", (member("etc/group"), HUGE))
    began = time.monotonic()
    answer = daemon.docker("run", "--rm", "--user", "root", "hostile", "true")
    assert answer.returncode in (125, 126)
    assert "at most" in answer.stderr
    assert daemon.docker("run", "--rm", "--user", "0:0", "hostile", "true").returncode in (0, 125, 126)
    assert time.monotonic() - began < SOON
    daemon.ok("rmi", "-f", "hostile")


def test_a_pipe_is_not_even_opened(daemon: Daemon) -> None:
    """/etc/passwd becomes a pipe while the container runs: its writer waits on, whoever is executed."""
    name = daemon.ok(
        "run", "-d", "busybox", "sh", "-c",
        "rm /etc/passwd; mkfifo /etc/passwd; echo ready; echo x >/etc/passwd; echo somebody opened it; sleep 1000",
    )  # fmt: skip
    eventually(lambda: "ready" in daemon.ok("logs", name))
    for user in ("0", "1234", "nobody"):
        daemon.docker("exec", "-u", user, name, "true")
    assert daemon.ok("logs", name) == "ready"
    # The pipe works: somebody who does open it is noticed.
    daemon.ok("exec", name, "cat", "/etc/passwd")
    eventually(lambda: "somebody opened it" in daemon.ok("logs", name))


def test_a_lease_on_the_accounts(daemon: Daemon, attacks: Path) -> None:
    """Process 1 asks to be heard for 45 s before anybody may open /etc/passwd: an exec does not wait for it."""
    name = daemon.ok("run", "-d", "-v", f"{attacks}:/attacks:ro", "busybox", "/attacks/lease", "/etc/passwd")
    eventually(lambda: "leased" in daemon.ok("logs", name))
    began = time.monotonic()
    daemon.docker("exec", "-u", "root", name, "true")
    daemon.docker("exec", name, "true")
    assert time.monotonic() - began < SOON


# ---- files that the engine writes and a container may ------------------------------------------------------------
@pytest.mark.parametrize(
    "spoil",
    [
        "truncate -s 1T /etc/resolv.conf",
        r"printf '\377\376' >/etc/resolv.conf",
        "truncate -s 1T /etc/hosts; truncate -s 1T /etc/hostname",
    ],
    ids=["a terabyte", "no text", "hosts"],
)
def test_spoilt_files_of_names(daemon: Daemon, spoil: str) -> None:
    """Whatever a container writes into the files of names, it starts again, soon, and the engine does not read it whole."""
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", f"{spoil}; echo done; sleep 1000")
    eventually(lambda: "done" in daemon.ok("logs", name))
    began = time.monotonic()
    daemon.ok("restart", "-t", "0", name)
    assert daemon.ok("exec", name, "echo", "fine") == "fine"
    assert time.monotonic() - began < SOON
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    assert int(status.partition("VmHWM:")[2].split()[0]) < 1 << 20  # KiB
    assert "Traceback" not in daemon.log


# ---- the daemon's log ------------------------------------------------------------------------------------------------
FORGED = "2026-01-01 00:00:00,000 ERROR forged: line"


@pytest.mark.parametrize(
    "request_of",
    [
        {"Cmd": [f"/nowhere\n{FORGED}"]},
        {"User": f"nobody\n{FORGED}"},
        {"WorkingDir": f"/etc/passwd/\n{FORGED}"},
        {"Cmd": ["true"], "Labels": {f"a\n{FORGED}": f"\n{FORGED}"}},
        {"Cmd": ["true"], "HostConfig": {"LogConfig": {"Type": f"json\n{FORGED}"}}},
        {"Cmd": ["true"], "Image": f"busybox\n{FORGED}"},
    ],
    ids=["program", "user", "directory", "label", "log driver", "image"],
)
def test_no_lines_are_forged_in_the_log(daemon: Daemon, api: Api, request_of: dict[str, Any]) -> None:
    """What a request or an image says stays within the line of the daemon's log that tells of it; nor does it steer the
    terminal of who reads that."""
    request_of = {**request_of, "Env": ["A=\033]0;title\a"]}
    status, answer = api.ask(
        "POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], **request_of}
    )
    if status == 201:
        api.ask("POST", f"/containers/{answer['Id']}/start")
        api.ask("POST", f"/containers/{answer['Id']}/exec", {"Cmd": [f"x\n{FORGED}"]})
        api.ask("DELETE", f"/containers/{answer['Id']}?force=1")
    api.ask("GET", f"/containers/%0a{FORGED.replace(' ', '%20')}/json")
    assert not [line for line in daemon.log.splitlines() if line.startswith(FORGED)]
    assert "\033" not in daemon.log


def test_a_container_forges_no_line_either(daemon: Daemon) -> None:
    """A container that cannot be started again, because it spoilt its own working directory, is told of in one line."""
    daemon.ok(
        "run", "-d", "--restart", "always", "--workdir", f"/tmp/w\n{FORGED}", "busybox",
        "sh", "-c", "cd /; rmdir /tmp/w*; touch \"$1\"; exit 1", "sh", f"/tmp/w\n{FORGED}",
    )  # fmt: skip
    eventually(lambda: "restarting" in daemon.log, "the restart fails")
    assert FORGED.split()[-1] in daemon.log
    assert not [line for line in daemon.log.splitlines() if line.startswith(FORGED)]
