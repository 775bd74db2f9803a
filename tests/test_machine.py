"""The machine that `make test-cgroup2` boots: what can be held to its word without booting it. apt and qemu are played."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from wherry.testing.daemon import eventually

TOOLS: Final = Path(__file__).resolve().parent.parent / "tools"
RELEASE: Final = "6.1.0-50-amd64"
PACKAGE: Final = f"linux-image-{RELEASE}_6.1.176-1"

PLAYED: Final = {
    "apt-cache": f"""
        case $1 in
          pkgnames) printf 'linux-image-%s\\n' 6.1.0-9-amd64 {RELEASE} {RELEASE}-dbg 6.1.0-99-cloud-amd64 ;;
          policy) printf '%s:\\n  Installed: (none)\\n  Candidate: %s\\n' "$2" "$(cat $PLAY/candidate)" ;;
        esac""",
    "apt-get": 'echo "$@" >>$PLAY/fetched; touch kernel.deb; exit $(cat $PLAY/apt-code)',
    "dpkg": f"""
        mkdir -p $3/boot $3/lib/modules/{RELEASE}; echo image >$3/boot/vmlinuz-{RELEASE}
        for module in virtio virtio_pci virtio_blk virtio_console 9pnet 9pnet_virtio 9p crc32c_generic ext4 overlay; do
          echo $module >$3/lib/modules/{RELEASE}/$module.ko
        done""",
    "mke2fs": 'while [ "$1" != -d ]; do shift; done; find "$2" -printf "/%P\\n" >$PLAY/disk',
    "depmod": """
        cd $2/lib/modules/$3
        echo "9pnet_virtio.ko: 9pnet.ko virtio.ko" >modules.dep
        for module in virtio_pci virtio_blk virtio_console 9p ext4 overlay crc32c_generic virtio 9pnet; do
          echo "$module.ko:" >>modules.dep
        done""",
    "qemu-system-x86_64": """
        printf '%s\\n' "$@" >$PLAY/qemu
        share=$(printf '%s\\n' "$@" | sed -n 's/^local,path=\\(.*\\),mount_tag=share.*/\\1/p')
        echo "$share" >$PLAY/share; cp $share/initramfs $share/settings $share/command $PLAY
        echo 'Kernel panic' >$share/console
        . $PLAY/end""",
}


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Path]:
    """A directory of programs that play apt's and qemu's part, and of what they were told."""
    for name, script in PLAYED.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n" + script + "\n")
        program.chmod(0o755)
    # A checkout as small as can be, whose interpreter names a library that small: the machine's disk gets copies of both.
    shutil.copytree(TOOLS, tmp_path / "checkout/tools")
    (tmp_path / "library").mkdir()
    (tmp_path / "library/os.py").touch()
    python = tmp_path / "checkout/.venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho {tmp_path}/library; echo {sys.executable}\n")
    python.chmod(0o755)
    (tmp_path / "candidate").write_text("6.1.176-1")
    (tmp_path / "apt-code").write_text("0")
    (tmp_path / "end").write_text("echo 8.1 >$share/booted; echo 3 >$share/exit")
    yield tmp_path
    if (tmp_path / "share").exists():
        assert not Path((tmp_path / "share").read_text().strip()).exists(), "the machine's disk is left"


def vm_of(play: Path) -> list[str]:
    return [sys.executable, str(play / "checkout/tools/vm")]


def environment(play: Path, **more: str) -> dict[str, str]:
    path = f"{play}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "PLAY": str(play), "XDG_CACHE_HOME": str(play / "cache"), "HOME": "/root", **more}


def vm(play: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*vm_of(play), *argv], env=environment(play, **more), capture_output=True, text=True, timeout=30
    )


def told(play: Path) -> str:
    """What qemu was told, options and values in a row."""
    return " ".join((play / "qemu").read_text().split("\n"))


def test_the_exit_code_is_the_commands(play: Path) -> None:
    """The machine's one command decides, and the last line says how long it took."""
    ended = vm(play, "run", "--", "true")
    assert ended.returncode == 3, ended.stderr
    assert f"Linux {RELEASE}" in ended.stdout and "exit code 3" in ended.stdout


def test_the_command_arrives_word_by_word(play: Path, tmp_path: Path) -> None:
    """Blanks, quotes and dollars are the command's own; it runs where it was asked for."""
    vm(play, "run", "--", sys.executable, "-c", "print('a  b', \"$HOME\")", WHERRY_NO_PEERS="1")
    script = (play / "command").read_text().replace("stty -onlcr\n", "")
    shown = subprocess.run(["sh", "-c", script + "\n"], capture_output=True, text=True)
    assert shown.stdout == "a  b $HOME\n", shown.stderr
    assert "export WHERRY_NO_PEERS=1\n" in script
    assert f"cd {Path.cwd()} " in script


def test_the_machine_is_version_2_only_and_alone(play: Path) -> None:
    """No cgroup version 1, no network, this host's files read-only."""
    vm(play, "run", "--append", "apparmor=1", "--", "true", WHERRY_MACHINE_ACCEL="tcg")
    line = told(play)
    assert "cgroup_no_v1=all " in line and " apparmor=1 " in line
    assert "-nic none" in line and "-netdev" not in line
    assert "path=/,mount_tag=host,security_model=none,readonly=on" in line
    assert "-accel tcg" in line
    assert f"/boot/vmlinuz-{RELEASE}" in line


