"""Networks of users, from outside: made, listed, entered and left by containers that run and that do not."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

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


def shown(daemon: Daemon, *words: str) -> Any:
    return json.loads(daemon.ok("inspect", *words))[0]


def test_a_network_with_everything_said(daemon: Daemon, net: Callable[..., str]) -> None:
    """Ranges, reserved addresses, labels and options are as asked, and shown so."""
    net(
        "full", "--subnet", "10.77.0.0/16", "--gateway", "10.77.0.9", "--ip-range", "10.77.5.0/24",
        "--aux-address", "printer=10.77.5.0", "--aux-address", "router=10.77.5.1", "--attachable", "--label", "a=b",
        "-o", "com.docker.network.bridge.name=wtfull", "-o", "com.docker.network.driver.mtu=1400",
    )  # fmt: skip
    network = shown(daemon, "--type", "network", "full")
    assert network["IPAM"]["Config"] == [
        {
            "Subnet": "10.77.0.0/16",
            "IPRange": "10.77.5.0/24",
            "Gateway": "10.77.0.9",
            "AuxiliaryAddresses": {"printer": "10.77.5.0", "router": "10.77.5.1"},
        }
    ]
    assert network["Attachable"] and network["Labels"] == {"a": "b"}
    assert "10.77.0.9/16" in daemon.net.run("ip", "-4", "addr", "show", "wtfull").stdout
    said = daemon.ok(
        "run", "--rm", "--network", "full", "busybox", "sh", "-c", "ip -4 addr show eth0; ip route"
    )
    assert "10.77.5.2/16" in said and "mtu 1400" in said and "default via 10.77.0.9" in said


def test_networks_are_filtered(daemon: Daemon, net: Callable[..., str]) -> None:
    """By name, driver, kind, labels, and whether anybody is in them."""
    net("one", "--label", "kind=x", "--label", "other")
    net("two", "--label", "kind=y")

    def names(*filters: str) -> set[str]:
        flags = [word for each in filters for word in ("--filter", each)]
        return set(daemon.ok("network", "ls", "--format", "{{.Name}}", *flags).split())

    daemon.ok("run", "-d", "--network", "two", *SLEEP)
    assert names("type=custom") >= {"one", "two"} and not names("type=custom") & {"bridge", "host", "none"}
    assert names("type=builtin") == {"bridge", "host", "none"}
    assert names("label=kind") == {"one", "two"}
    assert names("label=kind=x") == {"one"}
    assert names("label=kind", "label=other") == {"one"}
    assert names("name=tw") == {"two"}
    assert names("driver=host") == {"host"}
    assert names("dangling=true", "label=kind") == {"one"}
    assert names("dangling=false", "label=kind") == {"two"}
    assert daemon.ok("network", "prune", "-f", "--filter", "label=kind").split()[-1] == "one"
    assert names("label=kind") == {"two"}


def test_a_running_container_enters_and_leaves(daemon: Daemon, net: Callable[..., str]) -> None:
    """With the address and MAC that were asked for; its hosts file, inspect, and the kernel agree."""
    net("in", "--subnet", "10.78.0.0/24")
    daemon.ok("run", "-d", "--name", "mover", "--hostname", "movers-host", *SLEEP)
    daemon.ok("network", "connect", "--ip", "10.78.0.77", "--alias", "nick", "in", "mover")
    inside = daemon.ok("exec", "mover", "sh", "-c", "ip -4 -o addr; cat /etc/hosts")
    assert "eth1    inet 10.78.0.77/24" in inside
    assert "10.78.0.77\tmovers-host" in inside
    there = shown(daemon, "mover")["NetworkSettings"]["Networks"]
    assert list(there) == ["bridge", "in"]
    assert there["in"]["IPAddress"] == "10.78.0.77" and there["in"]["IPAMConfig"] == {
        "IPv4Address": "10.78.0.77"
    }
    assert there["in"]["DNSNames"] == ["mover", "nick", shown(daemon, "mover")["Id"][:12], "movers-host"]
    members = shown(daemon, "--type", "network", "in")["Containers"]
    assert [member["Name"] for member in members.values()] == ["mover"]
    twice = daemon.docker("network", "connect", "in", "mover")
    assert twice.returncode and "already exists in network in" in twice.stderr

    refused = daemon.docker("network", "rm", "in")
    assert refused.returncode and "has active endpoints" in refused.stderr
    daemon.ok("network", "disconnect", "in", "mover")
    inside = daemon.ok("exec", "mover", "sh", "-c", "ip -4 -o addr; cat /etc/hosts")
    assert "10.78.0.77" not in inside and "movers-host" in inside
    assert list(shown(daemon, "mover")["NetworkSettings"]["Networks"]) == ["bridge"]
    left = daemon.docker("network", "disconnect", "in", "mover")
    assert left.returncode and "is not connected to network in" in left.stderr
    daemon.ok("network", "disconnect", "-f", "in", "mover")


def test_a_stopped_container_enters_and_leaves(daemon: Daemon, net: Callable[..., str]) -> None:
    """It is where it was put when it starts, with interfaces numbered in that order."""
    net("z-first")
    net("a-second")
    daemon.ok("create", "--name", "sleeper", "--network", "z-first", "busybox", "ip", "-4", "-o", "addr")
    daemon.ok("network", "connect", "a-second", "sleeper")
    daemon.ok("network", "connect", "bridge", "sleeper")
    daemon.ok("network", "disconnect", "bridge", "sleeper")
    lines = daemon.ok("start", "-a", "sleeper").splitlines()
    ranges = {
        name: shown(daemon, "--type", "network", name)["IPAM"]["Config"][0]["Subnet"].rsplit(".", 1)[0]
        for name in ("z-first", "a-second")
    }
    assert len(lines) == 3
    assert "eth0" in lines[1] and ranges["z-first"] in lines[1]
    assert "eth1" in lines[2] and ranges["a-second"] in lines[2]


def test_the_way_out_is_chosen_anew(daemon: Daemon, net: Callable[..., str]) -> None:
    """The first in the record, whatever the names; a higher priority wins; when it goes the next takes over."""
    net("z", "--subnet", "10.81.0.0/24")
    net("aa", "--subnet", "10.82.0.0/24")
    net("m", "--subnet", "10.83.0.0/24")
    net("i", "--subnet", "10.84.0.0/24", "--internal")
    daemon.ok("run", "-d", "--name", "cc", "--network", "z", *SLEEP)

    def way() -> str:
        return daemon.ok("exec", "cc", "sh", "-c", "ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'")

    daemon.ok("network", "connect", "aa", "cc")
    daemon.ok("network", "connect", "i", "cc")
    assert way() == "10.81.0.1"
    daemon.ok("network", "connect", "--gw-priority", "5", "m", "cc")
    assert way() == "10.83.0.1"
    daemon.ok("restart", "-t", "0", "cc")
    assert way() == "10.83.0.1"
    assert "eth0    inet 10.81.0." in daemon.ok("exec", "cc", "ip", "-4", "-o", "addr")
    daemon.ok("network", "disconnect", "m", "cc")
    assert way() == "10.81.0.1"
    daemon.ok("network", "disconnect", "z", "cc")
    assert way() == "10.82.0.1"
    daemon.ok("network", "disconnect", "aa", "cc")
    assert way() == ""


def test_ports_go_with_the_way_out(daemon: Daemon, net: Callable[..., str]) -> None:
    """They lead to the network that is left; a container that had none that could publish gets them when it has."""
    net("inner", "--internal")
    net("outer")
    serve = ("busybox", "sh", "-c", "hostname > /i; httpd -f -h /")
    daemon.ok("run", "-d", "--name", "cc", "--hostname", "hi", "-p", "18080:80", *serve)
    daemon.ok("run", "-d", "--name", "dd", "--hostname", "ho", "--network", "inner", "-p", "18081:80", *serve)
    fetch = daemon.net.fetch
    eventually(lambda: fetch("http://127.0.0.1:18080/i") == "hi\n", "the port leads to the container")
    daemon.ok("network", "connect", "outer", "cc")
    daemon.ok("network", "disconnect", "bridge", "cc")
    assert fetch("http://127.0.0.1:18080/i") == "hi\n"
    assert daemon.ok("port", "dd") == ""
    daemon.ok("network", "connect", "outer", "dd")
    eventually(lambda: fetch("http://127.0.0.1:18081/i") == "ho\n", "the port leads to the container")
    assert "18081" in daemon.ok("port", "dd")
    daemon.kill()
    daemon.start()
    assert fetch("http://127.0.0.1:18080/i") == "hi\n" and fetch("http://127.0.0.1:18081/i") == "ho\n"
    daemon.ok("network", "disconnect", "outer", "cc")
    assert fetch("http://127.0.0.1:18080/i", 0.5) == ""
    daemon.ok("rm", "-f", "cc", "dd")
    daemon.ok("run", "--rm", "-p", "18080:80", "-p", "18081:81", "busybox", "true")


def test_connections_survive_the_daemon(daemon: Daemon, net: Callable[..., str]) -> None:
    """SIGKILL after connect and disconnect: the next daemon knows, and lets the container leave."""
    net("first", "--subnet", "10.85.0.0/24")
    net("second", "--subnet", "10.86.0.0/24")
    daemon.ok("run", "-d", "--name", "cc", "--network", "first", *SLEEP)
    daemon.ok("network", "connect", "second", "cc")
    daemon.ok("network", "disconnect", "first", "cc")
    before = daemon.ok("exec", "cc", "ip", "-4", "-o", "addr")
    daemon.kill()
    daemon.start()
    assert daemon.ok("exec", "cc", "ip", "-4", "-o", "addr") == before
    there = shown(daemon, "cc")["NetworkSettings"]["Networks"]
    assert list(there) == ["second"] and there["second"]["IPAddress"].startswith("10.86.0.")
    daemon.ok("network", "disconnect", "second", "cc")
    assert "eth" not in daemon.ok("exec", "cc", "ip", "-4", "-o", "addr")
    daemon.ok("network", "rm", "second")
    daemon.ok("network", "connect", "first", "cc")
    assert "eth0    inet 10.85.0." in daemon.ok("exec", "cc", "ip", "-4", "-o", "addr")


def test_a_shared_network_changes_for_all_who_share_it(daemon: Daemon, net: Callable[..., str]) -> None:
    """Also when its owner is gone, and the daemon was killed since: nothing is forgotten, nothing is left."""
    net("shared", "--subnet", "10.87.0.0/24")
    links_before = set(daemon.net.run("ls", "/sys/class/net").stdout.split())
    daemon.ok("run", "-d", "--name", "owner", *SLEEP)
    daemon.ok("run", "-d", "--name", "side", "--network", "container:owner", *SLEEP)
    daemon.ok("network", "connect", "shared", "owner")
    assert "10.87.0." in daemon.ok("exec", "side", "ip", "-4", "-o", "addr")
    refused = daemon.docker("network", "connect", "shared", "side")
    assert refused.returncode and "sharing network namespace" in refused.stderr
    daemon.ok("stop", "-t", "0", "owner")
    daemon.kill()
    daemon.start()
    assert "10.87.0." in daemon.ok("exec", "side", "ip", "-4", "-o", "addr")
    daemon.ok("start", "owner")
    assert "10.87.0." in daemon.ok("exec", "owner", "ip", "-4", "-o", "addr")
    daemon.ok("rm", "-f", "owner")
    daemon.ok("rm", "-f", "side")

    def links() -> set[str]:
        return set(daemon.net.run("sh", "-c", "ls /sys/class/net").stdout.split())

    assert links_before is not None
    eventually(lambda: not any(name.startswith("wv") for name in links()), "no link is left")


def test_addresses_by_name_stay_promised(daemon: Daemon, net: Callable[..., str]) -> None:
    """A stopped container's --ip is not handed to others, also by the next daemon."""
    net("small", "--subnet", "10.88.0.0/29")
    daemon.ok("create", "--name", "fixed", "--network", "small", "--ip", "10.88.0.2", *SLEEP)
    daemon.ok("run", "-d", "--name", "aa", "--network", "small", *SLEEP)
    assert daemon.inspect("aa", "{{.NetworkSettings.Networks.small.IPAddress}}") == "10.88.0.3"
    daemon.kill()
    daemon.start()
    for name in ("bb", "cc", "dd"):
        daemon.ok("run", "-d", "--name", name, "--network", "small", *SLEEP)
    full = daemon.docker("run", "-d", "--name", "ee", "--network", "small", *SLEEP)
    assert full.returncode and "no available IPv4 addresses" in full.stderr
    daemon.ok("start", "fixed")
    daemon.ok("rm", "-f", "fixed")
    eventually(
        lambda: daemon.docker("start", "ee").returncode == 0, "the address is free when who had it is removed"
    )


