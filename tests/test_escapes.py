"""Known ways out of a container, each tried for real from inside one, and leading nowhere.

Where it is cheap, a control shows that the technique works where the defence is not: so that a test here can fail.
Joining processes are attacked in test_escapes_joining.py, what images say in test_hostile_images.py.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wherry.linux import namespaces
from wherry.testing.daemon import DOCKER, Daemon, eventually
from wherry.testing.images import busybox_tar_with, member

PROGRAM = Path(__file__).parent.parent / "plugins/native_exec/wherry_native_exec/wherry-init"


def attack(daemon: Daemon, attacks: Path, *argv: str, flags: tuple[str, ...] = ()) -> list[str]:
    """What an attack program says when it is a container's process 1."""
    mount = ("-v", f"{attacks}:/attacks:ro", "--network", "none")
    if "host" in flags:
        mount = mount[:2]
    return daemon.ok("run", "--rm", *mount, *flags, "busybox", *argv).splitlines()


@pytest.fixture
def canary() -> Iterator[int]:
    """A process of the host that must not come to harm."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        assert process.poll() is None
        process.kill()


# ---- system calls ------------------------------------------------------------------------------------------------------
ELSEWISE = {
    "clone3-user": "ENOSYS",  # so that programs fall back to clone, whose flags can be looked at
    "clone3": "ENOSYS",
    "setpriority": "EACCES",  # allowed, and refused by the kernel
    "modify_ldt": "ok",
}


def test_system_calls(daemon: Daemon, attacks: Path) -> None:
    """Namespaces, mounts old and new, BPF, perf, kexec, modules, handles, keys, io_uring and their like are refused by
    the default profile, by number, whatever the C library calls them."""
    answers = dict(line.split(" ", 1) for line in attack(daemon, attacks, "/attacks/calls"))
    assert len(answers) > 45
    assert answers == {name: ELSEWISE.get(name, "EPERM") for name in answers}


def test_system_calls_work_elsewhere(daemon: Daemon, attacks: Path) -> None:
    """The control: without the profile, and with more capabilities, the same calls do what they are for."""
    names = ["unshare-user", "clone-user", "clone3-user", "io_uring_setup", "keyctl", "userfaultfd-user"]
    unconfined = attack(
        daemon, attacks, "/attacks/calls", *names, flags=("--security-opt", "seccomp=unconfined")
    )
    assert sorted(unconfined) == sorted(f"{name} ok" for name in names)
    more = ["mount-tmpfs", "fsopen", "bpf", "unshare-mount"]
    privileged = attack(daemon, attacks, "/attacks/calls", *more, flags=("--privileged",))
    assert sorted(privileged) == sorted(f"{name} ok" for name in more)


# ---- CVE-2019-5736: the engine's program ---------------------------------------------------------------------------
def digests() -> dict[str, str]:
    files = (PROGRAM, Path(sys.executable).resolve(), Path(sys.executable).with_name("wherry"))
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_technique_works_on_others(daemon: Daemon, attacks: Path) -> None:
    """The control: a program of the container's own is overwritten while, or after, it runs."""
    script = (
        "cp /bin/busybox /tmp/victim; (sleep 1; /tmp/victim sleep 2; sleep 2; touch /tmp/stop) & "
        "exec /attacks/overwrite 20"
    )
    said = attack(daemon, attacks, "sh", "-c", script)
    assert [line for line in said if line.startswith("overwritten ")], said


@pytest.mark.parametrize("target", ["/proc/self/exe", "/bin/trap", "/bin/sh"])
def test_the_engines_program_is_not_overwritten(daemon: Daemon, attacks: Path, target: str) -> None:
    """An exec of /proc/self/exe, of a script that names it as its interpreter, or of an honest shell, while process 1
    holds and writes to whatever runs: what the host executes stays as it is, and goes on working."""
    before = digests()
    name = daemon.ok("run", "-d", "-v", f"{attacks}:/attacks:ro", "busybox", "/attacks/overwrite", "60")
    daemon.ok("exec", name, "sh", "-c", "printf '#!/proc/self/exe\n' >/bin/trap; chmod +x /bin/trap")

    def execute(_: int) -> None:
        daemon.docker("exec", name, target, "-c", "true")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(execute, range(20)))
    # From outside: the container's own busybox may be spoilt by now.
    Path(f"/proc/{daemon.inspect(name, '{{.State.Pid}}')}/root/tmp/stop").touch()
    eventually(lambda: "done" in daemon.ok("logs", name))
    log = daemon.ok("logs", name)
    # busybox is the container's own to spoil.
    assert [
        line for line in log.splitlines() if line.startswith("overwritten") and "busybox" not in line
    ] == []
    assert digests() == before
    assert daemon.ok("run", "--rm", "busybox", "echo", "fine") == "fine"


