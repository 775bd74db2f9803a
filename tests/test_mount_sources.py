"""Where mounts come from: missing sources, files, the host's root; and that nothing of them stays behind."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from wherry.testing.daemon import Daemon, eventually


def test_missing_sources(daemon: Daemon, host_directory: Path) -> None:
    """`--mount` refuses one in Docker's words, also if it goes between create and start; `-v` makes a directory."""
    missing = host_directory / f"missing-{uuid.uuid4().hex[:8]}"
    flag = f"type=bind,src={missing},dst=/x"
    words = f'invalid mount config for type "bind": bind source path does not exist: {missing}'
    assert words in daemon.docker("run", "--rm", "--mount", flag, "busybox", "true").stderr
    missing.mkdir()
    daemon.ok("create", "--name", "later", "--mount", flag, "busybox", "true")
    missing.rmdir()
    assert words in daemon.docker("start", "-a", "later").stderr
    assert not missing.exists()
    daemon.ok("run", "--rm", "-v", f"{missing}:/x", "busybox", "true")
    assert missing.is_dir()
    for source in (host_directory / "inside" / "below", host_directory / "dangling"):
        if source.name == "dangling":
            source.symlink_to("/no/such/place")
        answer = daemon.docker("run", "--rm", "-v", f"{source}:/x", "busybox", "true")
        assert answer.returncode == 125 and str(source) in answer.stderr and "unforeseen" not in answer.stderr


def test_binds_of_files_are_warned_of(daemon: Daemon, host_directory: Path) -> None:
    """An editor that saves puts a new file in its place, which the container does not see: the answer says so."""
    (host_directory / "edited").write_text("old")
    answer = daemon.docker(
        "run", "-d", "--name", "reader", "-v", f"{host_directory}/edited:/f", "busybox", "sleep", "1000"
    )
    assert (
        answer.stderr.startswith(f"WARNING: {host_directory}/edited is a file")
        and answer.stderr.count("WARNING") == 1
    )
    (host_directory / "saved").write_text("new")
    (host_directory / "saved").rename(host_directory / "edited")
    assert daemon.ok("exec", "reader", "cat", "/f") == "old"
    daemon.ok("restart", "-t", "0", "reader")
    assert daemon.ok("exec", "reader", "cat", "/f") == "new"
    assert (
        "WARNING" not in daemon.docker("run", "--rm", "-v", f"{host_directory}:/x", "busybox", "true").stderr
    )


def test_the_host_s_root(daemon: Daemon, host_directory: Path) -> None:
    """Bound whole, read only to its depths, it shows the host; the engine's own mounts do not outlive themselves there."""
    script = f"cat /host{host_directory}/inside; touch /host{host_directory}/new; touch /host/dev/shm/new"
    shown = daemon.inside_by_api(script, Binds=["/:/host:ro"])
    assert shown.splitlines()[0] == "content" and shown.count("Read-only file system") == 2
    daemon.ok("run", "-d", "--name", "watcher", "-v", "/:/host", "busybox", "sleep", "1000")
    daemon.ok("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    sandbox = daemon.inspect("other", "{{.NetworkSettings.SandboxKey}}")
    assert sandbox in Path("/proc/self/mountinfo").read_text()
    daemon.ok("exec", "watcher", "ls", "/host" + sandbox)
    daemon.ok("rm", "-f", "other")
    eventually(
        lambda: sandbox not in daemon.ok("exec", "watcher", "cat", "/proc/self/mountinfo"),
        "an end of the sandbox",
    )


def test_mounts_are_the_container_s_alone(daemon: Daemon, host_mount: Path) -> None:
    """None is in the host's table; another mount namespace holds none back; a removal ends (moby's "resource busy")."""
    before = Path("/proc/self/mountinfo").read_text().count(str(daemon.root))
    daemon.ok(
        "run",
        "-d",
        "--name",
        "busy",
        "-v",
        f"{host_mount}:/x",
        "--tmpfs",
        "/t",
        "-v",
        "/v",
        "busybox",
        "sleep",
        "1000",
    )
    directory = daemon.inspect("busy", "{{.GraphDriver.Data.UpperDir}}")
    with subprocess.Popen(["unshare", "-m", "sleep", "1000"]) as other:
        try:
            mine = Path("/proc/self/mountinfo").read_text()
            # The namespace of its network has a path, and is there on purpose.
            assert mine.count(str(daemon.root)) - mine.count("/sandboxes/") <= before
            daemon.ok("rm", "-f", "-v", "busy")
            eventually(lambda: not Path(directory).exists(), "the layer's end")
            # The file system below was only the container's to keep from being unmounted.
            subprocess.run(["umount", str(host_mount / "sub")], check=True)
            subprocess.run(["mount", "-t", "tmpfs", "below", str(host_mount / "sub")], check=True)
        finally:
            other.kill()


def test_files_of_names_that_somebody_else_wrote(daemon: Daemon, host_directory: Path) -> None:
    """A bind takes their place and is shown; one that a container spoilt (no text, of any size) is left alone, and it starts."""
    flags = ["-v", f"{host_directory}/inside:/etc/hosts", "--network", "none"]
    script = "truncate -s 10G /etc/resolv.conf; printf '\\377\\376' >> /etc/resolv.conf; stat -c %s /etc/resolv.conf"
    daemon.ok("create", "--name", "spoiler", *flags, "busybox", "sh", "-c", script)
    for _ in range(2):
        assert int(daemon.ok("start", "-a", "spoiler")) > 10 << 30
    paths = daemon.inspect("spoiler", "{{.HostsPath}} {{.HostnamePath}} {{.ResolvConfPath}}").split()
    directory = daemon.root / "data" / "containers" / daemon.inspect("spoiler", "{{.Id}}")
    assert paths == [f"{host_directory}/inside", f"{directory}/hostname", f"{directory}/resolv.conf"]
