"""`docker cp` in each state of a container, with what is mounted in it, and when it goes wrong half-way."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from wherry.testing.daemon import DOCKER, Daemon, eventually
from wherry.testing.images import busybox_tar

STATES = ("created", "running", "paused", "exited")


def made(daemon: Daemon, state: str, *flags: str, name: str = "box", image: str = "busybox") -> None:
    """A container in one of the states, with /etc/hosts and all if it has run."""
    daemon.ok("create", "--name", name, *flags, image, "sh", "-c", "echo up; exec sleep 1000")
    if state != "created":
        daemon.ok("start", name)
        eventually(lambda: daemon.ok("logs", name) == "up")
    if state == "paused":
        daemon.ok("pause", name)
    if state == "exited":
        daemon.ok("kill", name)
        daemon.ok("wait", name)


def put(daemon: Daemon, source: Path | str, target: str, *flags: str) -> None:
    daemon.ok("cp", *flags, str(source), target)


def got(daemon: Daemon, source: str) -> dict[str, tarfile.TarInfo | bytes]:
    """What `cp … -` gives: content of files, the entry itself of everything else."""
    answer = daemon.docker("cp", source, "-", text=False)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, tarfile.TarInfo | bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(answer.stdout)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            found[member.name] = file.read() if file else member
    return found


@pytest.fixture
def linked(daemon: Daemon) -> str:
    """An image in which /links/there leads to /real, by a way that would lead out of it."""
    buffer = io.BytesIO(busybox_tar())
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        link, real = tarfile.TarInfo("links/there"), tarfile.TarInfo("real")
        link.type, link.linkname = tarfile.SYMTYPE, "/../../real"
        real.type, real.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(link)
        tar.addfile(real)
    subprocess.run(
        [DOCKER, "import", "-", "linked"], input=buffer.getvalue(), env=daemon.client_environment,
        check=True, capture_output=True,
    )  # fmt: skip
    return "linked"


@pytest.mark.parametrize("state", STATES)
def test_every_state(daemon: Daemon, tmp_path: Path, host_directory: Path, linked: str, state: str) -> None:
    """In and out, of the layer, a volume, a bind, and a mount whose target lies behind a link: TROUBLE's row 53."""
    (tmp_path / "in").write_text("from outside")
    flags = ["-v", "/data", "-v", f"{host_directory}:/var/lock/bind", "-v", "/links/there/vol"]
    made(daemon, state, *flags, image=linked)
    for place in ("/tmp", "/data", "/var/lock/bind", "/links/there/vol", "/real/vol"):
        put(daemon, tmp_path / "in", f"box:{place}/new")
        assert got(daemon, f"box:{place}/new") == {"new": b"from outside"}
    assert got(daemon, "box:/var/lock/bind/inside") == {"inside": b"content\n"}
    assert (host_directory / "new").read_text() == "from outside"
    (host_directory / "new").unlink()
    if state == "paused":
        daemon.ok("unpause", "box")
    if state in ("running", "paused"):
        seen = daemon.ok("exec", "box", "sh", "-c", "cat /tmp/new /data/new /real/vol/new")
        assert seen == "from outside" * 3
    daemon.ok("rm", "-f", "-v", "box")


def test_the_three_files(daemon: Daemon) -> None:
    """hosts, hostname and resolv.conf come out as the container has them, and stay what they are: mounted."""
    made(daemon, "running", "--hostname", "called")
    inside = daemon.ok("exec", "box", "cat", "/etc/hosts")
    assert got(daemon, "box:/etc/hosts")["hosts"] == f"{inside}\n".encode()
    assert got(daemon, "box:/etc")["etc/hostname"] == b"called\n"
    refused = daemon.docker("cp", "/etc/passwd", "box:/etc/hosts")
    assert refused.returncode == 1 and "unlinkat /etc/hosts: device or resource busy" in refused.stderr
    assert daemon.ok("exec", "box", "cat", "/etc/hosts") == inside
    daemon.ok("kill", "box")
    daemon.ok("wait", "box")
    assert got(daemon, "box:/etc/hostname")["hostname"] == b"called\n"