@pytest.mark.parametrize("how", ["entrypoint", "script"])
def test_the_engines_program_as_process_1(daemon: Daemon, how: str) -> None:
    """An image whose program is /proc/self/exe runs nothing of ours with anything of ours to do."""
    before = digests()
    trap = (member("bin/trap", mode=0o755), b"#!/proc/self/exe\n")
    subprocess.run(
        [DOCKER, "import", "-", "trap"], input=busybox_tar_with(trap), check=True,
        env=daemon.client_environment, capture_output=True,
    )  # fmt: skip
    program = "/proc/self/exe" if how == "entrypoint" else "/bin/trap"
    for flags in ((), ("-e", "W=3"), ("--env", "PATH=W=3"), ("--privileged",)):
        answer = daemon.docker("run", "--rm", *flags, "--entrypoint", program, "trap", "-c", "id")
        assert answer.returncode != 0
        assert "uid=" not in answer.stdout
    assert digests() == before
    daemon.ok("rmi", "-f", "trap")


def test_no_library_is_loaded(daemon: Daemon) -> None:
    """Our program inside a container asks for no interpreter and no library: there is nothing to inject into."""
    head = PROGRAM.read_bytes()
    offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
    kinds = {struct.unpack_from("<I", head, offset + i * size)[0] for i in range(count)}
    assert 1 in kinds  # PT_LOAD: these are its program headers
    assert not kinds & {2, 3}  # PT_DYNAMIC, PT_INTERP


# ---- CVE-2024-21626: leaked descriptors --------------------------------------------------------------------------------
def test_no_descriptor_is_left(daemon: Daemon) -> None:
    """Process 1 and execs have 0, 1 and 2 open, with a terminal or without, with --init or without."""
    for flags in ((), ("-t",), ("--init",), ("--privileged",), ("--pid", "host")):
        listing = "ls /proc/$$/fd; for f in /proc/$$/fd/*; do readlink $f; done; true"
        name = daemon.ok("run", "-d", *flags, "busybox", "sh", "-c", "ls /proc/$$/fd; sleep 1000")
        # The shell that lists opens nothing of its own there.
        eventually(lambda n=name: len(daemon.ok("logs", n).split()) >= 3)
        assert daemon.ok("logs", name).split() == ["0", "1", "2"], flags
        found = daemon.ok("exec", name, "sh", "-c", listing).split()
        assert found[:3] == ["0", "1", "2"]
        assert len(found) == 6, found
        daemon.ok("rm", "-f", name)


def test_stdin_is_the_containers_own(daemon: Daemon) -> None:
    """Without -i stdin is a /dev/null of the container's: its mode is nobody's of the host."""
    script = "stat -L -c %d:%i /proc/self/fd/0; stat -c %d:%i /dev/null"
    of_host = os.stat("/dev/null")
    name = daemon.ok("run", "-d", "busybox", "sh", "-c", f"{script}; sleep 1000")
    eventually(lambda: len(daemon.ok("logs", name).split()) == 2)
    for output in (daemon.ok("logs", name), daemon.ok("exec", name, "sh", "-c", script)):
        stdin, own = output.split()
        assert stdin == own
        assert stdin != f"{of_host.st_dev}:{of_host.st_ino}"