def test_what_cannot_be_connected(daemon: Daemon, net: Callable[..., str]) -> None:
    """Refused in the words that dockerd has, before anything has changed."""
    net("mine", "--subnet", "10.89.0.0/24")
    daemon.ok("run", "-d", "--name", "cc", *SLEEP)
    daemon.ok("run", "-d", "--name", "hh", "--network", "host", *SLEEP)
    daemon.ok("run", "-d", "--name", "nn", "--network", "none", *SLEEP)
    for words, argv in (
        ("cannot be disconnected from host network or connected to host network", ["network", "connect", "host", "cc"]),
        ("cannot be disconnected from host network or connected to host network", ["network", "connect", "mine", "hh"]),
        ("cannot be connected to multiple networks with one of the networks in private", ["network", "connect", "mine", "nn"]),
        ("not found", ["network", "connect", "nosuch", "cc"]),
        ("No such container", ["network", "connect", "mine", "nosuch"]),
        ("does not belong to any of this network's subnets", ["network", "connect", "--ip", "10.90.0.1", "mine", "cc"]),
        ("gateway's or otherwise reserved", ["network", "connect", "--ip", "10.89.0.1", "mine", "cc"]),
        ("supported on user defined networks only", ["run", "--ip", "172.17.0.99", "busybox", "true"]),
        ("only supported for user-defined networks", ["run", "--network-alias", "x", "busybox", "true"]),
        ("Pool overlaps with other one", ["network", "create", "--subnet", "10.89.0.128/25", "other"]),
        ("already exists", ["network", "create", "mine"]),
        ("networks have same bridge name", ["network", "create", "-o", f"com.docker.network.bridge.name={daemon.bridge}", "other"]),
        ("pre-defined network and cannot be removed", ["network", "rm", "bridge"]),
        ("could not find plugin nosuch", ["network", "create", "-d", "nosuch", "other"]),
    ):  # fmt: skip
        answer = daemon.docker(*argv)
        assert answer.returncode and words in answer.stderr, (argv, answer.stderr)
    assert daemon.ok("exec", "cc", "sh", "-c", "ls /sys/class/net").split() == ["eth0", "lo"]
    assert list(shown(daemon, "cc")["NetworkSettings"]["Networks"]) == ["bridge"]
    daemon.ok("network", "disconnect", "none", "nn")
    daemon.ok("network", "connect", "mine", "nn")
    assert "10.89.0." in daemon.ok("exec", "nn", "ip", "-4", "-o", "addr")