def test_tmpfs_of_a_running_container(daemon: Daemon, tmp_path: Path) -> None:
    """What is in its memory comes out, and what goes in is seen by its processes; /proc and /dev are the image's."""
    made(daemon, "running", "--tmpfs", "/memory", "--mount", "type=tmpfs,dst=/other")
    daemon.ok("exec", "box", "sh", "-c", "echo kept > /memory/file")
    assert got(daemon, "box:/memory/file") == {"file": b"kept\n"}
    (tmp_path / "in").write_text("in")
    put(daemon, tmp_path / "in", "box:/other/in")
    assert daemon.ok("exec", "box", "cat", "/other/in") == "in"
    assert list(got(daemon, "box:/proc")) == ["proc"]
    missing = daemon.docker("cp", "box:/proc/cpuinfo", "-")
    assert (
        missing.returncode == 1 and "Could not find the file /proc/cpuinfo in container box" in missing.stderr
    )


@pytest.mark.parametrize("state", ["running", "exited"])
def test_what_is_read_only(daemon: Daemon, state: str) -> None:
    """A read-only root and a read-only volume are refused in docker's words; a writable volume in it is not."""
    made(daemon, state, "--read-only", "-v", "/writable", "-v", "/etc:/given:ro")
    for place, words in (
        ("/tmp", "container rootfs is marked read-only"),
        ("/given", "mounted volume is marked read-only"),
    ):
        refused = daemon.docker("cp", "/etc/passwd", f"box:{place}/x")
        assert refused.returncode == 1 and words in refused.stderr
    put(daemon, "/etc/passwd", "box:/writable")
    assert "passwd" in got(daemon, "box:/writable/passwd")
    assert not Path("/etc/x").exists()


def test_everything_that_can_be_copied(daemon: Daemon, tmp_path: Path) -> None:
    """Special files, hard links, holes, attributes, long names, owners and times, through both programs and back."""
    top = tmp_path / "top"
    (top / ("d" * 200) / ("e" * 200)).mkdir(parents=True)
    (top / ("d" * 200) / ("e" * 200) / ("f" * 200)).write_text("long")
    os.mkfifo(top / "pipe")
    os.mknod(top / "null", 0o020666, os.makedev(1, 3))
    (top / "one").write_text("linked")
    os.link(top / "one", top / "two")
    (top / "link").symlink_to("../../outside")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "s"))
    with (top / "holes").open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"in the middle")
    os.setxattr(top / "one", "user.mine", b"value")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(top / "holes", "security.capability", capability)
    os.chown(top / "one", 1234, 5678)
    os.utime(top / "one", ns=(10**18, 10**18 + 10**9))
    os.chmod(top / "holes", 0o4751)
    os.utime(top, ns=(10**18, 10**18))
    made(daemon, "running")
    assert daemon.wherry("cp", str(top), "box:/in").returncode == 0
    shown = daemon.ok(
        "exec", "box", "sh", "-c", "cd /in; stat -c '%n %F %a %u:%g %h %Y' *; du -k holes; ls -l null"
    )
    assert "one regular file 644 1234:5678 2 1000000001" in shown
    assert "pipe fifo" in shown and "null character special file" in shown and "1,   3" in shown
    assert "holes regular file 4751" in shown and "s socket" not in shown
    kilobytes = next(int(line.split()[0]) for line in shown.splitlines() if line.endswith("\tholes"))
    assert kilobytes < 1024, "the hole stayed one"
    out = tmp_path / "out"
    assert daemon.wherry("cp", "-a", "box:/in", str(out)).returncode == 0
    assert os.getxattr(out / "one", "user.mine") == b"value"
    assert os.getxattr(out / "holes", "security.capability") == capability
    assert (out / "one").stat().st_ino == (out / "two").stat().st_ino
    assert (out / "one").stat().st_uid == 1234 and (out / "one").stat().st_mtime_ns == 10**18 + 10**9
    assert (out / ("d" * 200) / ("e" * 200) / ("f" * 200)).read_text() == "long"
    assert os.readlink(out / "link") == "../../outside"
    assert (out / "holes").stat().st_blocks * 512 < 8 << 20 and (out / "holes").read_bytes() == (
        top / "holes"
    ).read_bytes()


@pytest.mark.parametrize(
    ("user", "owner"), [("user", "1000:1000"), ("www-data:100", "33:100"), ("", "77:88")]
)
def test_archive_mode(daemon: Daemon, tmp_path: Path, user: str, owner: str) -> None:
    """With -a what goes in belongs to the container's user, by its own passwd, if it has one; without, it is as it was."""
    (tmp_path / "file").write_text("x")
    os.chown(tmp_path / "file", 77, 88)
    made(daemon, "running", *(["-u", user] if user else []))
    put(daemon, tmp_path / "file", "box:/tmp/with", "-a")
    put(daemon, tmp_path / "file", "box:/tmp/without")
    assert daemon.ok("exec", "box", "stat", "-c", "%u:%g", "/tmp/with", "/tmp/without").split() == [
        owner,
        "77:88",
    ]