@pytest.mark.parametrize("way", ["run", "exec", "swapped", "restarted"])
def test_a_directory_by_a_descriptor(daemon: Daemon, way: str) -> None:
    """A working directory of /proc/self/fd/N, or a link to it put there later, is refused or lies inside."""
    name = daemon.ok("run", "-d", "--workdir", "/work", "busybox", "sleep", "1000")
    for number in range(3, 21):
        place = f"/proc/self/fd/{number}"
        look = ("sh", "-c", "ls -d ../../../../../../etc/debian_version; ls -di .; true")
        if way == "run":
            answer = daemon.docker("run", "--rm", "--network", "none", "--workdir", place, "busybox", *look)
        elif way == "exec":
            answer = daemon.docker("exec", "--workdir", place, name, *look)
        else:
            swap = f"rm -rf /work; ln -s {place} /work"
            daemon.ok("exec", "--workdir", "/", name, "sh", "-c", swap)
            if way == "restarted" and number % 6 == 0:
                answer = daemon.docker("restart", "-t", "0", name)
                daemon.docker("start", name)
                if daemon.inspect(name, "{{.State.Running}}") != "true":
                    daemon.ok("rm", "-f", name)
                    name = daemon.ok("run", "-d", "--workdir", "/work", "busybox", "sleep", "1000")
            else:
                answer = daemon.docker("exec", name, *look)
        if answer.returncode == 0:
            # The image has no such file, and the host does.
            assert "debian_version" not in answer.stdout


