"""The contract of exec drivers as a test suite: what every one of them, bundled or not, is held to. Needs root.

    class TestNative(ExecDriverContract):
        @pytest.fixture
        def driver(self, tmp_path: Path) -> NativeExec:
            return NativeExec(tmp_path / "driver")

The suite plays the keeper: it calls the driver in this process, waits for what the driver answers with, and asks what
of it is left. A `rootfs` fixture, a factory of writable roots with busybox, comes with it and can be replaced.
"""

from __future__ import annotations

import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from wherry.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    InvalidRequest,
    NotFound,
    StartFailed,
    WherryError,
)
from wherry.linux import capabilities, cgroups, mounts, namespaces, processes, terminal
from wherry.spec.command import (
    Capabilities,
    Device,
    DeviceRule,
    Mount,
    Namespace,
    Namespaces,
    Resources,
    Rlimit,
    Seccomp,
)
from wherry.testing import inheritance
from wherry.testing.bind_mounts import MountsContract
from wherry.testing.containers import (
    DEADLINE,
    MOUNTS,
    Driver,
    MakeRootfs,
    PlayedKeeper,
    busybox_root,
    cgroups_below,
    children,
    descriptors,
    lines,
    overlay_rootfs,
    poll,
)
from wherry.testing.user_namespaces import UserNamespacesContract

MIB = 1 << 20