def test_modules_load_after_what_they_need(play: Path) -> None:
    """The initramfs holds the first modules and names them in an order in which they load."""
    vm(play, "run", "--", "true")
    unpacked = play / "unpacked"
    unpacked.mkdir()
    with (play / "initramfs").open("rb") as archive:
        subprocess.run(
            ["busybox", "cpio", "-i"], cwd=unpacked, stdin=archive, check=True, capture_output=True
        )
    order = (unpacked / "modules" / "order").read_text().split()
    assert order.index("virtio.ko") < order.index("9pnet_virtio.ko") > order.index("9pnet.ko")
    assert all(
        (unpacked / "modules" / name).read_text().strip() == name.removesuffix(".ko") for name in order
    )
    assert os.access(unpacked / "init", os.X_OK) and os.access(unpacked / "bin/busybox", os.X_OK)


def test_what_is_read_most_is_on_the_disk(play: Path) -> None:
    """The checkout and its interpreter's library are copied to where the machine keeps what was changed."""
    vm(play, "run", "--", "true")
    laid = (play / "disk").read_text().split("\n")
    assert f"/upper{play}/checkout/tools/vm" in laid
    assert f"/upper{play}/library/os.py" in laid
    assert f"/upper{sys.executable}" in laid


def test_a_kernel_is_fetched_once(play: Path) -> None:
    """The newest one of its kind: no cloud, debugging or older one; again when the archive has another version."""
    for _ in range(2):
        assert vm(play, "fetch").stdout.splitlines()[-1] == str(play / "cache/wherry-machine" / PACKAGE)
    assert (play / "fetched").read_text().count("\n") == 1
    assert f"linux-image-{RELEASE}=6.1.176-1" in (play / "fetched").read_text()
    (play / "candidate").write_text("6.1.180-1")
    assert "6.1.180-1" in vm(play, "fetch").stdout
    assert [path.name for path in (play / "cache/wherry-machine").iterdir()] == [
        f"linux-image-{RELEASE}_6.1.180-1"
    ]


def test_a_download_that_failed_does_not_count(play: Path) -> None:
    """What failed is said, nothing of it stays, and the next time it is fetched again."""
    (play / "apt-code").write_text("100")
    failed = vm(play, "fetch")
    assert failed.returncode == 125 and "apt-get" in failed.stderr and "Traceback" not in failed.stderr
    assert not list((play / "cache/wherry-machine").iterdir())
    (play / "apt-code").write_text("0")
    assert vm(play, "fetch").returncode == 0


def test_without_an_archive_the_cached_kernel_serves(play: Path) -> None:
    """A host without network still tests; one that never had a kernel is told what to do."""
    (play / "candidate").write_text("(none)")
    assert "apt-get update" in vm(play, "fetch").stderr
    (play / "candidate").write_text("6.1.176-1")
    vm(play, "fetch")
    (play / "candidate").write_text("(none)")
    assert PACKAGE in vm(play, "fetch").stdout


def test_a_missing_qemu_is_told_plainly(play: Path) -> None:
    """One line, with what installs it."""
    (play / "bin/qemu-system-x86_64").unlink()
    needed = play / "needed"
    needed.mkdir()
    for name in ("busybox", "setpriv"):
        (needed / name).symlink_to(str(shutil.which(name)))
    told = vm(play, "run", "--", "true", PATH=f"{play}/bin:{needed}")
    assert told.returncode == 125
    assert (
        told.stderr
        == "tools/vm: there is no qemu-system-x86_64 here: make setup-vm installs what the machine needs\n"
    )


def test_a_machine_that_dies_shows_its_console(play: Path) -> None:
    """A panic is not the command's failure: another exit code, and the kernel's last words."""
    (play / "end").write_text("exit 1")
    died = vm(play, "run", "--", "true")
    assert died.returncode == 125
    assert "qemu ended with 1" in died.stderr and "Kernel panic" in died.stderr


@pytest.mark.parametrize("how", ["deadline", "SIGTERM", "SIGKILL"])
def test_no_machine_outlives_its_run(play: Path, how: str) -> None:
    """A deadline, and whatever ends `tools/vm`, ends qemu."""
    (play / "end").write_text("echo $$ >$PLAY/pid.new; mv $PLAY/pid.new $PLAY/pid; exec sleep 1000")
    patience = "0.5" if how == "deadline" else "1000"
    running: subprocess.Popen[Any] = subprocess.Popen(
        [*vm_of(play), "run", "--timeout", patience, "--", "true"],
        env=environment(play),
        stderr=subprocess.DEVNULL,
    )
    eventually((play / "pid").exists, "qemu's start")
    if how != "deadline":
        running.send_signal(signal.Signals[how])
    assert running.wait(20) == {"deadline": 125, "SIGTERM": 143, "SIGKILL": -9}[how]
    pid = int((play / "pid").read_text())
    eventually(lambda: not Path(f"/proc/{pid}/exe").exists(), "qemu's end")
    if how == "SIGKILL":
        shutil.rmtree((play / "share").read_text().strip())