# ---- CVE-2020-15257: sockets ---------------------------------------------------------------------------------------------
def processes_of(daemon: Daemon) -> list[int]:
    """The daemon, its launcher and its keepers."""
    found = [daemon.pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
                if b"wherry.keeper.launcher" in words and daemon.pid in ancestors(int(entry.name)):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def ancestors(pid: int) -> set[int]:
    found = set()
    while pid > 1:
        text = Path(f"/proc/{pid}/stat").read_text()
        pid = int(text.rpartition(")")[2].split()[1])
        found.add(pid)
    return found


def test_nothing_of_ours_is_in_the_abstract_namespace(daemon: Daemon, attacks: Path) -> None:
    """On the host's network, root in a container finds no socket of daemon, launcher or keeper to connect to."""
    name = daemon.ok("run", "-d", "busybox", "sleep", "1000")
    assert len(processes_of(daemon)) >= 3
    here = namespaces.open_namespace("self", "net")
    with ThreadPoolExecutor(1) as pool:
        # A listener in the network namespace that the daemon calls the host's: the technique works.
        control = socket.socket(socket.AF_UNIX)

        def listen() -> None:
            there = namespaces.open_namespace(daemon.pid, "net")
            namespaces.setns(there, namespaces.CLONE_NEWNET)
            nonlocal control
            control = socket.socket(socket.AF_UNIX)
            control.bind("\0wherry-test-canary")
            control.listen(4)
            os.close(there)

        pool.submit(listen).result()
    os.close(here)
    found = attack(daemon, attacks, "/attacks/reach", "--connect", flags=("--network", "host"))
    control.close()
    assert found == ["connected @wherry-test-canary"]
    for pid in processes_of(daemon):
        inodes = {
            os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()
        }  # fmt: skip
        for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
            words = line.split()
            if f"socket:[{words[6]}]" in inodes and len(words) > 7:
                assert not words[7].startswith("@"), line
    assert daemon.inspect(name, "{{.State.Running}}") == "true"


def test_sockets_by_path_are_roots(daemon: Daemon) -> None:
    """Whoever may speak to a keeper is root."""
    daemon.ok("run", "-d", "busybox", "sleep", "1000")
    found = [path for path in (daemon.root / "exec").rglob("*") if path.is_socket()]
    assert found
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0


# ---- devices -----------------------------------------------------------------------------------------------------------
def disk() -> tuple[str, str]:
    for line in Path("/proc/partitions").read_text().splitlines()[2:]:
        major, minor, _, _ = line.split()
        return major, minor
    raise AssertionError("this machine has no disk to read")


READ = "for f in /dev/shm/x /x; do mknod $f {0} {1} {2} && dd if=$f of=/dev/null count=1 && echo read; done"


@pytest.mark.parametrize("flags", [(), ("--cap-add", "MKNOD"), ("--cap-add", "ALL"), ("--user", "1000")])
def test_the_hosts_disk(daemon: Daemon, flags: tuple[str, ...]) -> None:
    """A node for the host's disk or memory can be made by root of a container, and not be opened."""
    for kind, major, minor in (("b", *disk()), ("c", "1", "1"), ("c", "1", "4"), ("c", "10", "237")):
        script = READ.format(kind, major, minor)
        answer = daemon.docker("run", "--rm", "--network", "none", *flags, "busybox", "sh", "-c", script)
        assert "read" not in answer.stdout
        assert "not permitted" in answer.stderr or "denied" in answer.stderr


def test_a_node_of_the_host_that_is_mounted(daemon: Daemon) -> None:
    """A bind mount of a node brings no right to it; --device does, and shows that such a thing can be read."""
    node = "/dev/loop7"  # nothing is behind it: it reads as empty
    script = "dd if=/disk of=/dev/null count=1 && echo read"
    refused = daemon.docker("run", "--rm", "-v", f"{node}:/disk", "busybox", "sh", "-c", script)
    assert "read" not in refused.stdout
    assert "not permitted" in refused.stderr
    allowed = daemon.docker("run", "--rm", "--device", f"{node}:/disk:r", "busybox", "sh", "-c", script)
    assert "read" in allowed.stdout, allowed.stderr


# ---- other processes ---------------------------------------------------------------------------------------------------
def test_processes_of_others(daemon: Daemon, attacks: Path, canary: int) -> None:
    """A process of the host, of another container, and the keeper have no number in a container."""
    name = daemon.ok("run", "-d", "busybox", "sleep", "1000")
    first = int(daemon.inspect(name, "{{.State.Pid}}"))
    keeper = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (canary, first, keeper, daemon.pid):
        answers = attack(
            daemon, attacks, "/attacks/reach", str(pid),
            flags=("--cap-add", "SYS_PTRACE", "--cap-add", "KILL"),
        )  # fmt: skip
        assert {line.split()[1] for line in answers} <= {"ESRCH", "ENOENT"}, answers


def test_processes_of_the_host_when_they_are_shared(daemon: Daemon, attacks: Path) -> None:
    """With --pid host, and Docker's capabilities, the daemon can be seen and signalled, and not be looked into."""
    answers = attack(daemon, attacks, "/attacks/reach", str(daemon.pid), flags=("--pid", "host"))
    assert dict(line.split() for line in answers) == {
        "kill": "ok", "pidfd": "ok",
        "memory": "EPERM", "ptrace": "EPERM", "mem": "EACCES", "root": "EACCES", "fd": "EACCES",
    }  # fmt: skip


def test_processes_of_a_container_that_is_shared(daemon: Daemon, attacks: Path) -> None:
    """A container that shares another's pid namespace signals and traces what has no more than itself."""
    name = daemon.ok("run", "-d", "busybox", "sleep", "1000")
    sharing = ("--pid", f"container:{name}")
    answers = dict(line.split() for line in attack(daemon, attacks, "/attacks/reach", "1", flags=sharing))
    assert (answers["kill"], answers["ptrace"]) == ("ok", "ok")
    fewer = dict(
        line.split()
        for line in attack(daemon, attacks, "/attacks/reach", "1", flags=(*sharing, "--user", "1000"))
    )
    assert (fewer["kill"], fewer["ptrace"], fewer["mem"]) == ("EPERM", "EPERM", "EACCES")


# ---- keys, handles, what else the kernel keeps -------------------------------------------------------------------------
def test_keyrings(daemon: Daemon, attacks: Path) -> None:
    """By default keys cannot be touched; without the profile a container's session keyring is its own, and empty."""
    assert "session EPERM" in attack(daemon, attacks, "/attacks/reach", "--keys")
    free = ("--security-opt", "seccomp=unconfined")
    rings = []
    for _ in range(2):
        answer = attack(daemon, attacks, "/attacks/reach", "--keys", flags=free)
        (line,) = [line for line in answer if line.startswith("session ring")]
        assert line.endswith("holds")
        assert "session ok" in answer
        rings.append(line.split()[2])
    assert rings[0] != rings[1]
    assert "wherry-test" not in "".join(
        line for line in Path("/proc/keys").read_text().splitlines() if "_ses" in line
    )


def handle_of(path: Path) -> tuple[int, str]:
    """What name_to_handle_at(2) says of a file: type, bytes."""
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 136)
    mount = ctypes.c_int()
    library = ctypes.CDLL(None, use_errno=True)
    done = library.name_to_handle_at(-100, os.fsencode(path), buffer, ctypes.byref(mount), 0)
    assert done == 0, os.strerror(ctypes.get_errno())
    size, kind = struct.unpack_from("=Ii", buffer.raw)
    return kind, buffer.raw[8 : 8 + size].hex()