def status(output: bytes) -> dict[str, str]:
    """`/proc/self/status` as pairs."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines(output))}


class ExecDriverContract(MountsContract, UserNamespacesContract):
    """Inherit, and give a `driver` fixture."""

    @pytest.fixture(scope="class")
    @classmethod
    def busybox(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return busybox_root(tmp_path_factory.mktemp("busybox"))

    @pytest.fixture
    def rootfs(self, busybox: Path, tmp_path: Path) -> MakeRootfs:
        return overlay_rootfs(busybox, tmp_path / "roots")

    @pytest.fixture
    def keeper(self, driver: Driver, rootfs: MakeRootfs) -> Iterator[PlayedKeeper]:
        driver.warm()
        with PlayedKeeper(driver, rootfs) as keeper:
            yield keeper

    # ---- how it ends -----------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("code", [0, 1, 3, 255])
    def test_exit_code(self, keeper: PlayedKeeper, code: int) -> None:
        """The program's exit code is the status of `watch`."""
        assert keeper.shell(f"exit {code}").code == code

    def test_killed(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """SIGKILL to process 1 ends it at once."""
        box = keeper.start("sleep", "1000")
        assert driver.kill(box.state, signal.SIGKILL, False)
        assert keeper.finish(box).code == -signal.SIGKILL

    def test_signal_reaches_process_1(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """A handled signal runs its handler."""
        box = keeper.start("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done")
        keeper.read_until(box, b"ready")
        assert driver.kill(box.state, signal.SIGTERM, False)
        assert keeper.finish(box).code == 7

    def test_kill_of_what_is_gone(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """To signal a container that ended is no error: nothing was there."""
        box = keeper.start("true")
        state = box.state
        keeper.finish(box)
        assert not driver.kill(state, signal.SIGTERM, False)
        assert not driver.kill(state, signal.SIGKILL, True)
        driver.clean(state)

    def test_kill_everyone(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """Everyone dies, execs too, however they fork; then the cgroup is empty."""
        box = keeper.start("sh", "-c", "for i in 1 2 3 4 5; do sleep 1000 & done; echo up; wait")
        keeper.read_until(box, b"up")
        inner = keeper.prepare_exec(box, keeper.process("sleep", "1000"))
        inner.started.release()
        assert len(driver.pids(box.state)) == 7
        assert driver.kill(box.state, signal.SIGKILL, True)
        assert driver.pids(box.state) == []
        assert keeper.finish(inner).code == -signal.SIGKILL
        assert keeper.finish(box).code == -signal.SIGKILL

    def test_program_ends_with_its_keeper(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """When the process that started a container dies, the container's process 1 does."""
        reader, writer = os.pipe()
        command = keeper.command("sleep", "1000")
        played = os.fork()
        if played == 0:
            try:
                box = keeper.prepare(command)
                box.started.release()
                os.write(writer, f"{box.pid} {processes.start_time(box.pid)}".encode())
                signal.pause()
            finally:
                os._exit(1)
        os.close(writer)
        os.close(command.rootfs)
        pid, started = map(int, os.read(reader, 64).split())
        os.close(reader)
        os.kill(played, signal.SIGKILL)
        os.waitpid(played, 0)
        poll(lambda: not processes.is_alive(pid, started), "the container outlives its keeper")
        os.waitpid(pid, 0)
        group = cgroups.at(command.cgroup)
        group.kill()
        group.remove()

    # ---- what cannot be executed -----------------------------------------------------------------------------------
    @pytest.mark.parametrize(
        ("name", "error", "words"),
        [
            ("nope", CommandNotFound, r'exec: "nope": executable file not found in \$PATH'),
            ("/nope", CommandNotFound, 'exec: "/nope": stat /nope: no such file or directory'),
            ("/etc", CommandNotExecutable, 'exec: "/etc": is a directory'),
            ("/etc/passwd", CommandNotExecutable, 'exec: "/etc/passwd": permission denied'),
            ("etc", CommandNotFound, r"executable file not found in \$PATH"),
            ("/bin/script", CommandNotFound, 'exec: "/bin/script": no such file or directory'),
            ("/bin/nonsense", CommandNotExecutable, "exec format error"),
        ],
    )
    def test_not_executable(
        self, keeper: PlayedKeeper, rootfs: MakeRootfs, name: str, error: type[WherryError], words: str
    ) -> None:
        """What is no program is refused with Docker's words, and the same for an exec."""

        def prepare(root: Path) -> None:
            (root / "bin").mkdir()
            for file, content in (("script", "#!/no/such/interpreter\n"), ("nonsense", "\x01\x02\x03")):
                (root / "bin" / file).write_text(content)
                (root / "bin" / file).chmod(0o755)

        with pytest.raises(error, match=words):
            keeper.start(name, root=rootfs(prepare))
        box = keeper.start("sleep", "1000", root=rootfs(prepare))
        with pytest.raises(error, match=words):
            keeper.exec(box, name)

    def test_barrier(self, keeper: PlayedKeeper, driver: Driver, tmp_path: Path) -> None:
        """Nothing of the program runs before `release`; what is never released can be killed and cleaned."""
        box = keeper.prepare(keeper.command("echo", "ran"))
        assert driver.pids(box.state) == [box.pid]
        assert box.stdout is not None
        assert not select.select([box.stdout], [], [], 0.05)[0]
        box.started.release()
        assert keeper.finish(box).stdout == b"ran\n"
        keeper.end(keeper.prepare(keeper.command("echo", "never")))

    # ---- streams ---------------------------------------------------------------------------------------------------
    def test_streams(self, keeper: PlayedKeeper) -> None:
        """stdin, stdout and stderr are what was given, each its own."""
        result = keeper.shell("cat; echo complaint >&2", stdin=b"hello\n")
        assert (result.stdout, result.stderr) == (b"hello\n", b"complaint\n")

    def test_no_descriptor_leaks(self, keeper: PlayedKeeper) -> None:
        """The program has 0, 1 and 2, and no other descriptor; so has an exec."""
        box = keeper.start("sh", "-c", "ls /proc/self/fd | wc -l; read end")
        # Three, and the one by which `ls` reads the directory.
        assert keeper.read_until(box, b"\n") == b"4\n"
        assert keeper.exec(box, "sh", "-c", "ls /proc/self/fd | wc -l").stdout == b"4\n"

    def test_streams_of_a_user(self, keeper: PlayedKeeper) -> None:
        """Who is not root can open /dev/stdout and /dev/stderr by name."""
        process = keeper.process("sh", "-c", "echo a >/dev/stdout; echo b >/dev/stderr", user="1000")
        result = keeper.run(process=process)
        assert (result.code, result.stdout, result.stderr) == (0, b"a\n", b"b\n")

    def test_broken_pipe_kills(self, keeper: PlayedKeeper) -> None:
        """Every signal has its default: a writer whose reader went, ends."""
        assert keeper.shell("yes | head -1").stdout == b"y\n"
        found = status(keeper.run("cat", "/proc/self/status").stdout)
        assert found["SigIgn"] == found["SigBlk"] == "0" * 16

    def test_terminal(self, keeper: PlayedKeeper) -> None:
        """A terminal of the container's own devpts, its size set before the program starts, is the controlling one."""
        process = keeper.process(
            "sh",
            "-c",
            "stty size; tty; echo direct >/dev/tty; test -c /dev/console && echo console",
            tty=True,
            console_size=(33, 99),
        )
        result = keeper.run(process=process)
        assert list(lines(result.stdout)) == ["33 99", "/dev/pts/0", "direct", "console"]

    def test_terminal_signals_and_resize(self, keeper: PlayedKeeper) -> None:
        """Control-C reaches the program; a new size is seen."""
        script = "trap 'stty size; exit 9' INT; echo ready; while :; do sleep 0.01; done"
        box = keeper.start(process=keeper.process("sh", "-c", script, tty=True, console_size=(10, 20)))
        keeper.read_until(box, b"ready")
        terminal.set_size(box.console, 40, 120)
        os.write(box.console, b"\x03")
        keeper.read_until(box, b"40 120")
        assert keeper.finish(box).code == 9

    # ---- what it is given ------------------------------------------------------------------------------------------
    def test_environment(self, keeper: PlayedKeeper) -> None:
        """The environment is what was given, and HOME of the user."""
        process = keeper.process("env", env=("A=1", "B=two words", "PATH=/bin"), user="alice")
        found = set(lines(keeper.run(process=process).stdout))
        assert found == {"A=1", "B=two words", "PATH=/bin", "HOME=/home/alice"}

    def test_own_home(self, keeper: PlayedKeeper) -> None:
        """A HOME that was given stays."""
        process = keeper.process("sh", "-c", "echo $HOME", env=("HOME=/x", "PATH=/bin"))
        assert keeper.run(process=process).stdout == b"/x\n"

    def test_working_directory(self, keeper: PlayedKeeper) -> None:
        """The program starts in its working directory, which is made where it is missing; an exec's is not."""
        box = keeper.start(process=keeper.process("sh", "-c", "pwd; read end", cwd="/new/deep"))
        assert keeper.read_until(box, b"\n") == b"/new/deep\n"
        assert keeper.exec(box, "pwd", cwd="/tmp").stdout == b"/tmp\n"
        with pytest.raises(CommandNotFound, match=r"chdir to cwd.*no such file or directory"):
            keeper.exec(box, "pwd", cwd="/nowhere")

    @pytest.mark.parametrize(
        ("user", "groups", "expected"),
        [
            ("", (), "0 0 0"),
            ("alice", (), "1000 1000 1000 29 44"),
            ("1000", (), "1000 1000 1000 29 44"),
            ("alice:staff", (), "1000 50 50"),
            ("alice:7", ("video", "99"), "1000 7 7 44 99"),
            ("4711", (), "4711 0 0"),
            ("4711:12", (), "4711 12 12"),
        ],
    )
    def test_user(self, keeper: PlayedKeeper, user: str, groups: tuple[str, ...], expected: str) -> None:
        """Users and groups are looked up in the container's own files; numbers need no entry there."""
        script = "echo $(id -u) $(id -g) $(id -G)"
        process = keeper.process("sh", "-c", script, user=user, groups=groups)
        box = keeper.start(
            process=keeper.process("sh", "-c", f"{script}; read end", user=user, groups=groups)
        )
        assert keeper.read_until(box, b"\n").decode().split() == expected.split()
        assert (
            keeper.exec(box, *process.argv, user=user, groups=groups).stdout.decode().split()
            == expected.split()
        )

    @pytest.mark.parametrize(
        ("user", "words"),
        [
            ("nobody-here", "unable to find user nobody-here: no matching entries in passwd file"),
            ("alice:nogroup", "unable to find group nogroup: no matching entries in group file"),
            ("99999999999", "range"),
        ],
    )
    def test_unknown_user(self, keeper: PlayedKeeper, user: str, words: str) -> None:
        """A user or group that is not there is refused with Docker's words."""
        with pytest.raises(StartFailed, match=words):
            keeper.run(process=keeper.process("true", user=user))

    @pytest.mark.parametrize(
        "prepare",
        [
            pytest.param(lambda etc: os.mkfifo(etc / "passwd"), id="a-pipe"),
            pytest.param(lambda etc: (etc / "passwd").symlink_to("/dev/zero"), id="a-device"),
            pytest.param(lambda etc: (etc / "passwd").symlink_to("passwd"), id="a-loop"),
            pytest.param(lambda etc: (etc / "passwd").mkdir(), id="a-directory"),
            pytest.param(
                lambda etc: (etc / "passwd").write_bytes(b":::\n\xff\0:x:-1:1\nroot:x:zero\n" * 99),
                id="nonsense",
            ),
            pytest.param(lambda etc: (etc / "group").write_bytes(b"\xff" * 65536), id="one-long-line"),
        ],
    )
    def test_hostile_passwd(
        self, keeper: PlayedKeeper, rootfs: MakeRootfs, prepare: Callable[[Path], Any]
    ) -> None:
        """Whatever lies at /etc/passwd of an image, a start neither hangs nor believes it."""

        def fill(root: Path) -> None:
            (root / "etc").mkdir()
            prepare(root / "etc")

        assert keeper.run("echo", "up", root=rootfs(fill)).stdout == b"up\n"

    def test_umask_and_oom_score(self, keeper: PlayedKeeper) -> None:
        """The umask is 022 unless given; the oom score is the container's own."""
        assert keeper.shell("umask; cat /proc/self/oom_score_adj").stdout == b"0022\n0\n"
        process = keeper.process(
            "sh", "-c", "umask; cat /proc/self/oom_score_adj", umask=0o27, oom_score_adj=500
        )
        assert keeper.run(process=process).stdout == b"0027\n500\n"

    def test_nothing_is_inherited(self, keeper: PlayedKeeper) -> None:
        """However odd the process that starts it (priority, affinity, masks, personality, …), the program is plain."""
        limits = (Rlimit(name="nofile", soft=100, hard=200),)
        with inheritance.odd_process():
            box = keeper.start(
                process=keeper.process("sh", "-c", f"{inheritance.SHOW}; echo end; read end", rlimits=limits)
            )
            first = keeper.read_until(box, b"end\n")
            second = keeper.exec(box, "sh", "-c", f"{inheritance.SHOW}; echo end", rlimits=limits).stdout
        for found in (first, second):
            assert inheritance.parse(found) == {**inheritance.plain(), "nofile": "100:200", "end": ""}

    def test_rlimits(self, keeper: PlayedKeeper) -> None:
        """Resource limits are set, for an exec too; an unknown one is refused."""
        limits = (Rlimit(name="nofile", soft=100, hard=200),)
        box = keeper.start(
            process=keeper.process("sh", "-c", "ulimit -Sn; ulimit -Hn; read end", rlimits=limits)
        )
        assert keeper.read_until(box, b"200\n") == b"100\n200\n"
        assert keeper.exec(box, "sh", "-c", "ulimit -Hn", rlimits=limits).stdout == b"200\n"
        with pytest.raises(InvalidRequest, match="ulimit"):
            keeper.run(process=keeper.process("true", rlimits=(Rlimit(name="luck", soft=1, hard=1),)))

    # ---- what it may -----------------------------------------------------------------------------------------------
    def test_default_confinement(self, keeper: PlayedKeeper) -> None:
        """By default: Docker's capabilities, a seccomp filter, none inherited; the same for an exec."""
        box = keeper.start("sh", "-c", "cat /proc/self/status; echo; read end")
        first = status(keeper.read_until(box, b"\n\n"))
        second = status(keeper.exec(box, "cat", "/proc/self/status").stdout)
        for found in (first, second):
            for kind in ("CapPrm", "CapEff", "CapBnd"):
                assert found[kind] == "00000000a80425fb"
            assert found["CapInh"] == found["CapAmb"] == "0" * 16
            assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "0")

    def test_user_has_no_capabilities(self, keeper: PlayedKeeper) -> None:
        """Who is not root has no effective capability, and keeps the bounding set."""
        sets = Capabilities(bounding=capabilities.DEFAULT)
        found = status(
            keeper.run(
                process=keeper.process("cat", "/proc/self/status", user="alice", capabilities=sets)
            ).stdout
        )
        assert found["CapEff"] == found["CapPrm"] == "0" * 16
        assert found["CapBnd"] == "00000000a80425fb"

    def test_user_executes_what_it_may(self, keeper: PlayedKeeper, rootfs: MakeRootfs) -> None:
        """Capabilities that a user's process cannot have do not let it execute what only root may."""

        def prepare(root: Path) -> None:
            (root / "bin").mkdir()
            (root / "bin" / "secret").write_text("#!/bin/sh\necho secret")
            (root / "bin" / "secret").chmod(0o700)

        everything = capabilities.DEFAULT
        sets = Capabilities(bounding=everything, effective=everything, permitted=everything)
        process = keeper.process("/bin/secret", user="alice", capabilities=sets)
        with pytest.raises(CommandNotExecutable, match="permission denied"):
            keeper.run(process=process, root=rootfs(prepare))

    def test_ambient_capabilities(self, keeper: PlayedKeeper) -> None:
        """Ambient capabilities reach the program of a user who is not root."""
        one = ("CAP_NET_BIND_SERVICE",)
        sets = Capabilities(bounding=one, permitted=one, effective=one, inheritable=one, ambient=one)
        found = status(
            keeper.run(
                process=keeper.process("cat", "/proc/self/status", user="alice", capabilities=sets)
            ).stdout
        )
        assert found["CapEff"] == found["CapAmb"] == "0000000000000400"

    @pytest.mark.parametrize("user", ["", "alice"])
    def test_no_new_privileges(self, keeper: PlayedKeeper, user: str) -> None:
        """With no-new-privileges the filter is set all the same."""
        process = keeper.process("cat", "/proc/self/status", no_new_privileges=True, user=user)
        found = status(keeper.run(process=process).stdout)
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")

    def test_seccomp(self, keeper: PlayedKeeper) -> None:
        """A profile of one's own holds; unconfined is none; nonsense is refused by name."""
        deny = '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}'
        process = keeper.process("mkdir", "/x", seccomp=Seccomp(mode="custom", document=deny))
        assert b"not permitted" in keeper.run(process=process).stderr
        process = keeper.process("cat", "/proc/self/status", seccomp=Seccomp(mode="unconfined"))
        assert status(keeper.run(process=process).stdout)["Seccomp"] == "0"
        with pytest.raises(InvalidRequest, match="seccomp profile"):
            keeper.run(process=keeper.process("true", seccomp=Seccomp(mode="custom", document="{")))

    @pytest.mark.parametrize("trace", [False, True], ids=["", "with SYS_PTRACE"])
    def test_profile_without_clone(self, keeper: PlayedKeeper, trace: bool) -> None:
        """A profile under which nobody can fork still starts a program, also in the host's or another's pid namespace,
        and lets an exec in; none of them can fork."""
        names = '"clone","clone3","fork","vfork"'
        deny = f'{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":[{names}],"action":"SCMP_ACT_ERRNO"}}]}}'
        seccomp = Seccomp(mode="custom", document=deny)
        more = (*capabilities.DEFAULT, *(("CAP_SYS_PTRACE",) if trace else ()))
        sets = Capabilities(bounding=more, effective=more, permitted=more)

        given: dict[str, Any] = {"seccomp": seccomp, "capabilities": sets}
        script = "echo in; (echo forked); echo never"

        box = keeper.start(process=keeper.process("cat", **given))
        assert keeper.exec(box, "sh", "-c", script, **given).stdout == b"in\n"
        pid = namespaces.open_namespace(box.pid, "pid")
        joined = Namespace(kind="joined", descriptor=pid)
        # To join somebody who may trace is not for every kernel, or driver.
        for choice in (Namespace(kind="host"), *(() if trace else (joined,))):
            process = keeper.process("sh", "-c", script, **given)
            assert keeper.run(process=process, namespaces=Namespaces(pid=choice)).stdout == b"in\n"
        os.close(pid)

    def test_privileged(self, keeper: PlayedKeeper) -> None:
        """Privileged: every capability that the engine has, no filter, every device, nothing masked."""
        sets = Capabilities(
            bounding=capabilities.NAMES, permitted=capabilities.NAMES, effective=capabilities.NAMES
        )
        process = keeper.process(
            "sh",
            "-c",
            "cat /proc/self/status; head -c 0 /dev/given && echo open",
            privileged=True,
            capabilities=sets,
            seccomp=Seccomp(mode="unconfined"),
        )
        command = keeper.command(
            process=process,
            device_rules=(),
            masked_paths=(),
            readonly_paths=(),
            devices=(Device(path="/dev/given", kind="c", major=1, minor=11),),
        )
        box = keeper.prepare(command)
        box.started.release()
        result = keeper.finish(box)
        found = status(result.stdout)
        assert int(found["CapEff"], 16) == capabilities.of("self", "Prm")
        assert found["Seccomp"] == "0"
        assert b"open" in result.stdout, result.stderr

    def test_masked_and_readonly_paths(self, keeper: PlayedKeeper) -> None:
        """Masked files are empty, masked directories too; read-only paths cannot be written."""
        script = "wc -c </proc/timer_list; ls /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/domainname; touch /sys/x"
        result = keeper.shell(script)
        assert result.stdout.split() == [b"0", b"0"]
        assert result.stderr.count(b"Read-only file system") == 2

    def test_own_cgroup_is_seen(self, keeper: PlayedKeeper) -> None:
        """In /sys/fs/cgroup it finds its own limits, as runtimes look for them there, and can change nothing."""
        script = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x"
        result = keeper.shell(script, resources=Resources(pids=77))
        assert result.stdout == b"77\n"
        assert b"Read-only file system" in result.stderr

    def test_devices(self, keeper: PlayedKeeper) -> None:
        """The default devices are there and work; a node that the rules do not allow cannot be opened."""
        script = (
            "head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo gone >/dev/null;"
            "echo full 2>&1 >/dev/full | grep -c space; mknod /tmp/port c 1 4; head -c 1 /tmp/port; ls -l /dev/given"
        )
        result = keeper.shell(
            script, devices=(Device(path="/dev/given", kind="c", major=1, minor=3, mode=0o640, uid=3),)
        )
        assert result.stdout.split()[:3] == [b"3", b"3", b"1"]
        assert re.search(rb"crw-r----- +1 +3 .*1, +3", result.stdout)
        assert b"not permitted" in result.stderr

    # ---- where it is -----------------------------------------------------------------------------------------------
    def test_alone(self, keeper: PlayedKeeper) -> None:
        """It is process 1, sees only its own, has its own host name and an own, quiet network."""
        script = "echo $$; ls -d /proc/[0-9]* | wc -l; hostname; ip -o link | wc -l; ip -o addr show lo"
        command = keeper.command("sh", "-c", script)
        box = keeper.prepare(command)
        box.started.release()
        out = list(lines(keeper.finish(box).stdout))
        assert out[0] == "1" and int(out[1]) <= 3
        assert out[2] == command.hostname
        assert out[3] == "1" and "127.0.0.1" in out[4]

    def test_root_is_its_own(self, keeper: PlayedKeeper) -> None:
        """Nothing of the host is to be seen in its mount table or beyond its root."""
        result = keeper.shell("cat /proc/self/mountinfo; ls -a /; ls /../../..")
        assert b"oldroot" not in result.stdout
        targets = [line.split()[4] for line in lines(result.stdout) if " - " in line]
        assert targets[0] == "/" and len(targets) == len(set(targets))
        assert not any(target.startswith(("/var", "/run", "/home")) for target in targets)

    def test_read_only_root(self, keeper: PlayedKeeper) -> None:
        """A read-only root cannot be written; the mounts on it can."""
        result = keeper.shell("touch /x; touch /dev/shm/y && echo fine", readonly_rootfs=True)
        assert b"Read-only" in result.stderr and result.stdout == b"fine\n"

    def test_bind_mounts(self, keeper: PlayedKeeper, tmp_path: Path) -> None:
        """Binds of directories and files appear where asked, through the container's links and never out of them."""
        (tmp_path / "dir").mkdir()
        (tmp_path / "dir" / "inside").write_text("one")
        (tmp_path / "file").write_text("two")
        directory, file, proc_file = (mounts.bind(tmp_path / name) for name in ("dir", "file", "file"))

        def prepare(root: Path) -> None:
            (root / "var").mkdir()
            (root / "var" / "link").symlink_to("../../../../../../target")

        wanted = (
            Mount(kind="bind", target="/var/link/deep", descriptor=directory, read_only=True),
            Mount(kind="bind", target="/etc/new/file", descriptor=file, is_directory=False),
            Mount(kind="bind", target="/proc/meminfo", descriptor=proc_file, is_directory=False),
        )
        script = "cat /target/deep/inside /etc/new/file /proc/meminfo; touch /target/deep/x; echo three >/etc/new/file"
        try:
            result = keeper.shell(script, root=keeper.rootfs(prepare), mounts=(*MOUNTS, *wanted))
        finally:
            for fd in (directory, file, proc_file):
                os.close(fd)
        assert result.stdout == b"onetwotwo"
        assert b"Read-only" in result.stderr
        assert (tmp_path / "file").read_text() == "three\n"
        assert not Path("/target").exists()

    def test_unmountable(self, keeper: PlayedKeeper, tmp_path: Path) -> None:
        """A directory cannot be mounted on a file; the error names both."""
        directory = mounts.bind(tmp_path)
        wanted = Mount(
            kind="bind", target="/etc/passwd", source="/the/source", descriptor=directory, is_directory=False
        )
        try:
            with pytest.raises(StartFailed, match=r"/the/source.*/etc/passwd.*not a directory"):
                keeper.run("true", mounts=(*MOUNTS, wanted))
        finally:
            os.close(directory)

    def test_sysctls(self, keeper: PlayedKeeper) -> None:
        """Sysctls of its own namespaces are set before the program runs."""
        script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"
        result = keeper.shell(script, sysctls={"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345"})
        assert result.stdout == b"1\n12345\n"

    def test_host_namespaces(self, keeper: PlayedKeeper) -> None:
        """With the host's namespaces it sees the host's network, name and processes."""
        host = Namespace(kind="host")
        links = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in ("net", "uts", "ipc"))
        script = f"test -d /proc/{os.getpid()} && echo seen; {links}"
        result = keeper.shell(script, namespaces=Namespaces(net=host, pid=host, uts=host, ipc=host))
        expected = ["seen", *(os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "uts", "ipc"))]
        assert list(lines(result.stdout)) == expected

    def test_joined_namespaces(self, keeper: PlayedKeeper) -> None:
        """With another container's namespaces it lives there: its processes are seen and its network shared."""
        owner = keeper.start("sleep", "1000")
        opened = {kind: namespaces.open_namespace(owner.pid, kind) for kind in ("net", "ipc", "pid", "uts")}
        try:
            joined: dict[str, Any] = {
                kind: Namespace(kind="joined", descriptor=fd) for kind, fd in opened.items()
            }
            result = keeper.shell(
                "hostname; cat /proc/1/cmdline | tr '\\0' ' '; echo; readlink /proc/self/ns/net",
                namespaces=Namespaces(**joined),
            )
        finally:
            for fd in opened.values():
                os.close(fd)
        network = os.readlink(f"/proc/{owner.pid}/ns/net")
        assert list(lines(result.stdout)) == [owner.command.hostname, "sleep 1000 ", network]

    def test_shared_memory(self, keeper: PlayedKeeper) -> None:
        """A /dev/shm that was handed over is shared."""
        shm = mounts.tmpfs(size="1m", mode="1777")
        try:
            first = keeper.shell(
                "echo note >/dev/shm/x; df -k /dev/shm | tail -1", mounts=MOUNTS[:-1], shm=shm
            )
        finally:
            os.close(shm)
        assert b"1024" in first.stdout

    def test_init(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """With init, process 1 reaps orphans, forwards signals, and ends as the program does."""
        script = "trap 'exit 5' TERM; (sleep 0.01 & ) ; echo $$; while :; do sleep 0.01; done"
        box = keeper.start("sh", "-c", script, init=True)
        assert int(keeper.read_until(box, b"\n")) > 1
        poll(lambda: len(driver.pids(box.state)) <= 3, "orphans are not reaped")
        driver.kill(box.state, signal.SIGTERM, False)
        assert keeper.finish(box).code == 5

    def test_init_is_not_of_its_group(self, keeper: PlayedKeeper) -> None:
        """What a program sends to its process group comes once: not a second time by way of process 1."""
        script = "trap 'echo heard' USR1; kill -USR1 0; for i in 1 2 3 4 5; do sleep 0.05; done"
        assert keeper.shell(script, init=True).stdout == b"heard\n"

    def test_init_says_what_killed(self, keeper: PlayedKeeper) -> None:
        """With init, a program killed by a signal ends as 128 and the signal's number; one not found is named."""
        assert keeper.run("sh", "-c", "kill -KILL $$", init=True).code == 137
        with pytest.raises(CommandNotFound, match="executable file not found"):
            keeper.run("nope", init=True)

    # ---- exec ------------------------------------------------------------------------------------------------------
    def test_exec(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """An exec is in the container: processes, host name, cgroup, root; its exit code is its own."""
        box = keeper.start("sh", "-c", "touch /mark; echo up; read end")
        keeper.read_until(box, b"up")
        result = keeper.exec(
            box, "sh", "-c", "hostname; cat /proc/1/comm; ls /mark; cat; exit 4", stdin=b"fed"
        )
        assert result.code == 4
        assert list(lines(result.stdout)) == [box.command.hostname, "sh", "/mark", "fed"]
        inner = keeper.prepare_exec(box, keeper.process("sleep", "1000"))
        inner.started.release()
        assert inner.pid in driver.pids(box.state)
        for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
            assert namespaces.identity_of(inner.pid, kind) == namespaces.identity_of(box.pid, kind)
        keeper.end(inner)

    def test_exec_with_terminal(self, keeper: PlayedKeeper) -> None:
        """An exec has a terminal of the container's devpts, with its size, and controls it."""
        box = keeper.start("sleep", "1000")
        process = keeper.process(
            "sh", "-c", "tty; stty size; echo direct >/dev/tty", tty=True, console_size=(5, 6)
        )
        inner = keeper.prepare_exec(box, process)
        inner.started.release()
        assert list(lines(keeper.finish(inner).stdout)) == ["/dev/pts/0", "5 6", "direct"]

    def test_exec_is_not_to_be_traced(self, keeper: PlayedKeeper) -> None:
        """At its barrier an exec cannot be looked into from inside the container."""
        box = keeper.start("sleep", "1000")
        inner = keeper.prepare_exec(box, keeper.process("true"))
        result = keeper.exec(
            box,
            "sh",
            "-c",
            "for p in /proc/[0-9]*; do cat $p/environ >/dev/null || echo $p; ls -l $p/fd/ 2>&1; done",
        )
        assert b"socket" not in result.stdout
        keeper.end(inner)

    def test_exec_where_nothing_runs(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """No exec in a paused container, nor in one that ended."""
        box = keeper.start("sleep", "1000")
        driver.pause(box.state)
        with pytest.raises(Conflict, match="paused"):
            keeper.exec(box, "true")
        driver.unpause(box.state)
        driver.kill(box.state, signal.SIGKILL, False)
        poll(lambda: not processes.is_alive(box.pid, int(box.state["start_time"])), "it does not end")
        with pytest.raises(WherryError):
            keeper.exec(box, "true")

    # ---- the daemon's half -----------------------------------------------------------------------------------------
    def test_pause(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """While paused it does nothing; then it goes on. Both are idempotent."""
        box = keeper.start("sh", "-c", "while :; do echo x; sleep 0.01; done")
        keeper.read_until(box, b"x")
        driver.pause(box.state)
        driver.pause(box.state)
        assert box.stdout is not None
        while select.select([box.stdout], [], [], 0.1)[0]:
            os.read(box.stdout, 65536)
        driver.unpause(box.state)
        driver.unpause(box.state)
        assert select.select([box.stdout], [], [], DEADLINE)[0]

    @pytest.mark.parametrize("everyone", [False, True])
    def test_kill_while_paused(self, keeper: PlayedKeeper, driver: Driver, everyone: bool) -> None:
        """A paused container can be killed."""
        box = keeper.start("sleep", "1000")
        driver.pause(box.state)
        assert driver.kill(box.state, signal.SIGKILL, everyone)
        assert keeper.finish(box).code == -signal.SIGKILL

    def test_stats(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """Counters of CPU, memory and processes; NotFound when it is gone."""
        box = keeper.start(
            "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000 & echo done; wait"
        )
        keeper.read_until(box, b"done")
        found = driver.stats(box.state)
        assert found.cpu_total > 1_000_000
        assert 0 < found.memory_usage < 100 * MIB
        assert found.pids_current == 2
        keeper.end(box)
        with pytest.raises(NotFound):
            driver.stats(box.state)
        assert driver.pids(box.state) == []

    def test_limits(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """Limits hold from the first instruction, and can be changed while it runs."""
        limits = Resources(
            memory=64 * MIB, memory_swap=64 * MIB, pids=20, cpu_quota=50_000, cpu_period=100_000
        )
        box = keeper.start("sleep", "1000", resources=limits)
        found = driver.stats(box.state)
        assert (found.memory_limit, found.pids_limit) == (64 * MIB, 20)
        driver.update(box.state, Resources(memory=128 * MIB, memory_swap=256 * MIB, pids=30))
        found = driver.stats(box.state)
        assert (found.memory_limit, found.pids_limit) == (128 * MIB, 30)
        with pytest.raises(InvalidRequest):
            driver.update(box.state, Resources(pids=40, cpuset_cpus="9999"))
        many = "for i in $(seq 50); do sleep 1000 </dev/null >/dev/null 2>&1 & done"
        assert b"fork" in keeper.exec(box, "sh", "-c", many).stderr

    def test_out_of_memory(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """A process that the kernel killed for lack of memory is told of; one that ended otherwise is not."""
        limits = Resources(memory=16 * MIB, memory_swap=16 * MIB)
        box = keeper.start("sh", "-c", "tail /dev/zero; echo $?; read end", resources=limits)
        assert keeper.read_until(box, b"\n") == b"137\n"
        assert driver.oom_killed(box.state)
        other = keeper.start("sleep", "1000", resources=limits)
        driver.kill(other.state, signal.SIGKILL, False)
        assert not driver.oom_killed(other.state)

    def test_facts(self, driver: Driver) -> None:
        """What it can do, and facts for `docker info`, are there without a container."""
        assert driver.capabilities().exec in (True, False)
        assert all(isinstance(value, str) for value in driver.info().values())
        assert isinstance(driver.owned(), list)

    # ---- nothing is left -------------------------------------------------------------------------------------------
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"user": "nobody-here"}, id="user"),
            pytest.param({"argv": ("a\0b",)}, id="argument"),
            pytest.param({"rlimits": (Rlimit(name="luck", soft=1, hard=1),)}, id="rlimit"),
            pytest.param({"seccomp": Seccomp(mode="custom", document="[]")}, id="seccomp"),
            pytest.param({"capabilities": Capabilities(bounding=("CAP_FLY",))}, id="capability"),
            pytest.param({"cwd": "/etc/passwd"}, id="cwd"),
            pytest.param({"sysctls": {"net.no.such": "1"}}, id="sysctl"),
            pytest.param({"resources": Resources(cpuset_cpus="9999")}, id="limit"),
            pytest.param({"device_rules": (DeviceRule(allow=True, kind="c", access=""),)}, id="device-rule"),
            pytest.param(
                {"mounts": (*MOUNTS, Mount(kind="tmpfs", target="/x", data="nonsense=1"))}, id="mount"
            ),
            pytest.param({"mounts": (*MOUNTS, Mount(kind="tmpfs", target="/etc/passwd"))}, id="target"),
            pytest.param({"hostname": "x" * 65}, id="hostname"),
            pytest.param(
                {"devices": (Device(path="/etc/passwd/x", kind="c", major=1, minor=3),)}, id="device"
            ),
        ],
    )
    def test_failed_start_leaves_nothing(self, keeper: PlayedKeeper, changes: dict[str, Any]) -> None:
        """A start that fails says why in a sentence of ours; no cgroup, process or descriptor is left."""
        keeper.run("true")
        before = (descriptors(), children())
        of_process = {
            key: changes[key]
            for key in changes
            if key in ("user", "argv", "rlimits", "seccomp", "capabilities", "cwd")
        }
        of_command = {key: changes[key] for key in changes if key not in of_process}
        argv = of_process.pop("argv", ("true",))
        with pytest.raises(WherryError) as caught:
            keeper.run(process=keeper.process(*argv, **of_process), **of_command)
        assert str(caught.value) and "Traceback" not in str(caught.value)
        assert cgroups_below(keeper.parent + "/containers") == []
        assert (descriptors(), children()) == before

    def test_failed_exec_leaves_nothing(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """An exec that fails leaves the container as it was."""
        box = keeper.start("sleep", "1000")
        keeper.exec(box, "true")
        before = (descriptors(), children(), driver.pids(box.state))
        changes: dict[str, Any]
        for name, changes in (
            ("true", {"user": "nobody-here"}),
            ("true", {"cwd": "/nowhere"}),
            ("true", {"rlimits": (Rlimit(name="luck", soft=1, hard=1),)}),
            ("true", {"seccomp": Seccomp(mode="custom", document="[]")}),
            ("nope", {}),
        ):
            with pytest.raises(WherryError):
                keeper.exec(box, name, **changes)
        assert (descriptors(), children(), driver.pids(box.state)) == before

    def test_many_starts_leak_nothing(self, keeper: PlayedKeeper, tmp_path: Path) -> None:
        """A hundred containers, each with an exec, leave no descriptor, process, cgroup or mount."""
        keeper.run("true")
        before = (descriptors(), children())
        for _ in range(100):
            box = keeper.start("sh", "-c", "read end")
            assert keeper.exec(box, "true").code == 0
            assert keeper.finish(box).code == 1
        assert (descriptors(), children()) == before
        assert cgroups_below(keeper.parent + "/containers") == []
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text("utf-8")

    def test_clean_is_idempotent(self, keeper: PlayedKeeper, driver: Driver) -> None:
        """To clean twice is to clean once."""
        box = keeper.start("true")
        keeper.finish(box)
        driver.clean(box.state)
        driver.clean(box.state)

    def test_start_is_fast(self, keeper: PlayedKeeper) -> None:
        """A start takes milliseconds (a generous bound: machines differ)."""
        keeper.run("true")
        fastest = DEADLINE
        for _ in range(10):
            began = time.monotonic()
            keeper.run("true")
            fastest = min(fastest, time.monotonic() - began)
        assert fastest < 1.0