def test_events_of_networks(daemon: Daemon, net: Callable[..., str]) -> None:
    """create, connect before the start, disconnect after the die, destroy; each says about whom."""
    since = daemon.ok("info", "--format", "{{.SystemTime}}")
    net("told")
    container = daemon.ok("run", "-d", "--name", "cc", "--network", "told", *SLEEP)
    daemon.ok("network", "connect", "bridge", "cc")
    daemon.ok("network", "disconnect", "bridge", "cc")
    daemon.ok("rm", "-f", "cc")
    daemon.ok("network", "rm", "told")
    shape = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.container}}"
    until = daemon.ok("info", "--format", "{{.SystemTime}}")
    lines = daemon.ok("events", "--since", since, "--until", until, "--format", shape).splitlines()
    told = [line for line in lines if line.split()[1] not in ("kill", "create", "exec_create")]
    assert [line.split()[:3] for line in told] == [
        ["network", "connect", "told"],
        ["container", "start", "cc"],
        ["network", "connect", "bridge"],
        ["network", "disconnect", "bridge"],
        ["container", "die", "cc"],
        ["network", "disconnect", "told"],
        ["container", "destroy", "cc"],
        ["network", "destroy", "told"],
    ]
    assert [line.split()[3] for line in told if line.startswith("network") and "destroy" not in line] == [
        container
    ] * 4


def test_pools_of_the_daemon(make_daemon: Callable[..., Daemon]) -> None:
    """--default-address-pool; when it is used up the error says by what."""
    daemon = make_daemon("--default-address-pool", "base=10.201.0.0/22,size=24").start()
    found = []
    for name in ("aa", "bb"):
        daemon.ok("network", "create", name)
        found.append(shown(daemon, "--type", "network", name)["IPAM"]["Config"][0]["Subnet"])
    assert found == ["10.201.1.0/24", "10.201.2.0/24"]  # the default network has the first
    daemon.net.run("ip", "address", "add", "10.201.3.9/28", "dev", "lo")
    full = daemon.docker("network", "create", "cc")
    assert (
        "10.201.3.0/28 (an interface's address)" in full.stderr
        and "10.201.1.0/24 (network aa)" in full.stderr
    )
    daemon.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    for name in ("aa", "bb"):
        daemon.ok("network", "rm", name)