def test_shocker(daemon: Daemon, attacks: Path, session_root: Path) -> None:
    """A file of the host cannot be opened by its handle; with DAC_READ_SEARCH, which is not given by default, it can."""
    secret = session_root / "secret"
    secret.write_text("of the host")
    kind, handle = handle_of(secret)
    argv = ("/attacks/reach", "--handle", str(kind), handle)
    assert attack(daemon, attacks, *argv) == ["handle EPERM"]
    assert attack(daemon, attacks, *argv, flags=("--security-opt", "seccomp=unconfined")) == ["handle EPERM"]
    assert "of the host" in attack(daemon, attacks, *argv, flags=("--cap-add", "DAC_READ_SEARCH"))


def test_oom_score(daemon: Daemon) -> None:
    """A container can offer itself to the kernel for killing, and not take that back below what it was given."""
    script = (
        "cd /proc/self; cat oom_score_adj; echo 600 >oom_score_adj; cat oom_score_adj; "
        "echo -1 >oom_score_adj; cat oom_score_adj"
    )
    answer = daemon.docker("run", "--rm", "busybox", "sh", "-c", script)
    assert answer.stdout.split()[0] == "0"
    assert "-1" not in answer.stdout.split()
    assert "ermission denied" in answer.stderr


def test_cgroups_are_not_written(daemon: Daemon) -> None:
    """Limits, release agents and cgroups of one's own: the mount is read-only, in a default container and in one that
    has its processes' own cgroup as the root."""
    script = (
        "cd /sys/fs/cgroup; for f in $(find . -type f); do echo 1 2>/dev/null >$f && echo written $f; done; "
        "for d in $(find . -type d); do mkdir $d/x 2>/dev/null && echo made $d; done; echo looked"
    )
    assert daemon.ok("run", "--rm", "busybox", "sh", "-c", script) == "looked"
    assert daemon.ok("run", "--rm", "--cgroupns", "host", "busybox", "sh", "-c", script) == "looked"


def test_no_terminal_of_the_host(daemon: Daemon) -> None:
    """Without -t there is no terminal to type into; with it there is the container's own, on its own devpts."""
    script = "cat /dev/tty; ls /dev/console; stat -c %d /dev/pts; tty"
    answer = daemon.docker("run", "--rm", "busybox", "sh", "-c", script)
    assert "No such device or address" in answer.stderr
    assert "not a tty" in answer.stdout
    devices = {daemon.ok("run", "--rm", "-t", "busybox", "stat", "-c", "%d", "/dev/pts/0") for _ in range(2)}
    assert str(os.stat("/dev/pts").st_dev) not in devices


def test_a_keeper_that_is_stopped(daemon: Daemon) -> None:
    """Somebody who may stop a keeper (root of the host does here) stops one container's output, and nobody else: lists,
    another container, and the removal of this one go on."""
    name = daemon.ok("run", "-d", "busybox", "sleep", "1000")
    first = int(daemon.inspect(name, "{{.State.Pid}}"))
    keeper = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    assert re.match("wherry-keeper", Path(f"/proc/{keeper}/comm").read_text())
    os.kill(keeper, 19)
    assert name[:12] in daemon.ok("ps")
    assert daemon.ok("run", "--rm", "busybox", "echo", "fine") == "fine"
    answer = daemon.docker("exec", name, "true")
    assert answer.returncode != 0
    assert "did not answer" in answer.stdout + answer.stderr
    daemon.ok("rm", "-f", name)
    eventually(lambda: not Path(f"/proc/{keeper}").exists(), "the keeper's end")
