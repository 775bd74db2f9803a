"""`--userns-remap`: root of a container is nobody on the host, and everything works as it does without.

The daemons here see users and ranges of ids of their own in /etc, so that nothing of the host's is read or changed.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wherry.testing.daemon import WHERRY, Daemon, NetworkNamespace, eventually, leftovers

ETC = {
    "passwd": "root:x:0:0::/root:/bin/sh\ndockremap:x:995:995::/:/bin/false\nother:x:996:996::/:/bin/false\n",
    "group": "root:x:0:\ndockremap:x:995:\nother:x:996:\n",
    "subuid": "dockremap:200000:65536\nother:600000:1000\n",
    "subgid": "dockremap:300000:65536\n996:700000:1000\n",
}
MAP = "0 200000 65536"
OTHER_MAP = "0 600000 1000"


@pytest.fixture(scope="module")
def module_daemon(session_root: Path) -> Iterator[Daemon]:
    root = session_root / "remapped"
    root.mkdir()
    daemon = Daemon(root=root, net=NetworkNamespace.make(ETC), flags=("--userns-remap", "default")).start()
    daemon.image()
    yield daemon
    daemon.close()
    eventually(lambda: not leftovers(daemon), f"a clean end ({leftovers(daemon)})")
    daemon.net.close()


@pytest.fixture
def remapped(module_daemon: Daemon) -> Iterator[Daemon]:
    """A daemon with user namespaces; containers and volumes that a test leaves are removed."""
    yield module_daemon
    if names := module_daemon.docker("ps", "-aq").stdout.split():
        module_daemon.docker("rm", "-f", "-v", *names)


def uid_map(daemon: Daemon, *flags: str) -> str:
    return " ".join(daemon.ok("run", "--rm", *flags, "busybox", "cat", "/proc/self/uid_map").split())


def shell(daemon: Daemon, script: str, *flags: str) -> list[str]:
    """The lines that a script in a new container writes."""
    return daemon.ok("run", "--rm", *flags, "busybox", "sh", "-c", script).splitlines()


# ---- what it is ----------------------------------------------------------------------------------------------------
def test_containers_have_the_ids_of_a_user(remapped: Daemon) -> None:
    """Root inside is the first of the user's ids outside; `info` says that there are user namespaces."""
    assert "name=userns" in remapped.ok("info", "--format", "{{json .SecurityOptions}}")
    assert uid_map(remapped) == MAP
    remapped.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    status = Path(f"/proc/{remapped.inspect('one', '{{.State.Pid}}')}/status").read_text()
    assert re.search(r"Uid:\s+200000\s.*\nGid:\s+300000\s", status)
    assert remapped.ok("exec", "one", "id") == "uid=0(root) gid=0(root) groups=0(root)"
    assert remapped.ok("exec", "-u", "user", "one", "id", "-u") == "1000"


