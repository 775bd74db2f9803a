"""What an exec driver that says `user_namespaces` is held to: part of `ExecDriverContract`.

Root of the container is somebody of no rights on the host; everything that is the container's is his, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from wherry.errors import StartFailed, WherryError
from wherry.linux import capabilities, mapped, mounts, namespaces, processes, user_namespaces
from wherry.spec.command import (
    Capabilities,
    Command,
    Device,
    IdMap,
    IdMaps,
    Mount,
    Namespace,
    Namespaces,
    Rlimit,
    Seccomp,
)
from wherry.testing.containers import (
    MOUNTS,
    Driver,
    MakeRootfs,
    PlayedKeeper,
    children,
    descriptors,
    lines,
    poll,
)

MAPS: Final = IdMaps(
    uids=(IdMap(inside=0, outside=200_000, size=65536),), gids=(IdMap(inside=0, outside=300_000, size=65536),)
)
HOST: Final = Namespace(kind="host")
_OWN: Final = Namespace()


def entries(maps: tuple[IdMap, ...]) -> list[tuple[int, int, int]]:
    return [(each.inside, each.outside, each.size) for each in maps]


class UserNamespacesContract:
    """Tests with a user namespace; `ExecDriverContract` inherits them. They need its fixtures."""

    @pytest.fixture
    def userns(self, driver: Driver) -> Iterator[int]:
        if not driver.capabilities().user_namespaces:
            pytest.skip("this driver has no user namespaces, and says so")
        (held,) = user_namespaces.make(entries(MAPS.uids), entries(MAPS.gids))
        yield held
        os.close(held)

    @pytest.fixture
    def mapped_rootfs(self, busybox: Path, tmp_path: Path, userns: int) -> MakeRootfs:
        """As `rootfs`, with the owners mapped."""
        here = tmp_path / "mapped"

        def make(prepare: Any = None) -> int:
            place = here / str(len(list(here.iterdir())) if here.exists() else 0)
            for name in ("upper", "work"):
                (place / name).mkdir(parents=True)
            if prepare is not None:
                prepare(place / "upper")
            return mapped.overlay([busybox], place / "upper", place / "work", userns=userns, owner=MAPS.root)

        return make

    @pytest.fixture
    def mapped_keeper(self, driver: Driver, mapped_rootfs: MakeRootfs, userns: int) -> Iterator[MappedKeeper]:
        driver.warm()
        with MappedKeeper(driver, mapped_rootfs, userns) as keeper:
            yield keeper

    # ---- who is who ------------------------------------------------------------------------------------------------
    @pytest.mark.parametrize("kind", ["own", "joined"])
    def test_userns_root_is_nobody_outside(self, mapped_keeper: MappedKeeper, kind: str) -> None:
        """With a namespace that the driver makes, or one handed over: 0 inside is the mapped id on the host."""
        mapped_keeper.kind = kind
        box = mapped_keeper.start("sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; id; read end")
        seen = list(lines(mapped_keeper.read_until(box, b"uid=")))
        assert [line.split() for line in seen[:2]] == [["0", "200000", "65536"], ["0", "300000", "65536"]]
        assert seen[2].startswith("uid=0(root) gid=0(root)")
        status = Path(f"/proc/{box.pid}/status").read_text()
        assert re.search(r"Uid:\s+200000\s+200000\s+200000\s+200000\nGid:\s+300000\s+300000\s+300000", status)

    def test_userns_owns_the_namespaces(self, mapped_keeper: MappedKeeper) -> None:
        """Every namespace of the container's own belongs to its user namespace; an exec is in all of them."""
        box = mapped_keeper.start("sleep", "1000")
        inner = mapped_keeper.prepare_exec(box, mapped_keeper.process("sleep", "1000"))
        inner.started.release()
        user = namespaces.identity_of(box.pid, "user")
        for kind in ("mnt", "pid", "net", "ipc", "uts", "cgroup"):
            held = namespaces.open_namespace(box.pid, kind)
            owner = user_namespaces.owner(held)
            assert namespaces.identity(owner) == user, kind
            os.close(owner)
            os.close(held)
        for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
            assert namespaces.identity_of(inner.pid, kind) == namespaces.identity_of(box.pid, kind), kind
        mapped_keeper.end(inner)

    def test_userns_files_belong_to_their_owners(
        self, mapped_keeper: MappedKeeper, mapped_rootfs: MakeRootfs, tmp_path: Path
    ) -> None:
        """Files of the image show the owners they have in it, and what is written is on the disk as it is inside."""
        kept: list[Path] = []

        def prepare(root: Path) -> None:
            kept.append(root)
            (root / "of-alice").write_text("")
            os.chown(root / "of-alice", 1000, 44)

        script = (
            "ls -ln /of-alice; ls -ln /bin/busybox; touch /new; chown 1000:50 /new; mkdir -p /home/alice; chown alice /home/alice;"
            "su alice -c 'touch /home/alice/mine; echo x 2>/dev/null >/of-root || echo denied'"
        )
        result = mapped_keeper.shell(script, root=mapped_rootfs(prepare))
        assert result.stderr == b""
        seen = [line.split() for line in lines(result.stdout)]
        assert [line[2:4] for line in seen[:2]] == [["1000", "44"], ["0", "0"]]
        assert seen[-1] == ["denied"]
        (root,) = kept
        found = {name: (root / name).stat() for name in ("new", "home/alice", "home/alice/mine")}
        assert {name: (s.st_uid, s.st_gid) for name, s in found.items()} == {
            "new": (1000, 50),
            "home/alice": (1000, 0),
            "home/alice/mine": (1000, 1000),
        }

    @pytest.mark.parametrize(
        ("user", "groups", "expected"),
        [("", (), "0 0 0"), ("alice", ("50",), "1000 1000 1000 29 44 50"), ("4711:12", (), "4711 12 12")],
    )
    def test_userns_user(
        self, mapped_keeper: MappedKeeper, user: str, groups: tuple[str, ...], expected: str
    ) -> None:
        """Users and groups are those of the container; both process 1 and an exec can open their streams by name."""
        script = "echo $(id -u) $(id -g) $(id -G) >/dev/stdout; echo end"
        process = mapped_keeper.process("sh", "-c", f"{script}; read end", user=user, groups=groups)
        box = mapped_keeper.start(process=process)
        assert mapped_keeper.read_until(box, b"end").decode().split()[:-1] == expected.split()
        result = mapped_keeper.exec(box, "sh", "-c", script, user=user, groups=groups)
        assert result.stdout.decode().split()[:-1] == expected.split(), result.stderr

    def test_userns_user_who_is_not_mapped(self, mapped_keeper: MappedKeeper) -> None:
        """An id that the namespace does not have is refused by its number, for an exec too."""
        box = mapped_keeper.start("sleep", "1000")
        for changes in ({"user": "70000"}, {"user": "0:70000"}, {"groups": ("70000",)}):
            with pytest.raises(StartFailed, match="70000 is not mapped"):
                mapped_keeper.run(process=mapped_keeper.process("true", **changes))
            with pytest.raises(StartFailed, match="70000 is not mapped"):
                mapped_keeper.exec(box, "true", **changes)

    def test_userns_programs_of_an_image(
        self, mapped_keeper: MappedKeeper, mapped_rootfs: MakeRootfs, busybox: Path
    ) -> None:
        """Set-user-id programs and files with capabilities work as they do without a user namespace."""
        raw = 1 << capabilities.BITS["CAP_NET_RAW"]

        def prepare(root: Path) -> None:
            (root / "bin").mkdir()
            for name in ("ping", "cat"):
                (root / "bin" / name).write_bytes((busybox / "bin" / "busybox").read_bytes())
                (root / "bin" / name).chmod(0o755)
            (root / "bin" / "ping").chmod(0o4755)
            attribute = struct.pack("<5I", 0x02000001, raw, 0, 0, 0)
            os.setxattr(root / "bin" / "cat", "security.capability", attribute)

        script = "/bin/ping -c 1 127.0.0.1; /bin/cat /proc/self/status"
        process = mapped_keeper.process("sh", "-c", script, user="alice")
        result = mapped_keeper.run(process=process, root=mapped_rootfs(prepare))
        assert b" 0% packet loss" in result.stdout, result
        assert f"CapEff:\t{raw:016x}".encode() in result.stdout

    # ---- what it may -----------------------------------------------------------------------------------------------
    def test_userns_confinement(self, mapped_keeper: MappedKeeper) -> None:
        """Docker's capabilities and filter, for process 1 and an exec, with no-new-privileges too."""
        for no_new in (False, True):
            process = mapped_keeper.process(
                "sh", "-c", "cat /proc/self/status; echo; read end", no_new_privileges=no_new
            )
            box = mapped_keeper.start(process=process)
            first = mapped_keeper.read_until(box, b"\n\n")
            second = mapped_keeper.exec(box, "cat", "/proc/self/status", no_new_privileges=no_new).stdout
            for found in (first, second):
                assert found.count(b"00000000a80425fb") == 3
                assert b"Seccomp:\t2" in found and f"NoNewPrivs:\t{no_new:d}".encode() in found

    def test_userns_has_no_power_outside(self, mapped_keeper: MappedKeeper, tmp_path: Path) -> None:
        """Not even with every capability, and no filter: devices, the host's files, its clock, its name."""
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "secret").chmod(0o600)
        bind = mounts.bind(tmp_path / "secret")
        everything = capabilities.NAMES[: capabilities.last() + 1]
        process = mapped_keeper.process(
            "sh",
            "-c",
            "for act in 'cat /host' 'mknod /d c 1 3' 'chown 0 /host' 'mount -o remount,rw /sys' 'umount /proc/keys' dmesg"
            " 'sysctl -w kernel.panic=1' 'hostname -F /host'; do $act >/dev/null 2>&1 && echo $act; done",
            capabilities=Capabilities(bounding=everything, effective=everything, permitted=everything),
            seccomp=Seccomp(mode="unconfined"),
        )
        mount = Mount(kind="bind", target="/host", descriptor=bind, is_directory=False)
        try:
            result = mapped_keeper.run(process=process, mounts=(*MOUNTS, mount))
        finally:
            os.close(bind)
        assert (result.stdout, result.stderr) == (b"", b""), result

    def test_userns_may_mount_of_its_own(self, mapped_keeper: MappedKeeper) -> None:
        """With CAP_SYS_ADMIN it mounts what is its own, and takes that away; what it was given stays."""
        sets = Capabilities(
            bounding=(*capabilities.DEFAULT, "CAP_SYS_ADMIN"),
            effective=(*capabilities.DEFAULT, "CAP_SYS_ADMIN"),
            permitted=(*capabilities.DEFAULT, "CAP_SYS_ADMIN"),
        )
        script = (
            "mount -t tmpfs mine /tmp && touch /tmp/x && umount /tmp && echo mine;"
            "umount /dev/shm || echo stays; mount -o remount,rw /proc/sys || echo read-only; hostname other; hostname"
        )
        process = mapped_keeper.process("sh", "-c", script, capabilities=sets)
        result = mapped_keeper.run(process=process)
        assert list(lines(result.stdout)) == ["mine", "stays", "read-only", "other"], result.stderr

    def test_userns_devices_and_places(self, mapped_keeper: MappedKeeper) -> None:
        """Devices work and belong to whom they were given; memory, terminals and queues belong to the container's root."""
        script = (
            "head -c 3 /dev/zero | wc -c; echo gone >/dev/null; ls -ln /dev/given /dev/null; ls -ldn /dev /dev/shm /dev/mqueue /t;"
            "touch /dev/shm/x /dev/mqueue/x; ls -n /dev/shm/x; grep devpts /proc/mounts"
        )
        result = mapped_keeper.shell(
            script,
            devices=(Device(path="/dev/given", kind="c", major=1, minor=3, mode=0o640, uid=3, gid=4),),
            mounts=(*MOUNTS, Mount(kind="tmpfs", target="/t", data="uid=5,gid=6,mode=700")),
        )
        assert result.stderr == b""
        out = list(lines(result.stdout))
        assert out[0] == "3"
        owners = {line.split()[-1]: line.split()[2:4] for line in out[1:-1]}
        assert owners == {
            "/dev/given": ["3", "4"],
            "/dev/null": ["0", "0"],
            "/dev": ["0", "0"],
            "/dev/shm": ["0", "0"],
            "/dev/mqueue": ["0", owners["/dev/mqueue"][1]],
            "/t": ["5", "6"],
            "/dev/shm/x": ["0", "0"],
        }
        assert "gid=300005" in out[-1]

    def test_userns_network_is_its_own(self, mapped_keeper: MappedKeeper) -> None:
        """It may send raw packets and, given NET_ADMIN, change its network; one that it joined is changed no more than
        its owner allows."""
        sets = Capabilities(
            bounding=(*capabilities.DEFAULT, "CAP_NET_ADMIN"),
            effective=(*capabilities.DEFAULT, "CAP_NET_ADMIN"),
            permitted=(*capabilities.DEFAULT, "CAP_NET_ADMIN"),
        )
        process = mapped_keeper.process(
            "sh",
            "-c",
            "ping -c 1 127.0.0.1 | grep -c ' 0% packet loss'; ip addr add 10.1.1.1/8 dev lo && echo own",
            capabilities=sets,
        )
        result = mapped_keeper.run(process=process)
        assert list(lines(result.stdout)) == ["1", "own"], result.stderr
        user, net = user_namespaces.make([(0, 500_000, 10)], [(0, 500_000, 10)], ("net",))
        os.close(user)
        try:
            joined = Namespace(kind="joined", descriptor=net)
            result = mapped_keeper.run(process=process, namespaces=mapped_keeper.namespaces(net=joined))
        finally:
            os.close(net)
        assert b"own" not in result.stdout

    def test_userns_sysctls(self, mapped_keeper: MappedKeeper) -> None:
        """Sysctls of its namespaces are set, whoever of the two roots the kernel wants for that."""
        script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/fs/mqueue/msg_max"
        wanted = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345", "fs.mqueue.msg_max": "11"}
        assert mapped_keeper.shell(script, sysctls=wanted).stdout == b"1\n12345\n11\n"

    def test_userns_rlimits(self, mapped_keeper: MappedKeeper) -> None:
        """Limits that nobody inside could raise, and few descriptors, are set all the same; for an exec too."""
        wanted = (Rlimit(name="nofile", soft=10, hard=10), Rlimit(name="core", soft=0, hard=-1))
        script = "ulimit -Hn; ulimit -Hc; echo end"
        box = mapped_keeper.start(
            process=mapped_keeper.process("sh", "-c", f"{script}; read end", rlimits=wanted)
        )
        assert mapped_keeper.read_until(box, b"end") == b"10\nunlimited\nend\n"
        assert mapped_keeper.exec(box, "sh", "-c", script, rlimits=wanted).stdout == b"10\nunlimited\nend\n"

    # ---- terminals, sharing, ends ----------------------------------------------------------------------------------
    def test_userns_terminal(self, mapped_keeper: MappedKeeper) -> None:
        """A terminal that is the user's and has a name, for process 1 and an exec, whoever the user is."""
        script = "stty size; tty; echo direct >/dev/tty; test -w /dev/console && echo console; test -O $(tty) && echo own; echo end"
        for user in ("", "alice"):
            process = mapped_keeper.process(
                "sh", "-c", f"{script}; read end", tty=True, console_size=(33, 99), user=user
            )
            box = mapped_keeper.start(process=process)
            expected = ["33 99", "/dev/pts/0", "direct", "console", "own", "end"]
            assert list(lines(mapped_keeper.read_until(box, b"end"))) == expected
            process = mapped_keeper.process("sh", "-c", script, tty=True, console_size=(33, 99), user=user)
            inner = mapped_keeper.prepare_exec(box, process)
            inner.started.release()
            seen = list(lines(mapped_keeper.finish(inner).stdout))
            assert seen[:3] == ["33 99", "/dev/pts/1", "direct"] and seen[-2:] == ["own", "end"]
            mapped_keeper.end(box)

    def test_userns_without_a_null_device(self, mapped_keeper: MappedKeeper) -> None:
        """An exec with nothing to read has a null device where the container has taken its own away."""
        box = mapped_keeper.start("sh", "-c", "rm /dev/null; echo gone; sleep 1000")
        mapped_keeper.read_until(box, b"gone")
        assert mapped_keeper.exec(box, "sh", "-c", "ls /dev/null || echo in").stdout == b"in\n"

    def test_userns_shared(self, mapped_keeper: MappedKeeper) -> None:
        """Who joins all namespaces of another, the user's too, may signal and look into its processes."""
        owner = mapped_keeper.start("sleep", "1000")
        opened = {
            kind: namespaces.open_namespace(owner.pid, kind) for kind in ("net", "ipc", "pid", "uts", "user")
        }
        try:
            joined: dict[str, Any] = {
                kind: Namespace(kind="joined", descriptor=fd) for kind, fd in opened.items()
            }
            box = mapped_keeper.start(
                "sh",
                "-c",
                "hostname; ls -l /proc/1/fd >/dev/null && cat /proc/1/comm; ls -ldn /proc/1 | cut -c 1-30; echo end; read end",
                namespaces=Namespaces(**joined, id_maps=MAPS),
            )
            seen = list(lines(mapped_keeper.read_until(box, b"end")))
            assert seen[:2] == [owner.command.hostname, "sleep"]
            assert mapped_keeper.exec(box, "kill", "-0", "1").code == 0
            mapped_keeper.end(box)
        finally:
            for fd in opened.values():
                os.close(fd)

    @pytest.mark.parametrize("pid", [_OWN, HOST], ids=["own", "host"])
    def test_userns_ends_with_its_keeper(
        self, mapped_keeper: MappedKeeper, driver: Driver, pid: Namespace
    ) -> None:
        """The change of ids and namespaces does not make process 1 outlive who started it."""
        reader, writer = os.pipe()
        command = mapped_keeper.command("sleep", "1000", namespaces=mapped_keeper.namespaces(pid=pid))
        played = os.fork()
        if played == 0:
            try:
                box = mapped_keeper.prepare(command)
                box.started.release()
                os.write(writer, json.dumps(dict(box.state)).encode())
                signal.pause()
            finally:
                os._exit(1)
        os.close(writer)
        os.close(command.rootfs)
        state = json.loads(os.read(reader, 4096))
        os.close(reader)
        number, started = int(state["pid"]), int(state["start_time"])
        os.kill(played, signal.SIGKILL)
        os.waitpid(played, 0)
        poll(lambda: not processes.is_alive(number, started), "the container outlives its keeper")
        os.waitpid(number, 0)
        driver.kill(state, signal.SIGKILL, True)
        driver.clean(state)

    def test_userns_exec_gives_nothing_away(self, mapped_keeper: MappedKeeper) -> None:
        """At its barrier an exec cannot be looked into from inside, though it is of the same user namespace."""
        box = mapped_keeper.start("sleep", "1000")
        inner = mapped_keeper.prepare_exec(box, mapped_keeper.process("true"))
        script = "for p in /proc/[0-9]*; do cat $p/environ >/dev/null || echo $p; ls -l $p/fd/ 2>&1; done"
        assert b"socket" not in mapped_keeper.exec(box, "sh", "-c", script).stdout
        mapped_keeper.end(inner)

    def test_userns_leaves_nothing(self, mapped_keeper: MappedKeeper) -> None:
        """Starts that succeed and starts that fail, with execs: no descriptor, process or user namespace is left."""
        mapped_keeper.run("true")
        before = (descriptors(), children())
        for changes in ({}, {"user": "nobody-here"}, {"cwd": "/etc/passwd"}, {"argv": ("nope",)}):
            for kind in ("own", "joined"):
                mapped_keeper.kind = kind
                argv = changes.get("argv", ("true",))
                of_process = {key: value for key, value in changes.items() if key != "argv"}
                try:
                    mapped_keeper.run(process=mapped_keeper.process(*argv, **of_process))
                except WherryError:
                    assert changes
                assert (descriptors(), children()) == before
        box = mapped_keeper.start("sleep", "1000")
        mapped_keeper.exec(box, "true")
        mapped_keeper.end(box)
        assert (descriptors(), children()) == before


class MappedKeeper(PlayedKeeper):
    """Its containers have a user namespace."""

    def __init__(self, driver: Driver, rootfs: MakeRootfs, userns: int) -> None:
        super().__init__(driver, rootfs)
        self.userns = userns
        self.kind = "joined"

    def __enter__(self) -> MappedKeeper:
        super().__enter__()
        return self

    def namespaces(self, **changes: Any) -> Namespaces:
        user = (
            Namespace(kind="own") if self.kind == "own" else Namespace(kind="joined", descriptor=self.userns)
        )
        given: dict[str, Any] = {"user": user, "id_maps": MAPS, **changes}
        return Namespaces(**given)

    def command(self, *argv: str, **changes: Any) -> Command:
        changes.setdefault("namespaces", self.namespaces())
        return super().command(*argv, **changes)
