"""HostConfig's fields about mounts: each set by the docker program, or by the API where that has no flag, and its effect
looked at inside of the container.

| field | where |
|---|---|
| Binds, Mounts (bind, volume, tmpfs, and their options), Tmpfs, ReadonlyRootfs, VolumeDriver | `EFFECTS`, `API_EFFECTS` |
| BindOptions.Propagation, NonRecursive, ReadOnlyNonRecursive, ReadOnlyForceRecursive | test_mount_propagation.py |
| VolumesFrom | `test_volumes_from` |
| MaskedPaths, ReadonlyPaths | `API_EFFECTS`, `test_unconfined_paths` |

Mounts[].Consistency changes nothing on Linux. ShmSize is looked at with ipc. Where mounts go is in test_mount_targets.py, and
where they come from in test_mount_sources.py.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import docker
import pytest

from wherry.testing.daemon import Daemon

MOUNTED: Final = "grep ' {} ' /proc/mounts | cut -d' ' -f 3,4"

EFFECTS: Final[list[tuple[str, list[str], str, str]]] = [
    # Binds
    ("Binds", ["-v", "{dir}:/x"],
     "cat /x/inside /x/sub/deep; echo new > /x/new; cat /x/new; rm /x/new", "content deeper new"),
    ("Binds-ro", ["-v", "{dir}:/x:ro"],
     "cat /x/inside; touch /x/new", "content touch: /x/new: Read-only file system"),
    ("Binds-file", ["-v", "{dir}/inside:/f"], "cat /f", "content"),
    ("Binds-file-ro", ["-v", "{dir}/inside:/f:ro"],
     "cat /f; echo > /f", "content sh: can't create /f: Read-only file system"),
    ("Binds-device", ["-v", "/dev/zero:/z"], "head -c 2 /z | wc -c", "2"),
    ("Binds-labels", ["-v", "{dir}:/x:z,ro", "-v", "{dir}:/y:Z"], "cat /x/inside /y/inside", "content content"),
    ("Binds-flags", ["-v", "{strict}:/x"], f"{MOUNTED.format('/x')} | grep -c nosuid,nodev,noexec", "1"),
    ("Binds-volume", ["-v", "one-{id}:/etc"],
     "test -s /etc/passwd && echo filled; touch /etc/new && echo writable", "filled writable"),
    ("Binds-volume-nocopy", ["-v", "two-{id}:/etc:nocopy"], "ls /etc", "hostname hosts resolv.conf"),
    ("Binds-volume-ro", ["-v", "three-{id}:/home:ro"],
     "ls /home; touch /home/x", "user touch: /home/x: Read-only file system"),
    ("Binds-nothing", ["-v", "{dir}/made-{id}/deep:/x"], "stat -c '%a %u' /x; ls /x | wc -l", "755 0 0"),
    # Mounts: bind
    ("Mounts-bind", ["--mount", "type=bind,src={dir},dst=/x"], "cat /x/inside; touch /x/new && rm /x/new", "content"),
    ("Mounts-bind-ro", ["--mount", "type=bind,src={dir},dst=/x,ro"],
     "touch /x/new", "touch: /x/new: Read-only file system"),
    ("Mounts-bind-file", ["--mount", "type=bind,src={dir}/inside,dst=/new/f"], "cat /new/f", "content"),
    ("Mounts-consistency", ["--mount", "type=bind,src={dir},dst=/x,consistency=delegated"],
     "cat /x/inside", "content"),
    # Mounts: volume
    ("Mounts-volume", ["--mount", "type=volume,src=four-{id},dst=/etc"],
     "test -s /etc/passwd && echo filled", "filled"),
    ("Mounts-volume-NoCopy", ["--mount", "type=volume,src=five-{id},dst=/etc,volume-nocopy"],
     "ls /etc", "hostname hosts resolv.conf"),
    ("Mounts-volume-ro", ["--mount", "type=volume,src=six-{id},dst=/x,ro"],
     "touch /x/y", "touch: /x/y: Read-only file system"),
    ("Mounts-volume-anonymous", ["--mount", "type=volume,dst=/x"], "touch /x/y && ls /x", "y"),
    ("Mounts-volume-DriverConfig", ["--mount", "type=volume,src=seven-{id},dst=/x,volume-driver=local"],
     "ls /x | wc -l", "0"),
    ("VolumeDriver", ["--volume-driver", "local", "-v", "eight-{id}:/x"], "ls /x | wc -l", "0"),
    # Mounts: tmpfs, Tmpfs
    ("Mounts-tmpfs", ["--mount", "type=tmpfs,dst=/x"], MOUNTED.format("/x"), "tmpfs rw,nosuid,nodev,noexec,relatime"),
    ("Mounts-tmpfs-ro", ["--mount", "type=tmpfs,dst=/x,ro"],
     MOUNTED.format("/x"), "tmpfs ro,nosuid,nodev,noexec,relatime"),
    ("TmpfsOptions.SizeBytes", ["--mount", "type=tmpfs,dst=/x,tmpfs-size=1m"],
     "df -k /x | tail -1 | tr -s ' ' | cut -d' ' -f2", "1024"),
    ("TmpfsOptions.Mode", ["--mount", "type=tmpfs,dst=/x,tmpfs-mode=1770"], "stat -c %a /x", "1770"),
    ("Tmpfs", ["--tmpfs", "/x"],
     f"stat -c %a /x; {MOUNTED.format('/x')}", "1777 tmpfs rw,nosuid,nodev,noexec,relatime"),
    ("Tmpfs-words", ["--tmpfs", "/x:exec,suid,dev,noatime"], MOUNTED.format("/x"), "tmpfs rw,noatime"),
    ("Tmpfs-size", ["--tmpfs", "/x:size=64k"], "head -c 100000 /dev/zero > /x/y 2>/dev/null; wc -c < /x/y", "65536"),
    ("Tmpfs-inodes", ["--tmpfs", "/x:nr_inodes=3"], "touch /x/1 /x/2 /x/3", "touch: /x/3: No space left on device"),
    ("Tmpfs-owner", ["--tmpfs", "/x:uid=5,gid=6,mode=1711"], "stat -c '%a %u %g' /x", "1711 5 6"),
    ("Tmpfs-noexec", ["--tmpfs", "/x"], "cp /bin/busybox /x/true; /x/true", "sh: /x/true: Permission denied"),
    ("Tmpfs-exec", ["--tmpfs", "/x:exec"], "cp /bin/busybox /x/true; /x/true && echo fine", "fine"),
    ("Tmpfs-ro", ["--tmpfs", "/x:ro"], "touch /x/y", "touch: /x/y: Read-only file system"),
    ("Tmpfs-mode-of-directory", ["--tmpfs", "/root", "--tmpfs", "/tmp"], "stat -c %a /root /tmp", "700 1777"),
    # ReadonlyRootfs
    (
        "ReadonlyRootfs", ["--read-only", "-v", "nine-{id}:/v", "--tmpfs", "/t", "-v", "{dir}:/b"],
        "touch /v/x /t/x /b/x /dev/x /dev/shm/x && rm /b/x && echo written; touch /x /etc/x; echo x >> /etc/hosts; "
        "echo x >> /etc/resolv.conf; echo x >> /etc/hostname; touch /sys/x",
        "written touch: /x: Read-only file system touch: /etc/x: Read-only file system "
        "sh: can't create /etc/hosts: Read-only file system sh: can't create /etc/resolv.conf: Read-only file system "
        "sh: can't create /etc/hostname: Read-only file system touch: /sys/x: Read-only file system",
    ),
    ("ReadonlyRootfs-new-targets", ["--read-only", "-v", "{dir}:/new/dir", "-v", "{dir}/inside:/new/file"],
     "cat /new/dir/inside /new/file; touch /new/x", "content content touch: /new/x: Read-only file system"),
    ("the-three-files", [],
     "echo x >> /etc/hosts && echo y >> /etc/hostname && echo z >> /etc/resolv.conf && echo writable", "writable"),
]  # fmt: skip


@pytest.fixture(scope="module")
def strict(session_root: Path) -> Iterator[Path]:
    directory = session_root / f"strict-{uuid.uuid4().hex[:8]}"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "strict", directory], check=True)
    yield directory
    subprocess.run(["umount", str(directory)], check=True)
    directory.rmdir()


@pytest.mark.parametrize(("field", "flags", "script", "seen"), EFFECTS, ids=[case[0] for case in EFFECTS])
def test_effect(
    daemon: Daemon, host_directory: Path, strict: Path, field: str, flags: list[str], script: str, seen: str
) -> None:
    unique = uuid.uuid4().hex[:8]
    flags = [flag.format(dir=host_directory, strict=strict, id=unique) for flag in flags]
    assert daemon.inside(flags, script).split() == seen.split()


API_EFFECTS: Final[list[tuple[str, dict[str, Any], str, str]]] = [
    ("Binds-anonymous", {"Binds": ["/x"]}, "touch /x/y && ls /x", "y"),
    (
        "BindOptions.CreateMountpoint",
        {"Mounts": [{"Type": "bind", "Source": "{dir}/made-{id}/a", "Target": "/x", "BindOptions": {"CreateMountpoint": True}}]},
        "ls -d /x", "/x",
    ),
    (
        "VolumeOptions.Subpath",
        {"Mounts": [{"Type": "volume", "Source": "{volume}", "Target": "/x", "VolumeOptions": {"Subpath": "a/b"}}]},
        "cat /x/deep; touch /x/new; ls /x", "deeper deep new",
    ),
    (
        "VolumeOptions.Subpath-of-a-file",
        {"Mounts": [{"Type": "volume", "Source": "{volume}", "Target": "/f", "ReadOnly": True,
                     "VolumeOptions": {"Subpath": "a/b/deep"}}]},
        "cat /f; echo > /f", "deeper sh: can't create /f: Read-only file system",
    ),
    (
        "VolumeOptions.Labels",
        {"Mounts": [{"Type": "volume", "Source": "ten-{id}", "Target": "/x", "VolumeOptions": {"Labels": {"a": "b"}}}]},
        "ls -d /x", "/x",
    ),
    (
        "TmpfsOptions.Options",
        {"Mounts": [{"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["exec"]], "SizeBytes": 1048577}}]},
        MOUNTED.format("/x"), "tmpfs rw,nosuid,nodev,relatime,size=1028k",
    ),
    ("MaskedPaths", {"MaskedPaths": ["/etc/passwd", "/var", "/no/such"]}, "wc -c < /etc/passwd; ls /var; touch /var/x",
     "0 touch: /var/x: Read-only file system"),
    (
        "MaskedPaths-through-a-link", {"MaskedPaths": ["/x/in/deep"], "Binds": ["{volume}:/x"]},
        "wc -c < /x/a/b/deep; echo x > /x/a/b/deep; wc -c < /x/a/b/deep", "0 0",
    ),
    ("MaskedPaths-none", {"MaskedPaths": []},
     "grep -c ' /proc/acpi\\| /proc/keys' /proc/mounts; head -c 1 /proc/interrupts | wc -c",
     "0 1"),
    ("MaskedPaths-null", {"MaskedPaths": None}, "wc -c < /proc/keys; grep -c ' /sys/firmware ' /proc/mounts", "0 1"),
    ("ReadonlyPaths", {"ReadonlyPaths": ["/etc", "/root", "/no/such"]}, "touch /etc/x; touch /root/x; touch /home/x && echo fine",
     "touch: /etc/x: Read-only file system touch: /root/x: Read-only file system fine"),
    ("ReadonlyPaths-none", {"ReadonlyPaths": []}, "grep -c ' /proc/sys ' /proc/mounts", "0"),
    ("ReadonlyPaths-null", {"ReadonlyPaths": None},
     "grep ' /proc/sys ' /proc/mounts | cut -d' ' -f 4", "ro,nosuid,nodev,noexec,relatime"),
]  # fmt: skip


@pytest.fixture(scope="module")
def volume(shared_daemon: Daemon) -> str:
    """A volume with a file a/b/deep."""
    name = f"vol-{uuid.uuid4().hex[:8]}"
    shared_daemon.inside(
        ["-v", f"{name}:/x"],
        "mkdir -p /x/a/b; echo deeper > /x/a/b/deep; ln -s /etc /x/out; ln -s a/b /x/in",
    )
    return name


@pytest.mark.parametrize(
    ("field", "host", "script", "seen"), API_EFFECTS, ids=[case[0] for case in API_EFFECTS]
)
def test_effect_by_the_api(
    daemon: Daemon,
    host_directory: Path,
    volume: str,
    field: str,
    host: dict[str, Any],
    script: str,
    seen: str,
) -> None:
    text = json.dumps(host)
    for name, value in (("dir", str(host_directory)), ("volume", volume), ("id", uuid.uuid4().hex[:8])):
        text = text.replace(f"{{{name}}}", value)
    assert daemon.inside_by_api(script, version="1.46", **json.loads(text)).split() == seen.split()


def test_unconfined_paths(daemon: Daemon) -> None:
    """`--security-opt systempaths=unconfined` masks and protects nothing, and inspect shows empty lists."""
    flags = ["--security-opt", "systempaths=unconfined"]
    assert daemon.inside(flags, "grep -c ' /proc/\\| /sys/firmware' /proc/mounts") == "0"
    name = daemon.ok("create", *flags, "busybox")
    assert daemon.inspect(name, "{{.HostConfig.MaskedPaths}} {{.HostConfig.ReadonlyPaths}}") == "[] []"


def test_subpaths_stay_in_their_volume(daemon: Daemon, volume: str) -> None:
    """A link that a container left in a volume leads to nothing of the host; a missing subpath is said by its name."""
    for subpath, words in (
        ("out", "leads out of the volume"),
        ("none", "No such file"),
        ("../..", "relative path within"),
    ):
        mounts = [{"Type": "volume", "Source": volume, "Target": "/x", "VolumeOptions": {"Subpath": subpath}}]
        with pytest.raises(docker.errors.APIError, match=words) as caught:
            daemon.inside_by_api("cat /x/passwd", version="1.46", Mounts=mounts)
        assert caught.value.response.status_code == 400
    mounts = [{"Type": "volume", "Source": volume, "Target": "/x", "VolumeOptions": {"Subpath": "in"}}]
    assert daemon.inside_by_api("cat /x/deep", version="1.46", Mounts=mounts) == "deeper"


def test_volumes_from(daemon: Daemon, host_directory: Path) -> None:
    """Another's binds and volumes, as they are or read only; one's own go first; a tmpfs is nobody else's."""
    daemon.ok(
        "create", "--name", "giver", "-v", "/volume", "-v", f"{host_directory}:/bind:ro", "-v", f"{host_directory}:/both",
        "--tmpfs", "/tmpfs", "--mount", "type=tmpfs,dst=/tmpfs2", "busybox", "true",
    )  # fmt: skip
    look = "for d in /volume /bind /both; do touch $d/.new 2>/dev/null && echo $d; done; rm -f /both/.new; "
    look += "ls -d /tmpfs /tmpfs2 2>/dev/null"
    assert daemon.inside(["--volumes-from", "giver"], look).split() == ["/volume", "/both"]
    assert daemon.inside(["--volumes-from", "giver:rw"], look).split() == ["/volume", "/both"]
    assert daemon.inside(["--volumes-from", "giver:ro"], look) == ""
    assert daemon.inside(["--volumes-from", "giver", "--tmpfs", "/both"], "ls /both") == ""
    assert daemon.inside(["--volumes-from", "giver"], "ls -A /volume") == ".new"
    answer = daemon.docker("create", "--volumes-from", "nobody", "busybox")
    assert answer.returncode == 1 and "No such container: nobody" in answer.stderr


def test_only_local_volumes(daemon: Daemon) -> None:
    """Another driver, or options that nothing would honour, are refused before anything is made."""
    for flags, words in (
        (["--volume-driver", "bogus", "-v", "vv:/x"], 'plugin "bogus" not found'),
        (["--mount", "type=volume,src=vv,dst=/x,volume-driver=bogus"], 'plugin "bogus" not found'),
        (
            ["--mount", "type=volume,src=vv,dst=/x,volume-opt=type=nfs"],
            "options of a volume (type) are not supported yet",
        ),
    ):
        answer = daemon.docker("create", *flags, "busybox")
        assert answer.returncode == 1 and words in answer.stderr
    assert daemon.ok("ps", "-aq") == ""