def test_a_container_may_do_without(remapped: Daemon) -> None:
    """`--userns=host` is as if the daemon had no remapping."""
    assert uid_map(remapped, "--userns=host").startswith("0 0 ")
    seen = shell(remapped, "head -c 0 /dev/kmsg && echo privileged", "--userns=host", "--privileged")
    assert seen == ["privileged"]
    assert uid_map(remapped, "--userns=host", "--network=host", "--pid=host", "--ipc=host").startswith("0 0 ")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--privileged"], "privileged mode is incompatible with user namespaces.  You must run the container in the host "
                           "namespace when running privileged mode"),
        (["--network", "host"], "cannot share the host's network namespace when user namespaces are enabled"),
        (["--pid", "host"], "cannot share the host PID namespace when user namespaces are enabled"),
        (["--ipc", "host"], "cannot share the host IPC namespace when user namespaces are enabled"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(remapped: Daemon, flags: list[str], words: str) -> None:
    """In dockerd's words, before anything is made."""
    answer = remapped.docker("run", "--rm", *flags, "busybox", "true")
    assert answer.returncode == 125
    assert words in answer.stderr
    assert remapped.ok("ps", "-aq") == ""


def test_each_container_has_its_own(remapped: Daemon) -> None:
    """Two containers are not in the same user namespace: neither has power over what is the other's."""
    for name in ("one", "two"):
        remapped.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
    seen = {
        remapped.ok("exec", name, "ls", "-l", "/proc/self/ns/user").split()[-1] for name in ("one", "two")
    }
    assert len(seen) == 2


def test_a_user_who_is_not_mapped_is_refused(remapped: Daemon) -> None:
    """With the number that has no id on the host."""
    answer = remapped.docker("run", "--rm", "-u", "70000", "busybox", "true")
    assert "user 70000 is not mapped in the container's user namespace" in answer.stderr


# ---- everything that shows files or joins others: issue 49 of TROUBLE ------------------------------------------------
def test_files_of_the_image_and_new_ones(remapped: Daemon) -> None:
    """They are shown and written as without; on the disk they are as in the image."""
    script = "for f in /home/user /tmp /etc/hosts /etc/resolv.conf; do ls -ldn $f; done; touch /new; chown 33:33 /new; ls -n /new"
    remapped.ok("run", "--name", "one", "-w", "/made/here", "busybox", "sh", "-c", f"{script}; ls -ldn .")
    seen = [line.split()[2:4] for line in remapped.ok("logs", "one").splitlines()]
    assert seen == [["1000", "1000"], ["0", "0"], ["0", "0"], ["0", "0"], ["33", "33"], ["0", "0"]]
    upper = Path(remapped.inspect("one", "{{.GraphDriver.Data.UpperDir}}"))
    assert ((upper / "new").stat().st_uid, (upper / "new").stat().st_gid) == (33, 33)
    assert (upper / "made" / "here").stat().st_uid == 0
    assert "A /new" in remapped.ok("diff", "one").splitlines()


def test_volumes(remapped: Daemon) -> None:
    """Named, anonymous and borrowed ones: owners inside are owners on the disk, also of what the image puts there."""
    flags = ("-v", "named:/home", "-v", "/anonymous", "--mount", "type=volume,src=third,dst=/third")
    script = "ls -ldn /home/user; for d in /home /anonymous /third; do touch $d/x; chown 33:34 $d/x; done"
    remapped.ok("run", "--name", "one", *flags, "busybox", "sh", "-c", script)
    assert remapped.ok("logs", "one").split()[2:4] == ["1000", "1000"]
    for source in remapped.inspect("one", "{{range .Mounts}}{{.Source}} {{end}}").split():
        found = (Path(source) / "x").stat()
        assert (found.st_uid, found.st_gid) == (33, 34)
    script = "for d in /home /anonymous /third; do ls -n $d/x && echo y >$d/y; done"
    seen = shell(remapped, script, "--volumes-from", "one")
    assert [line.split()[2:4] for line in seen] == [["33", "34"]] * 3
    # And so they are for a container that is not remapped.
    assert shell(remapped, "ls -n /v/x", "--userns=host", "-v", "named:/v")[0].split()[2:4] == ["33", "34"]


def test_binds_are_the_hosts(remapped: Daemon, tmp_path: Path) -> None:
    """What is bound shows the host's owners: nobody's, but for ids that are the container's. With `idmap`, as on the disk."""
    tmp_path.chmod(0o755)
    (tmp_path / "of-host").write_text("secret")
    (tmp_path / "of-host").chmod(0o600)
    (tmp_path / "of-container").mkdir()
    os.chown(tmp_path / "of-container", 200_000, 300_033)
    script = (
        "ls -ldn /b/of-host; ls -ldn /b/of-container; cat /b/of-host; touch /b/x; touch /b/of-container/x"
    )
    answer = remapped.docker("run", "--rm", "-v", f"{tmp_path}:/b", "busybox", "sh", "-c", script)
    seen = [line.split()[2:4] for line in answer.stdout.splitlines()]
    assert seen == [["65534", "65534"], ["0", "33"]]
    assert answer.stderr.count("Permission denied") == 2 and "secret" not in answer.stdout
    assert (tmp_path / "of-container" / "x").stat().st_uid == 200_000
    script = "ls -ldn /b/of-host; cat /b/of-host; echo; touch /b/x; ls -n /b/x"
    seen = shell(remapped, script, "-v", f"{tmp_path}:/b:idmap")
    assert [seen[0].split()[2:4], seen[1], seen[2].split()[2:4]] == [["0", "0"], "secret", ["0", "0"]]
    assert (tmp_path / "x").stat().st_uid == 0


def test_memory(remapped: Daemon) -> None:
    """tmpfs mounts belong to the container's root, or to whom they are given; /dev/shm and queues can be used."""
    script = "for d in /t /u /m /dev/shm; do ls -ldn $d; done; touch /t/x /m/x /dev/shm/x /dev/mqueue/x; df -k /dev/shm | tail -1"
    seen = shell(
        remapped, script, "--tmpfs", "/t", "--tmpfs", "/u:uid=5,gid=6,mode=0700", "--mount", "type=tmpfs,dst=/m",
        "--shm-size", "3m",
    )  # fmt: skip
    assert [line.split()[2:4] for line in seen[:4]] == [["0", "0"], ["5", "6"], ["0", "0"], ["0", "0"]]
    assert seen[4].split()[1] == "3072"


def test_namespaces_of_another(remapped: Daemon) -> None:
    """Who joins a network or pid namespace is in the same user namespace, and may do there what its owner may."""
    remapped.ok("run", "-d", "--name", "owner", "busybox", "sleep", "1000")
    owner = remapped.ok("exec", "owner", "ls", "-l", "/proc/self/ns/user").split()[-1]
    address = remapped.inspect("owner", "{{.NetworkSettings.Networks.bridge.IPAddress}}")
    script = "ls -l /proc/self/ns/user; ip addr add 10.9.9.9/32 dev eth0; ip -4 -o addr show dev eth0"
    seen = shell(remapped, script, "--network", "container:owner", "--cap-add", "NET_ADMIN")
    assert seen[0].split()[-1] == owner
    assert address in seen[1] and "10.9.9.9" in seen[2]
    script = "ls -l /proc/self/ns/user; cat /proc/1/comm; ls /proc/1/root/bin/busybox; ping -c 1 127.0.0.1 | grep -c ' 0%'"
    seen = shell(remapped, script, "--pid", "container:owner", "--cap-add", "SYS_PTRACE")
    assert [seen[0].split()[-1], *seen[1:]] == [owner, "sleep", "/proc/1/root/bin/busybox", "1"]
    # And who is not remapped may as well.
    assert address in "".join(
        shell(remapped, "ip -4 -o addr show dev eth0", "--network", "container:owner", "--userns=host")
    )


def test_memory_of_another(remapped: Daemon) -> None:
    """A shareable ipc is joined, and taken back, within one user namespace; it belongs to the container's root."""
    remapped.ok("run", "-d", "--name", "owner", "--ipc", "shareable", "busybox", "sleep", "1000")
    remapped.ok("run", "-d", "--name", "sharer", "--ipc", "container:owner", "busybox", "sleep", "1000")
    for name in ("owner", "sharer"):
        remapped.ok("exec", "-u", "33", name, "touch", f"/dev/shm/{name}", f"/dev/mqueue/{name}")
    remapped.ok("restart", "-t", "0", "owner")
    script = "ls -ldn /dev/shm; ls /dev/shm /dev/mqueue; ls -l /proc/self/ns/user /proc/self/ns/ipc"
    seen = {name: remapped.ok("exec", name, "sh", "-c", script).splitlines() for name in ("owner", "sharer")}
    assert seen["owner"][0].split()[2:4] == ["0", "0"]
    assert seen["owner"].count("owner") == seen["owner"].count("sharer") == 2
    assert [line.split()[-1] for line in seen["owner"][-2:]] == [
        line.split()[-1] for line in seen["sharer"][-2:]
    ]


@pytest.mark.parametrize("kind", ["network", "pid", "ipc"])
def test_the_hosts_namespaces_are_not_reached_by_way_of_another(remapped: Daemon, kind: str) -> None:
    """Not through a container that does without a user namespace, nor through one that joined that."""
    flags = ("--userns=host", "busybox", "sleep", "1000")
    remapped.ok("run", "-d", "--name", "hosted", f"--{kind}=host", *flags)
    remapped.ok("run", "-d", "--name", "middle", f"--{kind}=container:hosted", *flags)
    for name in ("hosted", "middle"):
        answer = remapped.docker("run", "--rm", f"--{kind}=container:{name}", "busybox", "true")
        assert answer.returncode == 125
        assert "cannot share the host" in answer.stderr, answer


def test_a_network_of_one_who_is_not_remapped(remapped: Daemon) -> None:
    """It can be used, and not changed: it belongs to the host."""
    remapped.ok("run", "-d", "--name", "owner", "--userns=host", "busybox", "sleep", "1000")
    script = "ip addr add 10.9.9.9/32 dev eth0 2>/dev/null || echo no; wget -q -O - http://127.0.0.1:1 2>&1; cat /proc/self/uid_map"
    seen = shell(remapped, script, "--network", "container:owner", "--cap-add", "NET_ADMIN")
    assert seen[0] == "no" and "refused" in seen[1] and " ".join(seen[2].split()) == MAP


def test_proc(remapped: Daemon) -> None:
    """/proc shows the container's processes only; with SYS_ADMIN it is still not mounted anew without what hides it."""
    script = "ls -d /proc/[0-9]* | wc -l; umount /proc/keys; mkdir /p; mount -t proc proc /p || echo denied; cat /proc/keys"
    answer = remapped.docker(
        "run", "--rm", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "busybox", "sh", "-c", script
    )  # fmt: skip
    assert int(answer.stdout.split()[0]) <= 3
    assert answer.stdout.split()[1:] == ["denied"], answer


def test_copies(remapped: Daemon, tmp_path: Path) -> None:
    """`cp` out of a container and into it, and `export`, have the owners of inside, whether it runs or not."""
    script = "mkdir /d; touch /d/root /d/user; chown 1000:33 /d/user; sleep 1000"
    remapped.ok(
        "run", "-d", "--name", "one", "-v", "named:/v", "--tmpfs", "/t", "busybox", "sh", "-c", script
    )
    eventually(lambda: "user" in remapped.docker("exec", "one", "ls", "/d").stdout, "the files")
    inside = io.BytesIO()
    with tarfile.open(fileobj=inside, mode="w") as archive:
        for name, uid, gid in (("a", 0, 0), ("b", 33, 34)):
            member = tarfile.TarInfo(name)
            member.uid, member.gid = uid, gid
            archive.addfile(member)
    for state in ("running", "stopped"):
        if state == "stopped":
            remapped.ok("stop", "-t", "0", "one")
        out = subprocess.run(
            ["docker", "cp", "one:/d", "-"], env=remapped.client_environment, capture_output=True, check=True
        )
        assert owners(out.stdout)["d/user"] == (1000, 33) and owners(out.stdout)["d/root"] == (0, 0)
        places = ["/d", "/v", "/t"] if state == "running" else ["/d", "/v"]
        for place in places:
            subprocess.run(
                ["docker", "cp", "-a", "-", f"one:{place}"],
                env=remapped.client_environment, input=inside.getvalue(), check=True,
            )  # fmt: skip
            out = subprocess.run(
                ["docker", "cp", f"one:{place}", "-"], env=remapped.client_environment, capture_output=True, check=True
            )  # fmt: skip
            name = place.strip("/")
            assert owners(out.stdout)[f"{name}/b"] == (33, 34), place
            if state == "running":
                seen = remapped.ok("exec", "one", "ls", "-n", f"{place}/a", f"{place}/b").splitlines()
                assert [line.split()[2:4] for line in seen] == [["0", "0"], ["33", "34"]]
        whole = subprocess.run(
            ["docker", "export", "one"], env=remapped.client_environment, capture_output=True, check=True
        )
        found = owners(whole.stdout)
        assert (found["d/user"], found["bin/busybox"], found["d/b"]) == ((1000, 33), (0, 0), (33, 34))
    remapped.ok("start", "one")
    assert remapped.ok("exec", "one", "ls", "-n", "/d/b").split()[2:4] == ["33", "34"]


def owners(archive: bytes) -> dict[str, tuple[int, int]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        return {member.name.rstrip("/"): (member.uid, member.gid) for member in members}


def test_the_usual_things(remapped: Daemon) -> None:
    """Published ports, terminals, an init, a read-only root, sysctls and limits work as without."""
    remapped.ok(
        "run", "-d", "--name", "web", "-p", "8080:80", "--init", "--read-only", "--tmpfs", "/www", "-u", "user",
        "--sysctl", "kernel.msgmax=12345", "--ulimit", "nofile=100:200", "busybox",
        "sh", "-c", "echo page >/www/index.html; exec httpd -f -p 80 -h /www",
    )  # fmt: skip
    eventually(lambda: remapped.net.fetch("http://127.0.0.1:8080/") == "page\n", "the page")
    assert remapped.ok("exec", "web", "cat", "/proc/sys/kernel/msgmax") == "12345"
    assert remapped.ok("exec", "web", "sh", "-c", "ulimit -Hn; cat /proc/1/comm").split() == [
        "200",
        "docker-init",
    ]
    assert "httpd" in remapped.ok("top", "web")
    terminal = subprocess.run(
        ["script", "-qec", "docker exec -it web sh -c 'tty; test -O $(tty) && echo own'", "/dev/null"],
        env=remapped.client_environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "/dev/pts/0" in terminal.stdout and "own" in terminal.stdout, terminal


# ---- through the daemon's ends and changes --------------------------------------------------------------------------
def test_containers_outlive_the_daemon(make_daemon: Callable[..., Daemon]) -> None:
    """Killed and started again, it has them back; without remapping or with another they keep theirs until they restart."""
    daemon = make_daemon(net=NetworkNamespace.make(ETC)).start("--userns-remap", "dockremap")
    daemon.image()
    daemon.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    daemon.ok("run", "-d", "--name", "sharer", "--network", "container:one", "busybox", "sleep", "1000")
    daemon.ok("exec", "-u", "33", "one", "touch", "/tmp/x")
    for flags in (["--userns-remap", "dockremap"], [], ["--userns-remap", "other:996"]):
        daemon.kill()
        daemon.start(*flags)
        assert daemon.ok("exec", "one", "cat", "/proc/self/uid_map").split() == MAP.split()
        assert daemon.ok("exec", "one", "ls", "-n", "/tmp/x").split()[2] == "33"
        out = subprocess.run(
            ["docker", "cp", "one:/tmp/x", "-"],
            env=daemon.client_environment,
            capture_output=True,
            check=True,
        )
        assert owners(out.stdout) == {"x": (33, 33)}
    # Its network is that of the one that runs on: its user namespace as well.
    daemon.ok("restart", "-t", "0", "one")
    assert daemon.ok("exec", "one", "cat", "/proc/self/uid_map").split() == MAP.split()
    daemon.ok("stop", "-t", "0", "one", "sharer")
    daemon.ok("start", "one")
    assert daemon.ok("exec", "one", "cat", "/proc/self/uid_map").split() == OTHER_MAP.split()
    assert daemon.ok("exec", "one", "ls", "-n", "/tmp/x").split()[2] == "33"
    assert daemon.stop() == 0
    daemon.start()
    daemon.ok("restart", "-t", "0", "one")
    assert daemon.ok("exec", "one", "ls", "-n", "/tmp/x").split()[2] == "33"
    assert daemon.ok("exec", "one", "cat", "/proc/self/uid_map").split()[1] == "0"


def test_a_configuration_that_came_later_is_obeyed(make_daemon: Callable[..., Daemon]) -> None:
    """A container from before, that shares the host's network, is not started as if nothing had been asked for."""
    daemon = make_daemon(net=NetworkNamespace.make(ETC)).start()
    daemon.image()
    daemon.ok("create", "--name", "one", "--network", "host", "busybox", "true")
    assert daemon.stop() == 0
    (daemon.root / "daemon.json").write_text('{"userns-remap": "other:dockremap"}')
    daemon.start("--config-file", str(daemon.root / "daemon.json"))
    answer = daemon.docker("start", "one")
    assert "cannot share the host's network namespace when user namespaces are enabled" in answer.stderr
    assert uid_map(daemon) == OTHER_MAP


def test_with_vfs(make_daemon: Callable[..., Daemon]) -> None:
    """A storage driver of plain directories."""
    daemon = make_daemon("-s", "vfs", "--userns-remap", "default", net=NetworkNamespace.make(ETC)).start()
    daemon.image()
    seen = shell(daemon, "ls -ldn /home/user; touch /x; ls -n /x; cat /proc/self/uid_map")
    assert [line.split()[2:4] for line in seen[:2]] == [["1000", "1000"], ["0", "0"]]
    assert " ".join(seen[2].split()) == MAP


def test_the_default_user_is_made(make_daemon: Callable[..., Daemon]) -> None:
    """`default` on a host without dockremap: made, with ranges above all that are taken."""
    passwd = ETC["passwd"].replace("dockremap", "somebody")
    ranges = "somebody:100000:65536\nother:300000:70000\n"
    etc = {
        **ETC,
        "passwd": passwd,
        "group": ETC["group"].replace("dockremap", "somebody"),
        "subuid": ranges,
        "subgid": ranges,
    }
    daemon = make_daemon("--userns-remap", "default", net=NetworkNamespace.make(etc)).start()
    daemon.image()
    assert uid_map(daemon) == "0 370000 65536"
    assert "dockremap:370000:65536" in daemon.net.run("cat", "/etc/subuid", "/etc/subgid").stdout
    assert "dockremap" in daemon.net.run("getent", "passwd", "dockremap").stdout


@pytest.mark.parametrize(
    ("remap", "words"),
    [
        ("nobody-here", 'Error during uid lookup for "nobody-here"'),
        ("4711", "Uid 4711 has no entry in /etc/passwd"),
        ("a:b:c", "invalid user/group specification in --userns-remap"),
        ("other:dockremap:", "invalid user/group specification"),
        ("root:dockremap", None),
    ],
)
def test_what_is_wrong_is_said_at_once(tmp_path: Path, remap: str, words: str | None) -> None:
    """The daemon does not start, with one line that says why; root itself is no remapping, and that is said."""
    net = NetworkNamespace.make(ETC)
    try:
        argv = [
            str(WHERRY),
            "daemon",
            "--userns-remap",
            remap,
            "-H",
            f"unix://{tmp_path}/sock",
            "--bridge",
            "none",
        ]
        argv += ["--data-root", str(tmp_path / "data"), "--exec-root", str(tmp_path / "exec")]
        with subprocess.Popen([*net.prefix, *argv], stderr=subprocess.PIPE, text=True) as daemon:
            if words is None:
                assert daemon.stderr is not None
                eventually(
                    lambda: "user namespaces are OFF" in (daemon.stderr.readline() if daemon.stderr else "")
                )
                daemon.terminate()
                daemon.communicate(timeout=30)
                return
            _, said = daemon.communicate(timeout=60)
        assert daemon.returncode == 2
        assert words in said and len(said.splitlines()) == 1
    finally:
        net.close()
