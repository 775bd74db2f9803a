"""Published ports from outside: both IP versions, many at once, and who has them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from wherry.testing.daemon import Daemon, eventually

SERVE = ("busybox", "sh", "-c", "hostname > /i; httpd -f -h /")


def test_a_port_is_reached_by_both_ip_versions(daemon: Daemon) -> None:
    """A container without IPv6 too, by ::1 too, and while the daemon is dead; inspect and port show both."""
    daemon.net.run("ip", "link", "add", "outer", "type", "bridge")
    daemon.net.run("ip", "address", "add", "2001:db8::5/64", "dev", "outer", "nodad")
    daemon.net.run("ip", "link", "set", "outer", "up")
    ports = ("-p", "18090:80", "-p", "127.0.0.1:18091:80", "-p", "[::1]:18092:80")
    daemon.ok("run", "-d", "--name", "web", "--hostname", "w6", *ports, *SERVE)
    fetch = daemon.net.fetch

    def check() -> None:
        for address in ("127.0.0.1", "172.17.0.1", "[::1]", "[2001:db8::5]"):
            eventually(lambda at=address: fetch(f"http://{at}:18090/i") == "w6\n", f"an answer at {address}")
        assert fetch("http://127.0.0.1:18091/i") == "w6\n"
        assert fetch("http://[::1]:18091/i", 0.5) == ""
        assert fetch("http://[::1]:18092/i") == "w6\n"
        assert fetch("http://127.0.0.1:18092/i", 0.5) == ""

    check()
    assert set(daemon.ok("port", "web", "80").splitlines()) == {
        "0.0.0.0:18090",
        "127.0.0.1:18091",
        "[::]:18090",
        "[::1]:18092",
    }
    shown = json.loads(daemon.ok("inspect", "-f", "{{json .NetworkSettings.Ports}}", "web"))
    assert {"HostIp": "::", "HostPort": "18090"} in shown["80/tcp"]
    daemon.kill()
    check()
    daemon.start()
    check()
    daemon.ok("restart", "-t", "0", "web")
    check()


def test_a_container_with_ipv6_sees_who_asks(make_daemon: Callable[..., Daemon]) -> None:
    """On a daemon with --ipv6; only what comes from ::1 is carried."""
    daemon = make_daemon("--ipv6").start()
    daemon.image()
    daemon.ok("run", "-d", "--name", "web", "-p", "18090:80", *SERVE)
    eventually(lambda: daemon.net.fetch("http://[::1]:18090/i") != "", "an answer at ::1")
    shown = json.loads(daemon.ok("inspect", "-f", "{{json .NetworkSettings.Networks.bridge}}", "web"))
    assert shown["GlobalIPv6Address"].startswith("fd") and shown["GlobalIPv6PrefixLen"] == 64
    assert shown["IPv6Gateway"].startswith("fd")
    assert daemon.net.fetch(f"http://[{shown['GlobalIPv6Address']}]/i") != ""
    daemon.ok("network", "create", "--ipv6", "six")
    daemon.ok("run", "-d", "--name", "one", "--network", "six", *SERVE)
    address = daemon.inspect("one", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}")
    daemon.ok("run", "--rm", "--network", "six", "busybox", "wget", "-qO-", f"http://[{address}]/i")
    daemon.ok("rm", "-f", "one")
    daemon.ok("network", "rm", "six")


def test_a_thousand_ports(daemon: Daemon) -> None:
    """A range is published, shown and given back; more than one message to the keeper carries."""
    began = time.monotonic()
    daemon.ok(
        "run",
        "-d",
        "--name",
        "range",
        "-p",
        "20000-20999:20000-20999/tcp",
        "-p",
        "21000:80",
        *SERVE,
        timeout=60,
    )
    took = time.monotonic() - began
    assert (
        took < 15
    )  # the docker program's own share is the larger; on an idle machine the daemon needs 0.3 s
    eventually(lambda: daemon.net.fetch("http://127.0.0.1:21000/i") != "", "an answer")
    assert len(daemon.ok("port", "range").splitlines()) == 2002
    taken = daemon.docker("run", "--rm", "-p", "20500:80", "busybox", "true")
    assert "Bind for 0.0.0.0:20500 failed: port is already allocated (by container range)" in taken.stderr
    daemon.ok("rm", "-f", "range")
    daemon.ok("run", "--rm", "-p", "20000-20999:20000-20999", "busybox", "true", timeout=60)


def test_a_port_that_a_program_has(daemon: Daemon) -> None:
    """Is named with the program, before anything is made."""
    script = "import socket,sys; s=socket.create_server(('0.0.0.0', 18095)); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [*daemon.net.prefix, sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None and program.stdout.readline() == b"up\n"
        taken = daemon.docker("run", "--rm", "-p", "18095:80", "busybox", "true")
        assert taken.returncode == 125 and f"process {program.pid})" in taken.stderr
        program.communicate()
    daemon.ok("run", "--rm", "-p", "18095:80", "busybox", "true")


def test_exposed_ports_are_published_on_request(daemon: Daemon) -> None:
    """-P: each at a port of its own."""
    daemon.ok("run", "-d", "--name", "all", "-P", "--expose", "80", "--expose", "81-82/udp", *SERVE)
    lines = daemon.ok("port", "all").splitlines()
    assert {line.split()[0] for line in lines} == {"80/tcp", "81/udp", "82/udp"}
    port = next(line.rpartition(":")[2] for line in lines if line.startswith("80/tcp"))
    eventually(lambda: daemon.net.fetch(f"http://127.0.0.1:{port}/i") != "", "an answer")
    assert len({line.rpartition(":")[2] for line in lines}) == 3


def test_without_firewall_rules_the_keeper_serves(make_daemon: Callable[..., Daemon]) -> None:
    """--iptables=false: no rule is written, ports work all the same."""
    daemon = make_daemon("--no-iptables").start()
    daemon.image()
    daemon.ok("run", "-d", "--name", "web", "-p", "18090:80", *SERVE)
    for address in ("127.0.0.1", "172.17.0.1", "[::1]"):
        eventually(
            lambda at=address: daemon.net.fetch(f"http://{at}:18090/i") != "", f"an answer at {address}"
        )
    assert daemon.net.run("nft", "list", "ruleset").stdout == ""
    assert socket.has_ipv6