def test_streams(daemon: Daemon, tmp_path: Path) -> None:
    """`-` both ways, from one container into the other; a damaged archive is said to be one, and ends nothing."""
    made(daemon, "running")
    made(daemon, "exited", name="other")
    daemon.ok(
        "exec", "box", "sh", "-c", "mkdir -p /tree/sub; echo deep > /tree/sub/file; ln -s sub /tree/link"
    )
    archive = daemon.docker("cp", "box:/tree", "-", text=False).stdout
    for data in (archive, subprocess.run(["gzip"], input=archive, capture_output=True, check=True).stdout):
        assert daemon.docker("cp", "-", "other:/home", input=data, text=False).returncode == 0
        assert got(daemon, "other:/home/tree/sub/file") == {"file": b"deep\n"}
    broken = daemon.docker("cp", "-", "other:/home", input=archive[:1000] + b"x" * 1000, text=False)
    assert broken.returncode == 1 and b"Error response from daemon" in broken.stderr
    answer = daemon.docker("cp", "-", "other:/etc/passwd", input=archive, text=False)
    assert answer.returncode == 1 and b"must be a directory" in answer.stderr


def test_a_daemon_that_was_killed(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """The next one copies from and to what runs on: through the mount that its keeper holds, with its volumes."""
    daemon = make_daemon().start()
    daemon.image()
    made(daemon, "running", "-v", "/data", "--tmpfs", "/memory")
    daemon.ok(
        "exec", "box", "sh", "-c", "echo layer > /layer; echo volume > /data/v; echo memory > /memory/m"
    )
    daemon.kill()
    daemon.start()
    for place, content in (("/layer", b"layer\n"), ("/data/v", b"volume\n"), ("/memory/m", b"memory\n")):
        assert list(got(daemon, f"box:{place}").values()) == [content]
    (tmp_path / "in").write_text("in")
    put(daemon, tmp_path / "in", "box:/in")
    assert daemon.ok("exec", "box", "cat", "/in") == "in"
    assert b"layer\n" in daemon.docker("export", "box", text=False).stdout
    daemon.ok("kill", "box")
    daemon.ok("wait", "box")
    assert got(daemon, "box:/layer") == {"layer": b"layer\n"}
    daemon.ok("start", "box")
    assert daemon.ok("exec", "box", "cat", "/in") == "in"


def test_a_container_starts_and_ends_during_a_copy(daemon: Daemon) -> None:
    """Neither waits for the other, and both see the same files: the layer is mounted once."""
    made(daemon, "exited")
    daemon.ok("start", "box")
    daemon.ok("exec", "box", "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=40")
    daemon.ok("kill", "box")
    daemon.ok("wait", "box")
    with subprocess.Popen(
        [DOCKER, "cp", "box:/big", "-"], env=daemon.client_environment, stdout=subprocess.PIPE
    ) as copying:
        assert copying.stdout is not None
        head = copying.stdout.read(4096)  # and then nobody reads for a while
        daemon.ok("start", "box")
        digest = daemon.ok("exec", "box", "sh", "-c", "echo while > /while; sha256sum /big").split()[0]
        assert got(daemon, "box:/while") == {"while": b"while\n"}
        daemon.ok("kill", "box")
        daemon.ok("wait", "box")
        daemon.ok("start", "box")
        assert daemon.ok("exec", "box", "cat", "/while") == "while"
        body = head + copying.stdout.read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        file = tar.extractfile("big")
        assert file is not None
        done = subprocess.run(["sha256sum"], input=file.read(), capture_output=True, check=True)
    assert done.stdout.decode().split()[0] == digest


def test_clients_that_hang_up(daemon: Daemon) -> None:
    """Half-way in and half-way out: the daemon lets go of all that it held, and of the half of a file."""
    made(daemon, "running")
    daemon.ok("exec", "box", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=30")
    put(daemon, "/etc/passwd", "box:/tmp/first")
    before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    address = daemon.host.removeprefix("unix://")
    half = tarfile.TarInfo("half")
    half.size = 10 << 20
    for request in (
        b"GET /containers/box/archive?path=/big HTTP/1.1\r\nHost: d\r\n\r\n",
        b"PUT /containers/box/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nContent-Length: 20000000\r\n\r\n"
        + half.tobuf() + b"x" * 500_000,
    ):  # fmt: skip
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
            client.sendall(request)
            if request.startswith(b"GET"):
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
    eventually(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= before, "no descriptor is left")
    eventually(lambda: daemon.ok("exec", "box", "ls", "/tmp") == "first", "the half of a file is gone")


def test_a_full_disk(daemon: Daemon, tmp_path: Path) -> None:
    """One clear line, the half of a file is gone, and there is room again at once."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "small", small], check=True)
    try:
        made(daemon, "running", "-v", f"{small}:/small")
        (tmp_path / "large").write_bytes(os.urandom(6 << 20))
        refused = daemon.docker("cp", str(tmp_path / "large"), "box:/small")
        assert refused.returncode == 1 and "no space left on device" in refused.stderr
        assert "Traceback" not in daemon.log
        assert daemon.ok("exec", "box", "ls", "/small") == ""
        put(daemon, "/etc/passwd", "box:/small")
        daemon.ok("rm", "-f", "box")
    finally:
        subprocess.run(["umount", small], check=True)


def test_ten_thousand_files(daemon: Daemon, tmp_path: Path) -> None:
    """Out and in again, streamed: the daemon grows by little, and every file arrives."""
    made(daemon, "running")
    daemon.ok(
        "exec", "box", "sh", "-c",
        "mkdir /many; cd /many; for d in $(seq 100); do mkdir $d; cd $d; for f in $(seq 100); do echo $f > $f; done; cd ..; done",
    )  # fmt: skip
    daemon.ok("cp", "box:/etc/passwd", str(tmp_path / "warm"))
    before = memory(daemon)
    daemon.ok("cp", "box:/many", str(tmp_path))
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "many")) == 10_000
    daemon.ok("cp", str(tmp_path / "many"), "box:/again")
    assert (
        daemon.ok("exec", "box", "sh", "-c", "find /again -type f | wc -l; cat /again/100/100")
        == "10000\n100"
    )
    assert memory(daemon) - before < 24 << 10, "kilobytes"


def memory(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def test_removing_a_container_during_a_copy(daemon: Daemon) -> None:
    """What was cut short does not look whole."""
    made(daemon, "running")
    daemon.ok(
        "exec",
        "box",
        "sh",
        "-c",
        "mkdir /d; for i in 1 2 3 4 5 6; do dd if=/dev/zero of=/d/$i bs=1M count=10; done",
    )
    with subprocess.Popen(
        [DOCKER, "cp", "box:/d", "-"], env=daemon.client_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as copying:  # fmt: skip
        assert copying.stdout is not None
        copying.stdout.read(4096)
        daemon.ok("rm", "-f", "box")
        read = threading.Thread(target=copying.stdout.read)
        read.start()
        read.join(30)
        assert copying.wait(30) != 0


def test_events_and_refusals(daemon: Daemon) -> None:
    """archive-path and extract-to-dir are told; what is not there, and where nothing can be put, is said in docker's words."""
    made(daemon, "running", name="told")
    put(daemon, "/etc/passwd", "told:/tmp")
    got(daemon, "told:/tmp/passwd")

    def actions() -> list[str]:
        wanted = ("--filter", "container=told", "--format", "{{json .}}")
        lines = daemon.ok("events", "--since", "1m", "--until", "0s", *wanted).splitlines()
        return [json.loads(line)["Action"] for line in lines]

    eventually(lambda: actions()[-2:] == ["extract-to-dir", "archive-path"])
    for argv, words in (
        (("told:/nope", "-"), "Could not find the file /nope in container told"),
        (("told:/etc/passwd/", "-"), "not a directory"),
        (("/etc/passwd", "told:/nope/x"), "Could not find the file /nope in container told"),
        (("nobody:/x", "-"), "No such container: nobody"),
        (("told:/x", "told:/y"), "copying between containers is not supported"),
        (("/x", "/y"), "must specify at least one container source"),
    ):
        for program in (daemon.docker, daemon.wherry):
            answer = program("cp", *argv)
            assert answer.returncode == 1 and words in answer.stderr, (argv, answer.stderr)
