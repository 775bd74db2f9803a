"""Containers find each other by name, from outside: the docker program, real lookups, daemons that are killed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from wherry.testing.daemon import Daemon, eventually

SLEEP = ("busybox", "sleep", "1000")


@pytest.fixture
def net(daemon: Daemon) -> Iterator[Callable[..., str]]:
    """Makes networks, which are removed with all that is in them."""
    made: list[str] = []

    def make(name: str, *flags: str) -> str:
        daemon.ok("network", "create", *flags, name)
        made.append(name)
        return name

    yield make
    containers = daemon.docker("ps", "-aq").stdout.split()
    if containers:
        daemon.docker("rm", "-f", *containers)
    for name in made:
        daemon.docker("network", "rm", name)


def lookup(daemon: Daemon, container: str, name: str) -> set[str]:
    """The addresses that a container finds for a name."""
    said = daemon.docker("exec", container, "nslookup", name).stdout
    return set(re.findall(r"^Address: (\S+)$", said, re.MULTILINE))


def address(daemon: Daemon, container: str, network: str) -> str:
    return daemon.inspect(container, f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}')


def test_names_follow_containers(daemon: Daemon, net: Callable[..., str]) -> None:
    """Start, stop, alias, rename, connect, disconnect; also while the daemon is dead, and with the next one."""
    net("one")
    net("two")
    daemon.ok("run", "-d", "--name", "asker", "--network", "one", *SLEEP)
    named = ("--network-alias", "www", "--hostname", "web-host")
    daemon.ok("run", "-d", "--name", "web", "--network", "one", *named, *SLEEP)
    daemon.ok("run", "-d", "--name", "web2", "--network", "one", "--network-alias", "www", *SLEEP)
    first, second = address(daemon, "web", "one"), address(daemon, "web2", "one")
    identity = daemon.inspect("web", "{{.Id}}")[:12]
    for name in ("web", "web.one", "web-host", identity, "WEB"):
        assert lookup(daemon, "asker", name) == {first}, name
    assert lookup(daemon, "asker", "www") == {first, second}
    assert "name = web.one" in daemon.ok("exec", "asker", "nslookup", first)
    daemon.ok("exec", "asker", "ping", "-c", "1", "-W", "2", "web2")

    daemon.kill()
    assert inside(daemon, "asker", "www") == {first, second}
    daemon.start()
    assert lookup(daemon, "asker", "www") == {first, second}

    daemon.ok("rename", "web2", "other")
    assert lookup(daemon, "asker", "other") == {second} and lookup(daemon, "asker", "web2") == set()
    daemon.ok("stop", "-t", "0", "other")
    assert lookup(daemon, "asker", "www") == {first}
    daemon.ok("start", "other")
    assert lookup(daemon, "asker", "www") == {first, address(daemon, "other", "one")}

    daemon.ok("run", "-d", "--name", "far", "--network", "two", *SLEEP)
    assert lookup(daemon, "asker", "far") == set()
    daemon.ok("network", "connect", "--alias", "helper", "two", "asker")
    assert lookup(daemon, "asker", "far") == {address(daemon, "far", "two")}
    assert lookup(daemon, "far", "helper") == {address(daemon, "asker", "two")}
    daemon.ok("network", "disconnect", "two", "asker")
    assert lookup(daemon, "asker", "far") == set() and lookup(daemon, "far", "helper") == set()


def inside(daemon: Daemon, container: str, name: str) -> set[str]:
    """As `lookup`, without a daemon: a program of the host's in the container's network."""
    path = daemon.root / "exec" / "sandboxes"
    for sandbox in path.iterdir():
        said = daemon.net.run("nsenter", f"--net={sandbox}", "busybox", "nslookup", name, "127.0.0.11").stdout
        if found := set(re.findall(r"^Address: ([0-9.]+)$", said, re.MULTILINE)):
            return found
    return set()


def test_a_container_on_the_default_network_learns_names(daemon: Daemon, net: Callable[..., str]) -> None:
    """When it enters a network that has them: its resolv.conf says so then, and sharers of its network can ask too."""
    net("late")
    daemon.ok("run", "-d", "--name", "target", "--network", "late", *SLEEP)
    daemon.ok("run", "-d", "--name", "mover", *SLEEP)
    daemon.ok("run", "-d", "--name", "side", "--network", "container:mover", *SLEEP)
    assert "127.0.0.11" not in daemon.ok("exec", "mover", "cat", "/etc/resolv.conf")
    daemon.ok("network", "connect", "late", "mover")
    for name in ("mover", "side"):
        assert "nameserver 127.0.0.11" in daemon.ok("exec", name, "cat", "/etc/resolv.conf")
        assert lookup(daemon, name, "target") == {address(daemon, "target", "late")}
    daemon.ok("rm", "-f", "mover")
    assert lookup(daemon, "side", "target") == {address(daemon, "target", "late")}


def test_docker_py_makes_networks_with_names(daemon: Daemon) -> None:
    """Two containers with the same alias both answer."""
    client = docker.DockerClient(base_url=daemon.host)
    network = client.networks.create("pynet", driver="bridge")
    try:
        made = []
        for number in range(2):
            container = client.containers.create("busybox", ["sleep", "1000"], name=f"py{number}")
            client.networks.get("bridge").disconnect(container)
            network.connect(container, aliases=["both"])
            container.start()
            container.reload()
            made.append(container.attrs["NetworkSettings"]["Networks"]["pynet"]["IPAddress"])
        assert lookup(daemon, "py0", "both") == set(made) and len(set(made)) == 2
        network.reload()
        assert {container.name for container in network.containers} == {"py0", "py1"}
    finally:
        for container in client.containers.list(all=True, filters={"name": "py"}):
            container.remove(force=True)
        network.remove()
        client.close()


def test_links_are_names_where_there_are_names(daemon: Daemon, net: Callable[..., str]) -> None:
    """--link in a network of one's own: a name for who asked for it, and for nobody else."""
    net("linked")
    daemon.ok("run", "-d", "--name", "store", "--network", "linked", *SLEEP)
    daemon.ok("run", "-d", "--name", "app", "--network", "linked", "--link", "store:db", *SLEEP)
    assert lookup(daemon, "app", "db") == {address(daemon, "store", "linked")}
    assert lookup(daemon, "store", "db") == set()


# ---- resolv.conf


@pytest.fixture
def following(make_daemon: Callable[..., Daemon], tmp_path: Path) -> Iterator[tuple[Daemon, Path]]:
    """A daemon that follows a file of the test's, and that file."""
    host = tmp_path / "resolv.conf"
    host.write_text("nameserver 192.0.2.1\nsearch one.example\n")
    daemon = make_daemon("--resolv-conf", str(host)).start()
    daemon.image()
    yield daemon, host


def file(daemon: Daemon, name: str) -> str:
    return Path(daemon.inspect(name, "{{.ResolvConfPath}}")).read_text()


def test_resolv_conf_in_all_four_states(following: tuple[Daemon, Path]) -> None:
    """Stopped and as we wrote it: follows at once. Running: at its next start. Changed by somebody: never again."""
    daemon, host = following
    old, new = "nameserver 192.0.2.1\nsearch one.example\n", "nameserver 192.0.2.2\nsearch two.example\n"
    mine = "nameserver 192.0.2.66\n"
    for name in ("stopped-same", "stopped-changed", "running-same", "running-changed"):
        daemon.ok("run", "-d", "--name", name, *SLEEP)
        assert file(daemon, name) == old
        if name.endswith("changed"):
            daemon.ok("exec", name, "sh", "-c", "echo nameserver 192.0.2.66 > /etc/resolv.conf")
        if name.startswith("stopped"):
            daemon.ok("stop", "-t", "0", name)
    host.with_name("next").write_text(new)
    host.with_name("next").rename(host)
    eventually(lambda: file(daemon, "stopped-same") == new, "a stopped container follows")
    assert file(daemon, "running-same") == old
    assert file(daemon, "stopped-changed") == file(daemon, "running-changed") == mine
    for name in ("stopped-same", "stopped-changed", "running-same", "running-changed"):
        daemon.ok("restart", "-t", "0", name)
        assert file(daemon, name) == (mine if name.endswith("changed") else new), name

    # The same while no daemon looks.
    daemon.ok("stop", "-t", "0", "stopped-same", "stopped-changed")
    daemon.kill()
    host.write_text(old)
    daemon.start()
    eventually(lambda: file(daemon, "stopped-same") == old, "a stopped container follows what it missed")
    assert file(daemon, "running-same") == new and file(daemon, "stopped-changed") == mine
    daemon.ok("restart", "-t", "0", "running-same")
    assert file(daemon, "running-same") == old


def test_resolv_conf_is_filtered_and_amended(following: tuple[Daemon, Path]) -> None:
    """What means nothing in a container is left out; --dns and its kin replace; names of networks are asked here."""
    daemon, host = following
    host.write_text(
        "nameserver 127.0.0.1\nnameserver ::1\nnameserver fd00::1\nnameserver 192.0.2.1\nsearch x.example\n"
    )

    def shown(*flags: str) -> list[str]:
        return daemon.ok("run", "--rm", *flags, "busybox", "cat", "/etc/resolv.conf").splitlines()

    assert shown() == ["nameserver 192.0.2.1", "search x.example"]
    assert shown("--dns", "192.0.2.9", "--dns-search", "y.example", "--dns-option", "rotate") == [
        "search y.example", "nameserver 192.0.2.9", "options rotate"
    ]  # fmt: skip
    daemon.ok("network", "create", "named")
    assert shown("--network", "named") == ["search x.example", "nameserver 127.0.0.11", "options ndots:0"]
    assert shown("--network", "host") == host.read_text().splitlines()
    assert shown("--network", "named", "--dns-option", "ndots:3")[-1] == "options ndots:3"
    host.write_text("nameserver 127.0.0.1\n")
    assert shown() == ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]
    refused = daemon.docker("run", "--rm", "--dns", "nonsense", "busybox", "true")
    assert refused.returncode == 125
    daemon.ok("network", "rm", "named")


def test_a_file_that_the_container_made_unreadable(following: tuple[Daemon, Path]) -> None:
    """Whatever somebody writes into it, the next start and the host's changes go on."""
    daemon, host = following
    daemon.ok("run", "-d", "--name", "odd", *SLEEP)
    daemon.ok("exec", "odd", "sh", "-c", "head -c 3000000 /dev/urandom > /etc/resolv.conf")
    host.write_text("nameserver 192.0.2.3\n")
    daemon.ok("restart", "-t", "0", "odd")
    assert daemon.ok("exec", "odd", "sh", "-c", "wc -c < /etc/resolv.conf") == "3000000"
